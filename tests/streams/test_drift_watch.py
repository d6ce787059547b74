"""Drift in the flow: a sample of what is scored is compared with the training; what drifted is in SQL and metrics."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from models.artifact import TrainedDetector
from models.drift import REFERENCE_NOTE, SampledInputs, reference_bins
from models.events import Events
from models.feature_schema import FEATURES
from models.score_counts import MILLISECONDS_AN_HOUR, ScoreHistory, count_scores
from models.scoring import Scorer
from storage.database import Database
from storage.score_sketches import add_to_sketches
from storage.tables import Drift
from streams.drift_watch import SAMPLE_EVERY, DriftWatch, Sample, WaitingSamples
from streams.health import FlowMetrics
from streams.score_counting import sketch_hours
from tests.models.budget_traffic import FIRST_DAY, Traffic
from tests.models.logs import untrained
from tests.models.synthetic import history
from tests.streams.bench import NOW, Partitions, detection, payment

BATCH = 500
AMOUNT = FEATURES.index("amount")


def noon(days: float = 0) -> datetime:
    return datetime(2026, 11, 26, 12, tzinfo=UTC) + timedelta(days=days)


class Watched:
    """A watch, and a scorer whose batches it samples."""

    def __init__(self, database: Database, model: TrainedDetector) -> None:
        self.database = database
        self.metrics = FlowMetrics()
        self.now = noon()
        self.watch = DriftWatch(database, self.metrics, lambda: self.now, worker="worker-1")
        self.scorer = Scorer(model)

    def score(self, events: Events, model: str = "fraud:1") -> None:
        for first in range(0, len(events), BATCH):
            scored = self.scorer.score(events.take(np.arange(first, min(first + BATCH, len(events)))))
            self.watch.sample(model, self.scorer, scored)

    def recorded(self, model: str = "fraud:1") -> list[tuple[str, str]]:
        with self.database.reading() as connection:
            chosen = select(Drift.detector, Drift.subject).where(Drift.model == model)
            rows = connection.execute(chosen.order_by(Drift.detector, Drift.subject))
            return [(row[0], row[1]) for row in rows]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture(scope="module")
def past() -> Events:
    """Two days: the first warms the state, the second is like any later one."""
    return history(60_000, accounts=300, days=2, seed=2, frauds=0.0).events


@pytest.fixture(scope="module")
def taught(past: Events) -> TrainedDetector:
    """A model whose reference is the second day under it."""
    model = untrained()
    scorer = Scorer(model)
    half = len(past) // 2
    scorer.score(past.take(np.arange(half)))
    scored = scorer.score(past.take(np.arange(half, len(past))))
    reference = reference_bins(scored.built.features, scored.score[scored.built.rows])
    return replace(model, notes={REFERENCE_NOTE: reference})


def test_traffic_like_that_of_the_training_is_no_drift(
    database: Database, past: Events, taught: TrainedDetector
) -> None:
    watched = Watched(database, taught)
    watched.score(past)
    watched.watch.look()
    assert watched.recorded() == []
    distance = watched.metric("headgate_drift", detector="psi", subject="amount")
    assert distance is not None
    assert distance < 0.1


def test_inputs_that_moved_are_recorded_once_a_day(database: Database, past: Events, taught: TrainedDetector) -> None:
    watched = Watched(database, taught)
    watched.score(replace(past, amount=past.amount * 4))
    watched.watch.look()
    watched.watch.look()
    assert ("psi", "amount") in watched.recorded()
    assert ("psi", "gap") not in watched.recorded()
    first = len(watched.recorded())
    assert watched.metric("headgate_drifts_total", detector="psi") == first
    watched.now = noon(days=1)
    watched.watch.look()
    assert len(watched.recorded()) == 2 * first


def test_a_model_without_a_reference_says_nothing_of_inputs(database: Database, past: Events) -> None:
    watched = Watched(database, untrained())
    watched.score(replace(past, amount=past.amount * 4))
    watched.watch.look()
    assert watched.recorded() == []
    assert watched.metric("headgate_drift", detector="psi", subject="amount") is None


def test_what_waited_from_the_model_before_is_not_held_against_the_new_one(
    database: Database, past: Events, taught: TrainedDetector
) -> None:
    watched = Watched(database, taught)
    watched.score(replace(past, amount=past.amount * 4))
    watched.scorer = Scorer(taught)
    watched.score(past, "fraud:2")
    watched.watch.look()
    assert watched.metric("headgate_drift", detector="psi", subject="amount") is not None
    assert watched.recorded("fraud:2") == []


def test_every_so_many_accepted_events_one_is_sampled_whatever_the_batches(past: Events) -> None:
    scorer = Scorer(untrained())
    watch = DriftWatch(None, FlowMetrics(), noon, worker="w")  # type: ignore[arg-type]
    first = 0
    for size in (1, 7, 13, 200, 3, 41, 135):
        watch.sample("fraud:1", scorer, scorer.score(past.take(np.arange(first, first + size))))
        first += size
    waiting = watch._waiting.take()
    assert sum(len(sample.scores) for sample in waiting) == first // SAMPLE_EVERY
    assert all(sample.features.shape == (len(sample.scores), len(FEATURES)) for sample in waiting)


def sample_of(number: int, events: int) -> Sample:
    return Sample(str(number), np.zeros((events, 3), np.float32), np.zeros(events), np.zeros(events, np.int64))


@given(sizes=st.lists(st.integers(1, 12)))
def test_of_more_samples_than_may_wait_the_newest_stay_whatever_the_batches(sizes: list[int]) -> None:
    waiting = WaitingSamples(most=20)
    for number, events in enumerate(sizes):
        waiting.put(sample_of(number, events))
    kept = waiting.take()
    assert [sample.model for sample in kept] == [str(number) for number in range(len(sizes))][len(sizes) - len(kept) :]
    assert sum(len(sample.scores) for sample in kept) <= 20
    one_more = sum(sizes[len(sizes) - len(kept) - 1 :])
    assert len(kept) == len(sizes) or one_more > 20
    assert waiting.take() == []


def test_however_many_batches_a_sample_came_in_it_is_counted_at_once_for_each_hour(
    database: Database, past: Events, taught: TrainedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of small batches within a minute kept Python's lock from the stream for a third of a second."""
    hours: list[int] = []
    monkeypatch.setattr(SampledInputs, "add", lambda self, hour, features, scores: hours.append(hour))
    watched, some = Watched(database, taught), past.take(np.arange(40 * SAMPLE_EVERY))
    for first in range(0, len(some), SAMPLE_EVERY):
        watched.score(some.take(np.arange(first, first + SAMPLE_EVERY)))
    watched.watch.look()
    assert hours == np.unique(some.occurred_at[::SAMPLE_EVERY] // MILLISECONDS_AN_HOUR).tolist()


def test_a_shift_in_what_all_workers_counted_is_recorded(database: Database, past: Events) -> None:
    watched = Watched(database, untrained(threshold=0.05))
    watched.score(past.take(np.arange(BATCH)))
    occurred_at, scores, _ = Traffic(days=13, shifts=((12.25, 0.8),), starts=0.0).events()
    counted, no = ScoreHistory(), np.zeros(len(scores), bool)
    counted.add("fraud:1", count_scores(occurred_at, scores, no, no))
    assert min(counted.models["fraud:1"]) >= FIRST_DAY * 24
    with database.begin() as connection:
        add_to_sketches(connection, 1, 0, 1, sketch_hours(counted))
    watched.watch.look()
    assert ("adwin", "score") in watched.recorded()
    distance = watched.metric("headgate_drift", detector="adwin", subject="score")
    assert distance is not None
    assert distance > 1


def test_a_processor_hands_over_each_batch(database: Database) -> None:
    partitions = Partitions(database)
    partitions.claim(0)
    seen: list[tuple[str, int]] = []
    bench, _ = detection(
        database, partitions, sample=lambda model, scorer, scored: seen.append((model, len(scored.score)))
    )
    bench.run({0: [payment(0), payment(1)]}, NOW)
    bench.run({}, NOW + 5)
    assert seen == [("fraud:1", 2)]
