"""A new policy takes over between two batches, is refused, or is withdrawn where it has no answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry

from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.item_content import Item
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.recommending import POPULAR, Recommender
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from streams.policy_watch import MOST_FAILURES, POLICY_KIND, POLICY_NAME, PolicyWatch
from streams.recommendation_metrics import RecommendationMetrics

SMALL = PolicyConfig(hidden=4, vector=5)


def untrained(seed: int = 0, config: PolicyConfig = SMALL) -> TrainedPolicy:
    torch.manual_seed(seed)
    return TrainedPolicy(PolicyNetwork(config).eval())


@dataclass
class Policies:
    """A registry, a watch on it, and what the operator was told."""

    registry: ModelRegistry
    told: list[str] = field(default_factory=list)
    numbers: CollectorRegistry = field(default_factory=CollectorRegistry)
    moments: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        catalogue = Catalogue()
        catalogue.put([Item("a"), Item("b")])
        self.recommender = Recommender(catalogue, SlateRules())
        counters = RecommendationMetrics(self.numbers)
        self.watch = PolicyWatch(self.registry, self.recommender, counters, self.told.append, clock=self.clock)

    def clock(self) -> datetime:
        return datetime(2026, 11, 26, tzinfo=UTC) + timedelta(seconds=next(self.moments))

    def promoted(self, data: bytes) -> ModelRecord:
        return self.registry.register(
            POLICY_NAME, POLICY_KIND, data, feature_schema=1, metrics={}, clock=self.clock, alias="champion", why="test"
        )

    def look_and_take(self) -> str:
        self.watch.look()
        return self.watch.take()

    def swaps(self, outcome: str) -> float | None:
        return self.numbers.get_sample_value("headgate_policy_swaps_total", {"outcome": outcome})


@pytest.fixture
def policies(database: Database, tmp_path: Path) -> Policies:
    return Policies(ModelRegistry(database, str(tmp_path / "models")))


def test_without_a_policy_everyone_gets_what_is_popular_until_one_is_promoted(policies: Policies) -> None:
    assert policies.look_and_take() == POPULAR
    policies.promoted(untrained().to_bytes())
    assert policies.look_and_take() == "recommender:1"
    assert policies.recommender.policy == "recommender:1"
    policies.promoted(untrained(1).to_bytes())
    assert policies.watch.take() == "recommender:1"  # nothing changes before the thread has looked
    assert policies.look_and_take() == "recommender:2"
    assert policies.numbers.get_sample_value("headgate_policy_version") == 2
    assert policies.swaps("activated") == 2


@pytest.mark.parametrize(
    "unusable", [b"no policy", untrained(config=PolicyConfig(hidden=4, vector=5, buckets=8)).to_bytes()]
)
def test_a_policy_that_cannot_be_used_is_refused_and_the_one_in_use_goes_on(
    policies: Policies, unusable: bytes
) -> None:
    policies.promoted(untrained().to_bytes())
    policies.look_and_take()
    policies.promoted(unusable)
    assert policies.look_and_take() == "recommender:1"
    assert policies.swaps("refused") == 1
    assert "recommender:2" in policies.told[0]
    policies.look_and_take()
    assert len(policies.told) == 1  # it is not tried again and again


def test_a_policy_without_answers_is_withdrawn_and_the_one_before_it_returns(policies: Policies) -> None:
    policies.promoted(untrained().to_bytes())
    policies.look_and_take()
    policies.promoted(untrained(1).to_bytes())
    policies.look_and_take()
    policies.watch.failed(MOST_FAILURES - 1)
    assert policies.watch.take() == "recommender:2"
    policies.watch.failed(1)
    assert policies.watch.take() == POPULAR  # at once
    assert policies.look_and_take() == "recommender:1"
    record = policies.registry.get(POLICY_NAME, 2)
    assert record.withdrawn
    assert policies.swaps("withdrawn") == 1
    assert "recommender:2" in policies.told[0]
