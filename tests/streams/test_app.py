"""What the Faust app asks of the flow in a rebalance; without a broker."""

import asyncio
from types import SimpleNamespace
from typing import Any

from streams.app import AppSettings, build_app
from streams.claiming import ClaimSuperseded
from streams.kafka import KafkaSettings


def test_a_claim_of_nothing_that_the_next_rebalance_overtook_ends_no_worker() -> None:
    claims: list[Any] = []

    async def claim(bounds: Any, kafka_generation: int) -> None:
        claims.append(bounds)
        raise ClaimSuperseded

    async def rebalanced() -> None:
        flow: Any = SimpleNamespace(topics=[], claim=claim)
        app = build_app(AppSettings(kafka=KafkaSettings("localhost:1"), group="g", worker="w"), flow)
        app.consumer = SimpleNamespace(assignment=set)  # type: ignore[assignment]
        await app.on_rebalance_complete.send()

    asyncio.run(rebalanced())
    assert claims == [{}]
