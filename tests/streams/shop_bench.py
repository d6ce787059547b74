"""A shop on one thread: items through their processor into SQL, and engagements answered batch by batch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.policy import TrainedPolicy
from models.recommending import Answer, Recommender
from storage.database import Database
from storage.registry import ModelRegistry
from streams.catalogue_watch import CatalogueWatch
from streams.engagement_source import EngagementSource
from streams.health import FlowMetrics
from streams.items import ItemsProcessor
from streams.patience import Wait
from streams.policy_watch import POLICY_KIND, POLICY_NAME, PolicyWatch
from streams.recommendation import RecommendationProcessor
from streams.recommendation_metrics import RecommendationMetrics
from streams.records import DecodeLimits
from streams.rows import RowEncoder
from streams.state_keeping import StateRules
from tests.streams.bench import NOW, Bench, KafkaRecord, Partitions, give_up, moment, state_keeping

ITEMS, ENGAGEMENTS = "items", "engagements"
RULES = SlateRules(holdout=0.1)


class Remembering(Recommender):
    """Keeps its last answer."""

    last: Answer

    def respond(self, events: Any, seed_of: Any) -> Answer:
        self.last = super().respond(events, seed_of)
        return self.last


@dataclass
class Shop:
    """A worker's part of the recommender. `look` does what its threads would."""

    bench: Bench
    recommender: Remembering
    catalogue: CatalogueWatch
    policies: PolicyWatch
    numbers: CollectorRegistry

    def look(self) -> None:
        self.catalogue.look()
        self.policies.look()


def items_bench(database: Database, *partitions: int) -> Bench:
    """The processor of items with its own partitions."""
    owned = Partitions(database, ITEMS)
    owned.claim(*partitions or (0,))
    return Bench(database, owned, ItemsProcessor(RowEncoder(database.dialect), DecodeLimits(), FlowMetrics()))


def item(offset: int, item_id: str, **fields: Any) -> KafkaRecord:
    value = json.dumps({"item_id": item_id} | fields).encode()
    return KafkaRecord(offset, round(NOW * 1000) + offset, item_id.encode(), value)


def deletion(offset: int, item_id: str) -> KafkaRecord:
    return KafkaRecord(offset, round(NOW * 1000) + offset, item_id.encode(), None)


def some_items(count: int, first: int = 0) -> list[KafkaRecord]:
    return [
        item(number, f"item-{number}", title=f"thing {number % 7} of {number}", category=f"kind-{number % 9}")
        for number in range(first, first + count)
    ]


def engagement(
    offset: int, user: str = "u1", item_id: str = "item-1", action: str = "click", seconds: float = 0.0, **more: Any
) -> KafkaRecord:
    """seconds: after NOW, by its own time and by Kafka's."""
    at = round((NOW + seconds) * 1000)
    known = {"event_id": f"e{offset}", "occurred_at": at, "user_id": user, "item_id": item_id, "action": action}
    return KafkaRecord(offset, at, user.encode(), json.dumps(known | more).encode())


def recommending(
    database: Database,
    partitions: Partitions,
    models: Path,
    rules: SlateRules = RULES,
    wait: Wait = give_up,
    state: StateRules | None = None,
) -> Shop:
    """Without any state, but with the catalogue and the policy that are there."""
    metrics = FlowMetrics()
    counters = RecommendationMetrics(metrics.registry)
    recommender = Remembering(Catalogue(1), rules, capacity=4)
    catalogue = CatalogueWatch(database, ITEMS, counters)
    registry = ModelRegistry(database, str(models))
    policies = PolicyWatch(registry, recommender, counters, lambda text: None, clock=lambda: moment(NOW))
    catalogue.load(recommender.catalogue)
    policies.look()
    keeping = state_keeping(partitions.topic, recommender, database, wait, metrics, state)
    processor = RecommendationProcessor(
        recommender,
        EngagementSource(database, wait),
        RowEncoder(database.dialect),
        DecodeLimits(),
        partitions.usable,
        policies,
        catalogue,
        metrics,
        counters,
        keeping,
        rules.floor,
    )
    bench = Bench(database, partitions, processor, keeping=keeping)
    return Shop(bench, recommender, catalogue, policies, metrics.registry)


def promote(database: Database, models: Path, policy: TrainedPolicy) -> str:
    record = ModelRegistry(database, str(models)).register(
        POLICY_NAME,
        POLICY_KIND,
        policy.to_bytes(),
        feature_schema=1,
        metrics={},
        clock=lambda: moment(NOW),
        alias="champion",
        why="test",
    )
    return str(record)
