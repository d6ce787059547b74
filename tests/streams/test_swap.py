"""A new champion takes over between two batches, or is refused while the one in use goes on."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch

from models.artifact import TrainedDetector
from models.feature_schema import FEATURE_SCHEMA
from models.scoring import Scorer
from ops.compose import operator_line
from storage.database import Database, DatabaseUnavailable
from storage.redis_views import RedisViews
from storage.registry import ModelRecord, ModelRegistry
from streams.health import FlowMetrics
from streams.periodic import Periodic
from streams.swap import ChampionWatch
from tests.deployment import wait_until
from tests.models.logs import busy_log, untrained
from tests.streams.bench import NOW, OneModel, Partitions, detection, payment
from tests.streams.test_detection_restore import log, state_of


def clock() -> datetime:
    return datetime(2026, 11, 26, tzinfo=UTC)


class Champions:
    """A registry, a watch on it, and what the operator was told."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.registry = ModelRegistry(database, str(folder))
        self.folder = folder
        self.told: list[str] = []
        self.metrics = FlowMetrics()
        first = self.promoted(untrained())
        self.watch = ChampionWatch(self.registry, first, self.metrics, self.told.append, clock=clock)

    def promoted(self, model: TrainedDetector, **metrics: float) -> ModelRecord:
        return self.registry.register(
            "fraud",
            "detector",
            model.to_bytes(),
            feature_schema=FEATURE_SCHEMA,
            metrics=metrics,
            clock=clock,
            alias="champion",
        )

    def swaps(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("headgate_model_swaps_total", {"outcome": outcome})


@pytest.fixture
def champions(database: Database, tmp_path: Path) -> Champions:
    return Champions(database, tmp_path / "models")


@pytest.fixture
def scorer() -> Scorer:
    resident = Scorer(untrained())
    resident.score(busy_log())
    return resident


def test_a_new_champion_is_taken_once(champions: Champions, scorer: Scorer) -> None:
    champions.watch.look()
    assert champions.watch.take(scorer) is None
    champions.promoted(untrained(hidden=12, seed=5))
    champions.watch.look()
    assert champions.watch.take(scorer) == "fraud:2"
    assert scorer.model.network.config.hidden == 12
    champions.watch.look()
    assert champions.watch.take(scorer) is None
    assert (champions.swaps("activated"), champions.told) == (1, [])
    assert champions.metrics.registry.get_sample_value("headgate_model_version") == 2


def test_of_several_new_champions_the_newest_is_taken(champions: Champions, scorer: Scorer) -> None:
    for hidden in (12, 16):
        champions.promoted(untrained(hidden=hidden))
        champions.watch.look()
    assert champions.watch.take(scorer) == "fraud:3"
    assert scorer.model.network.config.hidden == 16


def test_a_rolled_back_champion_is_taken_again(champions: Champions, scorer: Scorer) -> None:
    champions.promoted(untrained(hidden=12))
    champions.watch.look()
    champions.watch.take(scorer)
    champions.registry.rollback("fraud", "worse", clock)
    champions.watch.look()
    assert champions.watch.take(scorer) == "fraud:1"


def spoil_file(champions: Champions, record: ModelRecord) -> None:
    (champions.folder / record.artifact).write_bytes(b"something else")


def remove_file(champions: Champions, record: ModelRecord) -> None:
    (champions.folder / record.artifact).unlink()


@pytest.mark.parametrize(("harm", "says"), [(spoil_file, "sha256 differs"), (remove_file, "is missing")])
def test_a_file_that_is_not_the_registered_one_is_refused_once_and_the_operator_told(
    champions: Champions, scorer: Scorer, harm: Any, says: str
) -> None:
    harm(champions, champions.promoted(untrained(hidden=12)))
    for _ in range(3):
        champions.watch.look()
        assert champions.watch.take(scorer) is None
    assert scorer.model.network.config.hidden == 8
    (message,) = champions.told
    assert says in message
    assert "model fraud:2 is refused" in message
    assert champions.swaps("refused") == 1


def test_a_foreign_file_is_refused(champions: Champions, scorer: Scorer) -> None:
    champions.registry.register(
        "fraud", "detector", b"no model", feature_schema=1, metrics={}, clock=clock, alias="champion"
    )
    champions.watch.look()
    assert champions.watch.take(scorer) is None
    assert "not a detector" in champions.told[0]


def test_a_model_whose_scores_are_no_numbers_is_refused_at_its_trial(champions: Champions, scorer: Scorer) -> None:
    broken = untrained(hidden=12)
    with torch.no_grad():
        broken.network.head[2].weight.fill_(3e38)
        broken.network.head[0].weight.fill_(3e38)
    champions.promoted(broken)
    champions.watch.look()
    assert champions.watch.take(scorer) is None
    assert "are no numbers" in champions.told[0]
    assert scorer.model.network.config.hidden == 8


def test_a_model_that_alerts_far_beyond_its_budget_is_refused(champions: Champions) -> None:
    many = Scorer(untrained(threshold=1.1))
    many.score(log_of_many_accounts())
    champions.promoted(untrained(threshold=1e-6), alerts_per_day=1.0, events_per_day=1000.0)
    champions.watch.look()
    assert champions.watch.take(many) is None
    assert "at most are plausible" in champions.told[0]


def log_of_many_accounts() -> Any:
    return busy_log(accounts=200, hot=10)


def test_a_model_with_another_reporting_limit_is_refused(champions: Champions, scorer: Scorer) -> None:
    champions.promoted(untrained(reporting_limit=3_000.0))
    champions.watch.look()
    assert champions.watch.take(scorer) is None
    assert "restart of the worker" in champions.told[0]


def test_the_watch_finds_a_champion_by_itself_and_rides_out_an_absent_registry(
    champions: Champions, scorer: Scorer
) -> None:
    thread = Periodic("watch", 0.02, sometimes_away(champions.watch.look), champions.metrics)
    thread.start()
    try:
        champions.promoted(untrained(hidden=12))
        assert wait_until("the champion is ready", lambda: champions.watch.take(scorer), 10) == "fraud:2"
    finally:
        thread.stop()


def sometimes_away(look: Callable[[], None]) -> Callable[[], None]:
    """Every other time the database is away."""
    turns = count()

    def act() -> None:
        if next(turns) % 2 == 0:
            raise DatabaseUnavailable("away")
        look()

    return act


def test_the_operator_hears_of_a_refusal_on_the_redis_channel(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, client.pubsub() as listener:
        listener.subscribe("test:operator")
        assert listener.get_message(timeout=5) is not None
        views = RedisViews(client, prefix="test:", ttl_seconds=60, stream_length=10)
        operator_line(views, "worker-1")("model fraud:2 is refused: damaged")
        heard = listener.get_message(timeout=5)
    assert heard is not None
    message = json.loads(heard["data"])
    assert (message["worker"], message["message"]) == ("worker-1", "model fraud:2 is refused: damaged")
    assert datetime.fromisoformat(message["at"]).tzinfo is not None


def test_an_absent_redis_does_not_disturb_whoever_tells_the_operator() -> None:
    client = redis.Redis(host="127.0.0.1", port=9, socket_timeout=1)
    operator_line(RedisViews(client, prefix="t:", ttl_seconds=60, stream_length=10), "worker-1")("something")


# In the stream


class SwapAt(OneModel):
    """Gives a model out at the n-th batch, as the watch would."""

    def __init__(self, batch: int, model: TrainedDetector, name: str) -> None:
        super().__init__()
        self.batch, self.model, self.name, self.seen = batch, model, name, 0

    def take(self, scorer: Scorer) -> str | None:
        self.seen += 1
        if self.seen != self.batch:
            return None
        scorer.replace_model(self.model)
        return self.name


def new_model() -> TrainedDetector:
    return replace(untrained(hidden=12, seed=5), threshold=0.9)


def test_predictions_change_their_model_at_the_logged_offset_and_none_is_missing(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0, 1)
    bench, _ = detection(database, partitions, models=SwapAt(3, new_model(), "fraud:2"))
    for start in range(0, 60, 10):
        bench.run(
            {0: log(start, start + 10)} | ({1: log(start, start + 10)} if start in (0, 40) else {}), NOW + 60 * 60
        )
    controls = bench.sql("SELECT partition, from_offset, value FROM stream_controls ORDER BY partition, from_offset")
    # The third batch begins behind offset 38; partition 1 next has records in the fifth batch.
    assert controls == [(0, 0, "fraud:1"), (0, 39, "fraud:2"), (1, 0, "fraud:1"), (1, 19, "fraud:2")]
    models = bench.sql(
        "SELECT model, min(source_offset), max(source_offset) FROM predictions WHERE source_partition = 0 "
        "GROUP BY model ORDER BY model"
    )
    assert [(model, low < 39, high < 39) for model, low, high in models] == [
        ("fraud:1", True, True),
        ("fraud:2", False, False),
    ]
    assert bench.sql(
        "SELECT count(*) FROM stream_progress WHERE next_offset - start_offset <> "
        "applied + duplicates + dead_letters + gaps"
    ) == [(0,)]


@pytest.mark.parametrize("restored_at", [30, 40, 50])
def test_a_worker_that_is_restored_after_a_swap_has_the_state_of_one_that_lived_through_it(
    database: Database, restored_at: int
) -> None:
    partitions = Partitions(database)
    partitions.claim(0)
    lived, scorer = detection(database, partitions, models=SwapAt(3, new_model(), "fraud:2"), sweep_interval=1e12)
    for start in range(0, restored_at, 10):
        lived.run({0: log(start, start + 10)}, NOW + 60 * 60)
    undisturbed = dict(partitions.owned)
    partitions.claim(0)
    restored, fresh = detection(database, partitions, models=SwapAt(1, new_model(), "fraud:2"), sweep_interval=1e12)
    following = {0: log(restored_at, restored_at + 20)}
    restored.prepare(following, NOW + 60 * 60)
    partitions.owned = undisturbed
    for owner in undisturbed.values():
        owner.revoked = False
    lived.prepare(following, NOW + 60 * 60)
    np.testing.assert_allclose(fresh.last.score, scorer.last.score, rtol=0, atol=1e-5)
    own, other = state_of(fresh, 0), state_of(scorer, 0)
    for account, arrays in own.items():
        for name, array in arrays.items():
            np.testing.assert_allclose(array, other[account][name], rtol=0, atol=1e-5, err_msg=f"{account} {name}")


def test_a_worker_that_starts_with_another_model_than_the_last_logs_its_activation(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0)
    detection(database, partitions)[0].run({0: [payment(0), payment(1)]}, NOW)
    partitions.claim(0)
    later, _ = detection(database, partitions, models=SwapAt(1, new_model(), "fraud:2"))
    later.run({0: [payment(2)]}, NOW)
    later.run({0: [payment(3)]}, NOW)
    controls = later.sql("SELECT from_offset, value FROM stream_controls ORDER BY from_offset")
    assert controls == [(0, "fraud:1"), (2, "fraud:2")]
