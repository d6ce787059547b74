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
from ops.jobs.retrain_metrics import PassOutcome, RetrainingMetrics
from storage.database import Database, DatabaseUnavailable
from storage.drifts import drifted_since
from storage.exclusive import AlreadyRunning, exclusively
from storage.registry import ModelRecord
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
    """A model that is retrained by itself: under which lock, when, who is champion, and what makes one pass and tells
    of it."""

    model_name: str
    lock: str
    schedule: Schedule
    champion: Callable[[], ModelRecord | None]
    one_pass: Callable[[], PassOutcome]


def retrain_until_stopped(
    learners: Sequence[Learner],
    database: Database,
    clock: Callable[[], datetime],
    stopping: threading.Event,
    metrics: RetrainingMetrics,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Raises AlreadyRunning where another retraining is under way at the start; later ones are waited for."""
    for learner in learners:
        with exclusively(database, learner.lock):
            metrics.announce(learner.model_name)
    while not stopping.is_set():
        for learner in learners:
            try:
                retrain_if_due(learner, database, clock, metrics)
            except RetrainingStopped:
                return
        stopping.wait(poll_seconds)


def retrain_if_due(
    learner: Learner, database: Database, clock: Callable[[], datetime], metrics: RetrainingMetrics
) -> None:
    """What one model lacks keeps no other from learning. Raises RetrainingStopped."""
    try:
        latest = look(learner, database, metrics)
        if is_due(
            learner.schedule,
            clock(),
            latest,
            lambda since: labels_joined_since(database, since),
            lambda since: drifted_since(database, since),
        ):
            make_pass(learner, metrics)
            look(learner, database, metrics)
    except (AlreadyRunning, DatabaseUnavailable) as error:
        log.warning("retraining waits", model=learner.model_name, problem=str(error))
        if isinstance(error, DatabaseUnavailable):
            metrics.hindered(str(error))


def look(learner: Learner, database: Database, metrics: RetrainingMetrics) -> datetime | None:
    """When the latest pass began. Raises DatabaseUnavailable."""
    latest, champion = latest_run_start(database, learner.model_name, JOB), learner.champion()
    metrics.looked(learner.model_name, latest)
    if champion is None:
        metrics.champion(learner.model_name, 0, None)
    else:
        metrics.champion(learner.model_name, champion.version, champion.promoted_at)
    return latest


def make_pass(learner: Learner, metrics: RetrainingMetrics) -> None:
    """Raises AlreadyRunning, DatabaseUnavailable, RetrainingStopped, and what is nobody's fault but the code's."""
    model = learner.model_name
    try:
        with metrics.passing(model):
            outcome = learner.one_pass()
    except (TrainingRefused, PolicyTrainingRefused) as refusal:
        log.warning("retraining refused", model=model, why=str(refusal))
        metrics.ended(model, "refused")
    except (AlreadyRunning, DatabaseUnavailable):
        metrics.ended(model, "waited")
        raise
    else:
        metrics.judged(model, outcome)


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
