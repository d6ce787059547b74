"""Items and engagements for tests that run whole workers: a small shop, and users who do random things in it."""

import json
from typing import Any

from models.item_content import Item
from ops.bench.faults.contenders import untrained_policy as small_policy
from ops.bench.faults.traffic import ITEMS, Engagers, item_message
from ops.clock import utc_now
from storage.registry import ModelRegistry
from streams.policy_watch import POLICY_KIND, POLICY_NAME
from tests.deployment import Deployment

__all__ = ["ITEMS", "Shop", "promote_policy", "send_items", "small_policy"]


def promote_policy(deployment: Deployment, data: bytes) -> str:
    record = ModelRegistry(deployment.database, str(deployment.models)).register(
        POLICY_NAME, POLICY_KIND, data, feature_schema=1, metrics={}, clock=utc_now, alias="champion", why="test"
    )
    return f"{record.name}:{record.version}"


def send_items(deployment: Deployment, items: list[Item] = ITEMS, deleted: tuple[str, ...] = ()) -> None:
    producer = deployment.producer()
    for item in items:
        key, value = item_message(item)
        producer.produce(f"{deployment.prefix}items", key=key, value=value)
    for item_id in deleted:
        producer.produce(f"{deployment.prefix}items", key=item_id.encode(), value=None)
    assert producer.flush(30) == 0


class Shop(Engagers):
    """Sends its engagements; `send_again` some of them."""

    def send(self, deployment: Deployment, count: int, **more: Any) -> list[dict[str, Any]]:
        """more: fields of all of them."""
        producer, sent = deployment.producer(), []
        now = round(utc_now().timestamp() * 1000)
        for _ in range(count):
            sent.append(self.engagement(now) | more)
            produce(producer, deployment, sent[-1])
        assert producer.flush(30) == 0
        return sent

    def send_again(self, deployment: Deployment, events: list[dict[str, Any]]) -> None:
        producer = deployment.producer()
        for event in events:
            produce(producer, deployment, event)
        assert producer.flush(30) == 0


def produce(producer: Any, deployment: Deployment, event: dict[str, Any]) -> None:
    key, value = event["user_id"].encode(), json.dumps(event).encode()
    producer.produce(f"{deployment.prefix}engagements", key=key, value=value)
