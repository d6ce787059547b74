"""When the next pass is due, and what the loop goes on from."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sequences import TrainingRefused
from ops.jobs.retrain import JOB, LOCK, Outcome
from ops.jobs.retrain_command import BadSchedule, parse_span
from ops.jobs.retrain_metrics import RetrainingMetrics
from ops.jobs.retrain_schedule import Learner, RetrainingStopped, Schedule, is_due, retrain_until_stopped, stoppable
from storage.database import Database, DatabaseUnavailable
from storage.drifts import DriftRecord, record_drifts
from storage.exclusive import AlreadyRunning, exclusively
from storage.registry import ModelRecord, ModelRegistry
from storage.training_data import finish_training_run, start_training_run
from streams.detection import MODEL_NAME
from tests.storage.rows import RowMaker

NOW = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAILY = Schedule(timedelta(days=1))
DONE = Outcome("refuse", "worse", "fraud:1")


class Loop:
    """A schedule on a database, whose passes end as told: with an outcome, or with an error that is raised."""

    def __init__(self, database: Database, *ends: Outcome | Exception) -> None:
        self.database = database
        self.ends = list(ends)
        self.announced: list[Outcome] = []
        self.stopping = threading.Event()
        self.metrics = RetrainingMetrics()
        self.champion: ModelRecord | None = None
        self.polls = 0

    def one_pass(self) -> Outcome:
        end = self.ends.pop(0)
        if not self.ends:
            self.stopping.set()
        if isinstance(end, Exception):
            raise end
        return end

    def clock(self) -> datetime:
        """Asked once for each poll; after many without a pass, the test is over."""
        self.polls += 1
        if self.polls == 5:
            self.stopping.set()
        return NOW

    def run(self, schedule: Schedule = DAILY) -> None:
        learner = Learner(MODEL_NAME, LOCK, schedule, lambda: self.champion, self.announced_pass)
        retrain_until_stopped([learner], self.database, self.clock, self.stopping, self.metrics, poll_seconds=0.0)

    def announced_pass(self) -> Outcome:
        self.announced.append(self.one_pass())
        return self.announced[-1]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"headgate_retrain_{name}", {"model": MODEL_NAME} | labels)


def ran(database: Database, hours_ago: float, status: str = "refused", job: str = JOB) -> None:
    run_id = f"{hours_ago} {status} {job}"
    start_training_run(database, run_id, MODEL_NAME, NOW - hours_ago * HOUR, {"job": job})
    finish_training_run(database, run_id, NOW - hours_ago * HOUR, status)


@given(st.floats(0, 50), st.integers(0, 20), st.one_of(st.none(), st.integers(1, 20)), st.booleans(), st.booleans())
def test_a_pass_is_due_after_its_span_with_enough_labels_or_after_a_drift(
    hours: float, joined: int, wanted: int | None, on_drift: bool, drifted: bool
) -> None:
    schedule = Schedule(timedelta(days=1), wanted, on_drift)
    due = is_due(schedule, NOW, NOW - hours * HOUR, lambda since: joined, lambda since: drifted)
    labelled = wanted is not None and joined >= wanted
    assert due == (timedelta(hours=hours) >= timedelta(days=1) or labelled or (on_drift and drifted))
    assert is_due(schedule, NOW, None, lambda since: 0, lambda since: False)


@pytest.mark.parametrize(
    ("before", "passes"),
    [
        ([], 1),
        ([(23.9, "refused", JOB)], 0),
        ([(24.0, "succeeded", JOB)], 1),
        ([(30.0, "succeeded", JOB), (1.0, "refused", JOB)], 0),
        ([(1.0, "failed", JOB)], 1),
        ([(1.0, "succeeded", "another job")], 1),
    ],
)
def test_a_restarted_loop_waits_for_what_is_left_of_the_span(
    database: Database, before: list[tuple[float, str, str]], passes: int
) -> None:
    for hours_ago, status, job in before:
        ran(database, hours_ago, status, job)
    loop = Loop(database, DONE)
    loop.run()
    assert loop.announced == [DONE] * passes


def test_labels_joined_since_the_latest_pass_began_start_the_next(database: Database) -> None:
    ran(database, 2)
    rows = RowMaker(database)
    rows.label("before", event_id="e1", joined_at=NOW - 3 * HOUR)
    rows.label("pending", event_id="e2", status="pending")
    rows.label("one", event_id="e3", joined_at=NOW - HOUR)
    for new_labels, passes in ((2, 0), (1, 1)):
        loop = Loop(database, DONE)
        loop.run(Schedule(timedelta(days=1), new_labels))
        assert len(loop.announced) == passes


@pytest.mark.parametrize(("hours_ago", "on_drift", "passes"), [(1, True, 1), (1, False, 0), (3, True, 0)])
def test_a_drift_that_was_recorded_since_the_latest_pass_began_starts_the_next(
    database: Database, hours_ago: float, on_drift: bool, passes: int
) -> None:
    ran(database, 2)
    record_drifts(database, [DriftRecord("fraud:1", "psi", "amount", NOW - hours_ago * HOUR, 0.4, 0.25, "worker-1")])
    loop = Loop(database, DONE)
    loop.run(Schedule(timedelta(days=1), on_drift=on_drift))
    assert loop.announced == [DONE] * passes


def test_refusals_and_absent_services_do_not_end_the_loop(database: Database) -> None:
    troubles = (TrainingRefused("too few"), DatabaseUnavailable("away"), AlreadyRunning("another"))
    loop = Loop(database, *troubles, DONE)
    loop.run()
    assert (loop.ends, loop.announced) == ([], [DONE])


def test_each_pass_is_counted_by_its_end_and_what_taught_the_challenger_shows(database: Database) -> None:
    judged = Outcome("refuse", "worse", "fraud:1", "fraud:2", metrics={"events": 4_000.0})
    loop = Loop(
        database, TrainingRefused("too few"), AlreadyRunning("another"), judged, Outcome("promote", "better", None)
    )
    loop.run()
    ends = ("promoted", "kept", "refused", "waited")
    assert [loop.metric("passes_total", outcome=end) for end in ends] == [1, 1, 1, 1]
    assert loop.metric("training_events") == 4_000
    assert loop.metric("running") == 0
    seconds = loop.metric("last_pass_seconds")
    assert seconds is not None
    assert seconds >= 0


def test_a_pass_shows_while_it_runs(database: Database) -> None:
    loop = Loop(database, DONE)
    seen: list[object] = []
    passing = loop.one_pass

    def one_pass() -> Outcome:
        seen.extend([loop.metric("running"), loop.metrics.health()["learning"]])
        return passing()

    loop.one_pass = one_pass  # type: ignore[method-assign]
    loop.run()
    assert seen == [1, MODEL_NAME]
    assert loop.metrics.health() == {"ready": True, "learning": None, "problem": None}


def test_the_latest_pass_and_the_champion_show_whoever_made_them(database: Database, tmp_path: Path) -> None:
    loop = Loop(database, DONE)
    loop.run(Schedule(timedelta(days=1)))
    assert (loop.metric("last_pass_at_seconds"), loop.metric("champion_version")) == (None, 0)
    ran(database, 2)
    registry = ModelRegistry(database, str(tmp_path / "models"))
    loop = Loop(database, DONE)
    loop.champion = registry.register(
        MODEL_NAME, "detector", b"model", feature_schema=1, metrics={}, clock=lambda: NOW - 3 * HOUR, alias="champion"
    )
    loop.run()
    assert loop.metric("last_pass_at_seconds") == (NOW - 2 * HOUR).timestamp()
    assert loop.metric("champion_version") == 1
    assert loop.metric("champion_promoted_at_seconds") == (NOW - 3 * HOUR).timestamp()


def test_a_loop_whose_database_is_away_is_not_ready_until_it_is_back(database: Database) -> None:
    loop = Loop(database, DatabaseUnavailable("away"))
    assert not loop.metrics.health()["ready"]
    loop.run()
    assert loop.metrics.health() == {"ready": False, "learning": None, "problem": "away"}
    Loop.run(again := Loop(database, DONE))
    assert again.metrics.health()["ready"]


def test_other_errors_end_it_and_so_does_a_signal_during_a_pass(database: Database) -> None:
    with pytest.raises(MemoryError):
        Loop(database, MemoryError(), DONE).run()
    loop = Loop(database, RetrainingStopped("by a signal"), DONE)
    loop.run()
    assert loop.ends == [DONE]


def test_a_loop_does_not_begin_beside_a_retraining_that_is_under_way(database: Database) -> None:
    loop = Loop(database, DONE)
    with exclusively(database, LOCK), pytest.raises(AlreadyRunning):
        loop.run()
    assert loop.announced == []


def test_work_goes_on_until_the_step_at_which_a_signal_has_come() -> None:
    stopping, seen = threading.Event(), []
    progress = stoppable(lambda stage, done: seen.append((stage, done)), stopping)
    progress("epoch 1", 0.5)
    stopping.set()
    with pytest.raises(RetrainingStopped):
        progress("epoch 1", 1.0)
    assert seen == [("epoch 1", 0.5)]


def test_spans_are_read_with_their_unit() -> None:
    spans = {
        "7d": timedelta(days=7),
        "24h": timedelta(days=1),
        " 1.5h ": timedelta(minutes=90),
        "90s": timedelta(0, 90),
    }
    assert {text: parse_span(text) for text in spans} == spans
    for wrong in ("", "24", "0h", "1w", "-1h", "1h30m"):
        with pytest.raises(BadSchedule, match="must be like 7d"):
            parse_span(wrong)
