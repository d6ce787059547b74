"""What a worker scores live equals an offline pass of the same model over the same events, through restarts."""

import time

import numpy as np
import pytest

from tests.deployment import Deployment
from tests.fraud_model import transaction
from tests.offline import (
    good_messages,
    greatest_difference,
    live_scores,
    scores_of_sent_events,
    scores_of_stored_events,
)

TOLERANCE = 1e-4
EVENTS, ACCOUNTS = 6_000, 150

Message = tuple[bytes, bytes]


def traffic(seed: int) -> list[Message]:
    """Accounts of which one has a third of all events; times that step back; every field; repeats soon after."""
    draw = np.random.default_rng(seed)
    now = round(time.time() * 1000)
    account = np.where(draw.random(EVENTS) < 0.33, 0, draw.integers(0, ACCOUNTS, EVENTS))
    since = (EVENTS - np.arange(EVENTS)) * 60_000 + draw.integers(0, 3_600_000, EVENTS)
    amount = np.round(np.exp(draw.normal(3.5, 1.0, EVENTS)), 4)
    messages: list[Message] = []
    for row in range(EVENTS):
        optional = {
            "channel": ["online", "shop", "phone"][row % 3],
            "country": "DE" if draw.random() < 0.95 else "FR",
            "category": f"c{draw.integers(12)}",
            "memo": f"invoice {row}" if row % 4 == 0 else None,
        }
        messages.append(
            transaction(
                f"e{row}",
                f"a{account[row]}",
                int(now - since[row]),
                float(amount[row]),
                merchant_id=f"m{draw.integers(80)}",
                **{name: value for name, value in optional.items() if value is not None},
            )
        )
        if row % 25 == 24:
            messages.append(messages[-1 - draw.integers(10)])
        if row % 400 == 399:
            messages.append((b"a1", b"{"))
    return messages


def send(deployment: Deployment, messages: list[Message]) -> None:
    producer = deployment.producer(**{"queue.buffering.max.messages": 200_000})
    for key, value in messages:
        producer.produce(deployment.transactions, key=key, value=value)
    assert producer.flush(30) == 0


@pytest.mark.timeout(180)
def test_live_scores_equal_an_offline_pass_though_the_worker_was_stopped_and_killed(
    deployment: Deployment, detector: bytes
) -> None:
    messages = traffic(seed=3)
    third = len(messages) // 3
    send(deployment, messages[:third])
    first = deployment.worker(LATENCY_BUDGET_MS="20")
    deployment.wait_outcomes(third)
    assert first.stop() == 0
    send(deployment, messages[third : 2 * third])
    second = deployment.worker(LATENCY_BUDGET_MS="2000")
    deployment.wait_outcomes(third + 300)
    second.kill()
    send(deployment, messages[2 * third :])
    deployment.worker()
    deployment.wait_outcomes(len(messages))

    live = live_scores(deployment)
    sent = good_messages(deployment)
    assert len({partition for partition, _ in live}) == 2
    assert len(live) == EVENTS
    assert len(sent) == EVENTS + EVENTS // 25
    assert np.ptp(list(live.values())) > 0.1, "scores that are all alike would prove nothing"
    assert greatest_difference(live, scores_of_stored_events(deployment, detector)) <= TOLERANCE
    assert greatest_difference(live, scores_of_sent_events(detector, sent)) <= TOLERANCE
    late = dict(sorted(sent.items(), key=lambda item: item[0][1])[len(sent) // 2 :])
    without_the_past = scores_of_sent_events(detector, late)
    assert max(abs(live[place] - without_the_past[place]) for place in live.keys() & without_the_past.keys()) > 0.01
    assert deployment.faulty_partitions() == []
