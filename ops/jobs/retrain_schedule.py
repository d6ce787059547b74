"""When `headgate retrain` makes its next pass, and how it ends: after a span of time, after enough new labels, after a
drift, until a signal. What a pass does is retrain.py's business.

The schedule lives in `training_runs`: a restarted process waits for what is left of the span, and a run that died
counts as none.
"""

import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from models.policy_history import PolicyTrainingRefused
from models.sequences import TrainingRefused
from ops.jobs.challenge import Progress
from ops.jobs.retrain import JOB
from storage.database import Database, DatabaseUnavailable
from storage.drifts import drifted_since
from storage.exclusive import AlreadyRunning, exclusively
from storage.training_data import labels_joined_since, latest_run_start

log = structlog.get_logger(__name__)

POLL_SECONDS = 30.0


class RetrainingStopped(Exception):
    """A signal came while a pass was under way; the run is recorded as failed and changed nothing."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A pass every so often, as soon as so many labels were joined since the last one began, and with on_drift as soon
    as a worker recorded a drift since then."""

    every: timedelta
    new_labels: int | None = None
    on_drift: bool = False


def is_due(
    schedule: Schedule,
    now: datetime,
    latest: datetime | None,
    labels_since: Callable[[datetime], int],
    drifted_since: Callable[[datetime], bool],
) -> bool:
    """latest: when the latest pass began, None for none. labels_since: how many labels were joined since a moment;
    drifted_since: whether anything drifted. Both are asked only where it matters."""
    if latest is None or now - latest >= schedule.every:
        return True
    if schedule.new_labels is not None and labels_since(latest) >= schedule.new_labels:
        return True
    return schedule.on_drift and drifted_since(latest)


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that is retrained by itself: under which lock, when, and what makes one pass and tells of it."""

    model_name: str
    lock: str
    schedule: Schedule
    one_pass: Callable[[], None]


def retrain_until_stopped(
    learners: Sequence[Learner],
    database: Database,
    clock: Callable[[], datetime],
    stopping: threading.Event,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Raises AlreadyRunning where another retraining is under way at the start; later ones are waited for."""
    for learner in learners:
        with exclusively(database, learner.lock):
            pass
    while not stopping.is_set():
        for learner in learners:
            try:
                retrain_if_due(learner, database, clock)
            except RetrainingStopped:
                return
        stopping.wait(poll_seconds)


def retrain_if_due(learner: Learner, database: Database, clock: Callable[[], datetime]) -> None:
    """What one model lacks keeps no other from learning. Raises RetrainingStopped."""
    try:
        latest = latest_run_start(database, learner.model_name, JOB)
        if is_due(
            learner.schedule,
            clock(),
            latest,
            lambda since: labels_joined_since(database, since),
            lambda since: drifted_since(database, since),
        ):
            learner.one_pass()
    except (TrainingRefused, PolicyTrainingRefused) as refusal:
        log.warning("retraining refused", model=learner.model_name, why=str(refusal))
    except (AlreadyRunning, DatabaseUnavailable) as error:
        log.warning("retraining waits", model=learner.model_name, problem=str(error))


def stopped_by_signals() -> threading.Event:
    """Set by SIGINT and SIGTERM. For the main thread."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def stoppable(progress: Progress, stopping: threading.Event) -> Progress:
    """The same progress, which raises RetrainingStopped once the process is to end: between two steps of the work, so
    that nothing is left half done."""

    def report(stage: str, done: float) -> None:
        if stopping.is_set():
            raise RetrainingStopped("stopped by a signal; the run is recorded as failed, and no model was promoted")
        progress(stage, done)

    return report
