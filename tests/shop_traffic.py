"""Items and engagements for tests that run whole workers: a small shop, and users who do random things in it."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models.item_content import Item
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from ops.clock import utc_now
from storage.registry import ModelRegistry
from streams.policy_watch import POLICY_KIND, POLICY_NAME
from tests.deployment import Deployment

ITEMS = [
    Item(
        f"item-{number}", f"thing {number % 17} of kind {number % 5}", category=f"kind-{number % 5}", price=1.0 + number
    )
    for number in range(120)
]
ACTIONS = ("impression", "impression", "click", "like", "dislike", "skip", "dwell", "purchase")


def small_policy(seed: int = 0) -> bytes:
    """Nobody trained it; it prefers some items to others."""
    torch.manual_seed(seed)
    network = PolicyNetwork(PolicyConfig(hidden=8, vector=9))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return TrainedPolicy(network.eval()).to_bytes()


def promote_policy(deployment: Deployment, data: bytes) -> str:
    record = ModelRegistry(deployment.database, str(deployment.models)).register(
        POLICY_NAME, POLICY_KIND, data, feature_schema=1, metrics={}, clock=utc_now, alias="champion", why="test"
    )
    return f"{record.name}:{record.version}"


def send_items(deployment: Deployment, items: list[Item] = ITEMS, deleted: tuple[str, ...] = ()) -> None:
    producer = deployment.producer()
    for item in items:
        value = {
            "item_id": item.item_id,
            "title": item.title,
            "category": item.category,
            "price": item.price,
            "available": item.available,
        }
        producer.produce(f"{deployment.prefix}items", key=item.item_id.encode(), value=json.dumps(value).encode())
    for item_id in deleted:
        producer.produce(f"{deployment.prefix}items", key=item_id.encode(), value=None)
    assert producer.flush(30) == 0


@dataclass(slots=True)
class Shop:
    """Sends engagements of random users with random items, each event once; `repeats` are of some of them."""

    users: int = 120
    seed: int = 0
    sent: int = 0
    draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def engagement(self, at: int) -> dict[str, Any]:
        self.sent += 1
        return {
            "event_id": f"engagement-{self.seed}-{self.sent}",
            "occurred_at": at,
            "user_id": f"user-{self.draw.integers(self.users)}",
            "item_id": ITEMS[self.draw.integers(len(ITEMS))].item_id,
            "action": ACTIONS[self.draw.integers(len(ACTIONS))],
        }

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
