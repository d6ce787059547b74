"""The threshold in use is the rule's, made from what all partitions counted; until it is known, the registered one."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.alert_rule import AlertRule
from models.feature_schema import FEATURE_SCHEMA
from models.live_threshold import ModelThresholds, rule_threshold
from models.score_counts import ScoreHistory, count_scores
from models.scoring import Scorer
from storage.database import Database
from storage.registry import ModelRegistry
from storage.score_sketches import add_to_sketches
from streams.health import FlowMetrics
from streams.periodic import Periodic
from streams.score_counting import sketch_hours
from streams.threshold_watch import ThresholdWatch
from tests.deployment import wait_until
from tests.models.logs import busy_log, untrained

HOUR = 3_600_000
FIRST_HOUR = 480_000
DAY_AND_HALF = 36


class Watched:
    """A registered model in use, its watch, and counts in SQL."""

    def __init__(self, database: Database, folder: Path, rule: AlertRule) -> None:
        self.database = database
        self.metrics = FlowMetrics()
        registry = ModelRegistry(database, str(folder))
        for budget in (20.0, 5.0):
            registry.register(
                "fraud",
                "detector",
                untrained().to_bytes(),
                feature_schema=FEATURE_SCHEMA,
                metrics={"alerts_per_day": budget},
                clock=lambda: datetime(2026, 11, 26, tzinfo=UTC),
            )
        self.scorer = Scorer(untrained(threshold=0.7))
        self.watch = ThresholdWatch(database, registry, rule, self.metrics, alert_max_age=24 * HOUR)
        self.all = ScoreHistory()
        self.until = 0

    def count(self, partition: int, hours: range, *, seed: int, higher: float = 0.0, opened: int = 0) -> None:
        random = np.random.default_rng(seed)
        times = FIRST_HOUR * HOUR + random.integers(hours.start * HOUR, hours.stop * HOUR, 4_000)
        scores = 1 / (1 + np.exp(6 - higher - random.exponential(1.0, 4_000)))
        alerting = np.arange(4_000) < opened
        counted = ScoreHistory()
        counted.add("fraud:1", count_scores(times, scores, alerting, alerting))
        self.all.add("fraud:1", counted.models["fraud:1"])
        self.until += 1
        with self.database.begin() as connection:
            add_to_sketches(connection, 1, partition, self.until, sketch_hours(counted))

    def threshold(self, model: str = "fraud:1") -> float:
        """What the next batch is scored with."""
        self.watch.apply(model, self.scorer)
        return self.scorer.score(busy_log()).threshold

    def expected(self, rule: AlertRule, model: str = "fraud:1", budget: float = 20.0) -> float | None:
        known = ModelThresholds(model, 0.7, budget, {})
        latest = self.all.latest
        assert latest is not None
        return rule_threshold(rule, self.all, known, latest)


@pytest.fixture
def watched(database: Database, tmp_path: Path) -> Watched:
    return Watched(database, tmp_path, AlertRule("budget"))


def test_a_worker_begins_with_the_registered_threshold(watched: Watched) -> None:
    watched.count(0, range(DAY_AND_HALF), seed=1)
    assert watched.threshold() == 0.7


def test_the_threshold_is_made_from_what_all_partitions_counted(watched: Watched) -> None:
    watched.threshold()
    watched.count(0, range(DAY_AND_HALF), seed=1)
    watched.count(1, range(DAY_AND_HALF), seed=2, opened=9)
    watched.watch.look()
    expected = watched.expected(AlertRule("budget", 20.0))
    assert expected is not None
    assert watched.threshold() == pytest.approx(expected)
    assert watched.metrics.registry.get_sample_value("headgate_alert_threshold") == pytest.approx(expected)
    assert watched.metrics.registry.get_sample_value("headgate_alerts_today") is not None


def test_what_is_counted_later_moves_the_threshold_and_is_counted_once(watched: Watched) -> None:
    watched.threshold()
    watched.count(0, range(DAY_AND_HALF), seed=1)
    watched.watch.look()
    before = watched.threshold()
    for _ in range(2):
        watched.watch.look()
        assert watched.threshold() == before
    watched.count(1, range(30, 40), seed=3, higher=3.0)
    watched.watch.look()
    assert watched.threshold() == pytest.approx(watched.expected(AlertRule("budget", 20.0)))
    assert watched.threshold() > before


def test_a_new_model_begins_with_its_own_threshold_and_has_its_own_budget(watched: Watched) -> None:
    watched.threshold()
    watched.count(0, range(DAY_AND_HALF), seed=1)
    watched.watch.look()
    assert watched.threshold("fraud:2") == 0.7
    watched.watch.look()
    assert watched.threshold("fraud:2") == watched.expected(AlertRule("budget", 5.0), "fraud:2", 5.0)


@pytest.mark.parametrize("rule", [AlertRule("registered"), AlertRule("precision", 0.5), AlertRule("anomaly", 1e-4)])
def test_where_a_rule_cannot_say_the_registered_threshold_stays(
    database: Database, tmp_path: Path, rule: AlertRule
) -> None:
    watched = Watched(database, tmp_path, rule)
    watched.threshold()
    watched.count(0, range(5), seed=1)
    watched.watch.look()
    assert watched.threshold() == 0.7


def test_a_model_that_is_new_in_use_is_looked_at_at_once(watched: Watched) -> None:
    watched.count(0, range(DAY_AND_HALF), seed=1)
    an_hour_away = Periodic("threshold-watch", 3600, watched.watch.look, watched.metrics, wake=watched.watch.wake)
    an_hour_away.start()
    try:
        wait_until("a threshold", lambda: watched.threshold() != 0.7, 10)
    finally:
        an_hour_away.stop()
