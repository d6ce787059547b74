"""What labels say of merchants, in use: kept up with in a thread, taken over between two batches, recorded."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count

import numpy as np
import numpy.typing as npt
import pytest

from models.merchant_labels import LABEL_FEATURES, nothing_known
from models.scoring import Scorer
from storage.database import Database, DatabaseUnavailable
from storage.exclusive import exclusively
from streams.health import FlowMetrics
from streams.label_versions import make_version
from streams.labels import LOCK, LabelWatch
from streams.periodic import Periodic
from tests.deployment import wait_until
from tests.models.logs import log_of, untrained
from tests.streams.bench import NOW, Partitions, SometimesAway, detection, fraud, payment
from tests.streams.label_history import BEGIN, DAY, HORIZON, HOUR, LabelHistory, Payment, moment

FIRST = BEGIN + 7 * DAY


@dataclass(slots=True)
class Clock:
    at: int = FIRST

    def __call__(self) -> datetime:
        return moment(self.at)


@dataclass(slots=True)
class Watched:
    """A history with a fraud at merchant-0, a scorer, and a watch under a clock that stands still."""

    database: Database
    scorer: Scorer
    clock: Clock
    metrics: FlowMetrics
    watch: LabelWatch
    history: LabelHistory
    number: "count[int]" = field(default_factory=count)

    def said(self, merchant: int = 0) -> npt.NDArray[np.float32]:
        """What the next batch is told of a merchant."""
        return self.scorer.score(log_of([{"merchant": merchant, "number": next(self.number)}])).built.labels[0]

    def feature(self, name: str, merchant: int = 0) -> float:
        return float(self.said(merchant)[LABEL_FEATURES.index(name)])


@pytest.fixture
def watched(database: Database) -> Watched:
    history = LabelHistory(database)
    history.store([Payment("e1", BEGIN, "merchant-0"), Payment("e2", BEGIN + DAY, "merchant-1")])
    history.label("e1", "fraud", BEGIN)
    clock, metrics = Clock(), FlowMetrics()
    watch = LabelWatch(database, metrics, clock, horizon=HORIZON)
    return Watched(database, Scorer(untrained()), clock, metrics, watch, history)


def test_a_version_that_is_due_is_made_and_taken_over_between_two_batches(watched: Watched) -> None:
    assert watched.watch.take(watched.scorer) is None
    watched.watch.look()
    np.testing.assert_array_equal(watched.said(), nothing_known(1)[0])
    assert watched.watch.take(watched.scorer) == "1"
    assert watched.feature("run_open") == 1
    assert watched.watch.take(watched.scorer) == "1"
    assert watched.metrics.registry.get_sample_value("headgate_labels_known_at_seconds") == FIRST / 1000
    assert watched.metrics.registry.get_sample_value("headgate_labelled_merchants") == 1


def test_an_hour_later_the_next_version_is_made_and_not_before(watched: Watched) -> None:
    for minutes, version in ((0, "1"), (59, "1"), (60, "2"), (90, "2"), (300, "3")):
        watched.clock.at = FIRST + minutes * 60_000
        watched.watch.look()
        assert watched.watch.take(watched.scorer) == version


def test_while_another_worker_makes_a_version_nobody_waits_and_all_have_it_afterwards(watched: Watched) -> None:
    other = LabelWatch(watched.database, FlowMetrics(), watched.clock, horizon=HORIZON)
    with exclusively(watched.database, LOCK):
        watched.watch.look()
        assert watched.watch.take(watched.scorer) is None
    other.look()
    watched.watch.look()
    assert watched.watch.take(watched.scorer) == "1"
    assert watched.feature("run_open") == 1


def test_what_is_read_version_by_version_is_what_is_read_at_once(watched: Watched) -> None:
    for days in range(4):
        watched.clock.at = FIRST + days * DAY
        watched.history.store([Payment(f"e{days}x", BEGIN + days * DAY, f"merchant-{days // 2}", 0.5)])
        watched.history.label(f"e{days}x", "fraud", BEGIN + days * DAY)
        watched.watch.look()
    late = LabelWatch(watched.database, FlowMetrics(), watched.clock, horizon=HORIZON)
    late.load()
    fresh = replace(watched, scorer=Scorer(untrained()), watch=late)
    for one in (watched, fresh):
        assert one.watch.take(one.scorer) == "4"
    for merchant in range(2):
        assert watched.feature("matured_month", merchant) > np.log(2)
        np.testing.assert_array_equal(watched.said(merchant), fresh.said(merchant))


def test_the_version_in_use_does_not_change_while_the_next_one_is_read(watched: Watched) -> None:
    watched.watch.look()
    watched.watch.take(watched.scorer)
    knowledge = watched.scorer._features._knowledge
    names = [f"merchant-{number}" for number in range(3)]
    before = knowledge.features(names)
    watched.history.label("e1", "legitimate", BEGIN + DAY)
    watched.clock.at = FIRST + 2 * DAY
    watched.watch.look()
    np.testing.assert_array_equal(knowledge.features(names), before)
    watched.watch.take(watched.scorer)
    assert watched.feature("run_open") == 0
    assert watched.feature("matured_week", 1) > 0


def test_a_database_that_is_away_leaves_the_version_in_use(watched: Watched) -> None:
    watched.watch.look()
    watched.watch.take(watched.scorer)
    away = SometimesAway(watched.database.engine, ["at once", "at the end"])
    watch = LabelWatch(away, watched.metrics, watched.clock, horizon=HORIZON)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            watch.look()
        assert watch.take(watched.scorer) is None
    assert watched.feature("run_open") == 1
    watch.look()
    assert watch.take(watched.scorer) == "1"


def test_the_watch_looks_by_itself(watched: Watched) -> None:
    thread = Periodic("label-watch", 0.02, watched.watch.look, watched.metrics)
    thread.start()
    try:
        wait_until("a version", lambda: watched.watch.take(watched.scorer) == "1", 10)
    finally:
        thread.stop()


# Beside the detection.


def test_each_partition_records_from_which_offset_it_used_which_version(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0, 1)
    version: list[str | None] = [None]
    bench, _ = detection(database, partitions, take_labels=lambda scorer: version[0])
    bench.run({0: [payment(0)]}, NOW)
    version[0] = "7"
    bench.run({0: [payment(1), payment(2)]}, NOW)
    bench.run({0: [payment(3)], 1: [payment(0, "b")]}, NOW)
    partitions.claim(0, 1)
    restored, _ = detection(database, partitions, take_labels=lambda scorer: version[0])
    restored.run({0: [payment(4)], 1: [payment(1, "b")]}, NOW)
    version[0] = "8"
    restored.run({0: [payment(5)]}, NOW)
    found = bench.sql("SELECT partition, from_offset, value FROM stream_controls WHERE name = 'labels' ORDER BY 1, 2")
    assert found == [(0, 1, "7"), (0, 5, "8"), (1, 0, "7")]


def test_every_prediction_says_how_little_the_account_explains_the_amount(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0)
    bench, scorer = detection(database, partitions)
    records = [payment(0), payment(1), fraud(2), payment(3, event_id="e1"), payment(4, amount=60.0)]
    bench.run({0: records[:2]}, NOW)
    bench.run({0: records[2:]}, NOW)
    found = bench.sql("SELECT source_offset, unexplained FROM predictions ORDER BY source_offset")
    assert [offset for offset, _ in found] == [0, 1, 2, 4]
    shares = [share for _, share in found]
    assert shares[:3] == [1.0, 1.0, 0.0]
    assert 0.0 < shares[3] < 1.0
    assert scorer.last.unexplained[[0, 2]].tolist() == shares[2:]


def test_a_version_counts_what_the_detection_stored(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0)
    bench, _ = detection(database, partitions)
    bench.run({0: [payment(0), payment(1), payment(2, event_id="e1")]}, NOW)
    version = make_version(database, moment(round(NOW * 1000) + 8 * DAY + HOUR), HORIZON)
    assert version is not None
    assert bench.sql("SELECT events, frauds, corrections FROM label_versions") == [(2, 0, 0)]
    assert bench.sql("SELECT merchant_id, latest_legitimate IS NOT NULL FROM merchant_labels") == [("m1", True)]
