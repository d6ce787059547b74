"""One pass of the learning loop: a challenger from what SQL holds, proven against the champion, promoted or not.

How a challenger is trained and judged is challenge.py's business, the schedule retrain_schedule.py's. Promotion in
the registry is all that happens in the end: running workers look there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from models.artifact import BadModel, TrainedDetector
from models.checkpoint import CheckpointStore
from models.data_quality import DataQuality
from models.gate import Verdict
from models.labels import History
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult
from ops.jobs.challenge import Incumbent, Progress, RetrainingRules, Trainer, challenge, first_training, taught_until
from ops.jobs.data_check import refuse_broken, stored_and_checked
from ops.jobs.train import TRAINED_UNTIL, recorded_run, register_detector, train_on_one_thread
from storage.checkpoints import CheckpointFile
from storage.database import Database
from storage.exclusive import exclusively
from storage.model_trust import checkpoint_key
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from storage.training_data import HistoryCut, cut_now, fail_abandoned_runs, finish_training_run, unfinished_run
from streams.detection import MODEL_NAME

#: How these runs are told from others in `training_runs`, and the name of their lock.
JOB = "retrain"
LOCK = "retraining"
ABANDONED = "the process ended before the run did"
#: A run that was cut off longer ago is not gone on with: the labels that came since are worth more.
GOES_ON_WITHIN = timedelta(days=1)

CheckpointedTrainer = Callable[[History, TrainingConfig, Progress, CheckpointStore], TrainingResult]


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a pass works with. rates: of currencies to the base currency."""

    database: Database
    registry: ModelRegistry
    rates: Mapping[str, float]
    clock: Callable[[], datetime]
    progress: Progress
    trainer: CheckpointedTrainer = field(default=train_on_one_thread)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pass stands: the history that it reads, and the name of its checkpoint. A pass that was cut off hands it
    on to the next."""

    cut: HistoryCut
    checkpoint: str

    def as_json(self) -> dict[str, Any]:
        return {"cut": self.cut.as_json(), "checkpoint": self.checkpoint}


@dataclass(frozen=True, slots=True)
class Champion:
    record: ModelRecord
    model: TrainedDetector

    @property
    def trained_until(self) -> int:
        """Epoch milliseconds. A model that does not say so knew nothing later than its registration."""
        said = self.record.metrics.get(TRAINED_UNTIL)
        return _milliseconds(datetime.fromisoformat(said) if said else self.record.created_at)

    @property
    def incumbent(self) -> Incumbent:
        metrics = self.record.metrics
        return Incumbent(self.model, taught_until(metrics, self.trained_until), metrics.get("alerts_per_day"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended. champion: before it; verdict: None for a first model or where no verdict was possible."""

    decision: str
    reason: str
    champion: str | None
    challenger: str | None = None
    verdict: Verdict | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        return self.decision in ("promote", "first model")

    def in_short(self) -> dict[str, Any]:
        """What `training_runs` keeps beside the training's figures. The verdict's own decision differs where another
        became champion during the run."""
        return {
            "decision": self.decision,
            "reason": self.reason,
            "champion": self.champion,
            "verdict": None if self.verdict is None else self.verdict.figures(),
        }

    def as_json(self) -> dict[str, Any]:
        return {**self.in_short(), "challenger": self.challenger, "metrics": dict(self.metrics)}


def retrain_once(work: Workplace, rules: RetrainingRules) -> Outcome:
    """Raises AlreadyRunning, DatabaseUnavailable, and TrainingRefused with what the history lacks."""
    with exclusively(work.database, LOCK) as still_held:
        place = place_of(work, rules)
        fail_abandoned_runs(work.database, MODEL_NAME, JOB, work.clock(), ABANDONED)
        checkpoint = checkpoint_of(work, place)
        with recorded_run(work.database, as_json(rules) | place.as_json(), work.clock) as run_id:
            try:
                outcome = pass_over(work, rules, place, checkpoint, still_held, run_id)
            except TrainingRefused:
                checkpoint.remove()
                raise
            finish_training_run(
                work.database,
                run_id,
                work.clock(),
                "succeeded" if outcome.promoted else "refused",
                metrics={**outcome.metrics, **outcome.in_short()},
                message=f"{outcome.decision}: {outcome.reason}",
            )
        checkpoint.remove()
        return outcome


def place_of(work: Workplace, rules: RetrainingRules) -> Place:
    """That of a run by the same rules that was cut off lately and left a checkpoint, else a new one."""
    now, left = work.clock(), unfinished_run(work.database, MODEL_NAME, JOB)
    if left is not None and "checkpoint" in left:
        place = Place(HistoryCut.from_json(left["cut"]), left["checkpoint"])
        checkpoint = checkpoint_of(work, place)
        same_rules = left == json.loads(json.dumps(as_json(rules) | place.as_json()))
        if same_rules and now - place.cut.until <= GOES_ON_WITHIN and checkpoint.exists():
            return place
        checkpoint.remove()
    return Place(cut_now(work.database, now), uuid4().hex)


def checkpoint_of(work: Workplace, place: Place) -> CheckpointFile:
    return CheckpointFile(work.registry.root, place.checkpoint, checkpoint_key(work.registry.trust.signer))


def pass_over(
    work: Workplace,
    rules: RetrainingRules,
    place: Place,
    checkpoint: CheckpointStore,
    still_held: Callable[[], None],
    run_id: str,
) -> Outcome:
    def trainer(history: History, config: TrainingConfig, progress: Progress) -> TrainingResult:
        return work.trainer(history, config, progress, checkpoint)

    champion = present_champion(work.registry)
    history, quality = stored_and_checked(work.database, work.rates, place.cut, rules.label_horizon, work.progress)
    refuse_broken(quality)
    if champion is None:
        return first_model(work, rules, history, quality, trainer, run_id)
    return challenge_champion(work, rules, history, quality, champion, trainer, still_held, run_id)


def present_champion(registry: ModelRegistry) -> Champion | None:
    record = registry.champion(MODEL_NAME)
    if record is None:
        return None
    try:
        return Champion(record, TrainedDetector.from_bytes(registry.load(record)))
    except (BadModel, CorruptModel) as error:
        raise TrainingRefused(
            f"the champion {name_of(record)} cannot be compared with: {error}; "
            "mend it, or put another in its place with `headgate train --promote`"
        ) from error


def first_model(
    work: Workplace, rules: RetrainingRules, history: History, quality: DataQuality, trainer: Trainer, run_id: str
) -> Outcome:
    result = first_training(history, rules, trainer, work.progress)
    record = register_detector(
        work.registry, result, history, work.clock, data=quality, run_id=run_id, alias="champion", why="first model"
    )
    return Outcome("first model", "there was no champion", None, name_of(record), metrics=result.metrics)


def challenge_champion(
    work: Workplace,
    rules: RetrainingRules,
    history: History,
    quality: DataQuality,
    champion: Champion,
    trainer: Trainer,
    still_held: Callable[[], None],
    run_id: str,
) -> Outcome:
    found = challenge(history, champion.incumbent, rules, trainer, work.progress)
    verdict, before = found.verdict, name_of(champion.record)
    if found.result is None:
        return Outcome(verdict.decision, verdict.reason, before, verdict=verdict)
    record = register_detector(
        work.registry,
        found.result,
        found.taught,
        work.clock,
        data=quality,
        run_id=run_id,
        alias="challenger",
        why=None,
    )
    outcome = Outcome(verdict.decision, verdict.reason, before, name_of(record), verdict, found.result.metrics)
    return promote_unless_changed(work, outcome, record, still_held) if verdict.decision == "promote" else outcome


def promote_unless_changed(
    work: Workplace, outcome: Outcome, challenger: ModelRecord, still_held: Callable[[], None]
) -> Outcome:
    """Unless someone changed the champion during the run: what was proven was proven against another."""
    still_held()
    now = work.registry.champion(MODEL_NAME)
    if now is None or name_of(now) != outcome.champion:
        reason = f"the champion became {name_of(now) if now else 'none'} during the run"
        return replace(outcome, decision="refuse", reason=reason)
    work.registry.promote(MODEL_NAME, challenger.version, f"by `headgate retrain`: {outcome.reason}", work.clock)
    return outcome


def as_json(rules: RetrainingRules) -> dict[str, Any]:
    """For `training_runs.config`."""
    return {**asdict(rules), "job": JOB, "label_horizon": rules.label_horizon.total_seconds()}


def name_of(record: ModelRecord) -> str:
    return f"{record.name}:{record.version}"


def _milliseconds(time: datetime) -> int:
    return round(time.astimezone(UTC).timestamp() * 1000)
