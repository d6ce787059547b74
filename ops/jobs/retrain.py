"""One pass of the learning loop: a challenger from what SQL holds, proven against the champion, promoted or not.

The latest matured events, later than anything the champion was trained on, are kept from the challenger's training;
both models score the whole history in order and are judged on those (models/gate.py). Promotion in the registry is
all that happens then: running workers look there. The schedule is retrain_schedule.py's business.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifact import BadModel, TrainedDetector
from models.checks import failed_checks
from models.events import MILLISECONDS_A_DAY, Events
from models.gate import GateRules, JudgedEvents, Kind, Verdict, judge, too_few
from models.scoring import Scorer
from models.train_detector import PROBE_EVENTS, TrainingConfig, TrainingRefused, TrainingResult
from ops.jobs.history import LabelledHistory, history_from_database
from ops.jobs.train import TRAINED_UNTIL, recorded_run, register_detector, train_on_one_thread
from storage.database import Database
from storage.exclusive import exclusively
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from storage.training_data import fail_abandoned_runs, finish_training_run
from streams.detection import MODEL_NAME

#: How these runs are told from others in `training_runs`, and the name of their lock.
JOB = "retrain"
LOCK = "retraining"
ABANDONED = "the process ended before the run did"
SCORED_AT_ONCE = 8_192
DEFAULT_ALERTS_PER_DAY = 100.0
DEFAULT_HIDDEN = 64

Progress = Callable[[str, float], None]
Trainer = Callable[[Events, npt.NDArray[np.int8], TrainingConfig, Progress], TrainingResult]


@dataclass(frozen=True, slots=True)
class RetrainingRules:
    """judged_share: of the matured events, the latest, which judge and never train. hidden and alerts_per_day: None
    takes the champion's."""

    label_horizon: timedelta = timedelta(days=7)
    judged_share: float = 0.2
    hidden: int | None = None
    alerts_per_day: float | None = None
    epochs: int = 8
    seed: int = 0
    gate: GateRules = field(default_factory=GateRules)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "job": JOB, "label_horizon": self.label_horizon.total_seconds()}


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a pass works with. rates: of currencies to the base currency."""

    database: Database
    registry: ModelRegistry
    rates: Mapping[str, float]
    clock: Callable[[], datetime]
    progress: Progress
    trainer: Trainer = field(default=train_on_one_thread)


@dataclass(frozen=True, slots=True)
class Champion:
    record: ModelRecord
    model: TrainedDetector

    @property
    def trained_until(self) -> int:
        """Epoch milliseconds. A model that does not say so knew nothing later than its registration."""
        said = self.record.metrics.get(TRAINED_UNTIL)
        return _milliseconds(datetime.fromisoformat(said) if said else self.record.created_at)


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

    def as_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "reason": self.reason,
            "champion": self.champion,
            "challenger": self.challenger,
            "verdict": None if self.verdict is None else self.verdict.figures(),
            "metrics": dict(self.metrics),
        }


def retrain_once(work: Workplace, rules: RetrainingRules) -> Outcome:
    """Raises AlreadyRunning, DatabaseUnavailable, and TrainingRefused with what the history lacks."""
    with exclusively(work.database, LOCK) as still_held:
        fail_abandoned_runs(work.database, MODEL_NAME, JOB, work.clock(), ABANDONED)
        with recorded_run(work.database, rules.as_json(), work.clock) as run_id:
            champion = present_champion(work.registry)
            work.progress("history", 0.0)
            history = history_from_database(
                work.database,
                work.rates,
                now=work.clock(),
                label_horizon=rules.label_horizon,
                progress=lambda: work.progress("history", 0.0),
            )
            work.progress("history", 1.0)
            if champion is None:
                outcome = first_model(work, rules, history)
            else:
                outcome = challenge(work, rules, history, champion, still_held)
            finish_training_run(
                work.database,
                run_id,
                work.clock(),
                "succeeded" if outcome.promoted else "refused",
                metrics={**outcome.metrics, "verdict": outcome.verdict.figures() if outcome.verdict else None},
                model_version=int(outcome.challenger.rpartition(":")[2]) if outcome.challenger else None,
                message=f"{outcome.decision}: {outcome.reason}",
            )
            return outcome


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


def first_model(work: Workplace, rules: RetrainingRules, history: LabelledHistory) -> Outcome:
    """Whatever can be trained beats none, so all of the history teaches."""
    result = work.trainer(history.events, history.labels, training_config(rules, None), work.progress)
    why = "first model"
    record = register_detector(work.registry, result, history, work.clock, alias="champion", why=why)
    return Outcome("first model", "there was no champion", None, name_of(record), metrics=result.metrics)


def challenge(
    work: Workplace,
    rules: RetrainingRules,
    history: LabelledHistory,
    champion: Champion,
    still_held: Callable[[], None],
) -> Outcome:
    taught, rows = split(history, champion.trained_until, rules.judged_share)
    fraud, account = history.labels[rows] == 1, account_numbers(history.events, rows)
    config = training_config(rules, champion)
    before = name_of(champion.record)
    verdict = too_few(fraud, account, kind_of(config, champion), rules.gate)
    if verdict is not None:  # before an hour of training rather than after it
        until = datetime.fromtimestamp(int(taught.events.occurred_at[-1]) / 1000, UTC)
        verdict = replace(verdict, reason=f"{verdict.reason}, in matured events after {until:%Y-%m-%d %H:%M} UTC")
        return Outcome(verdict.decision, verdict.reason, before, verdict=verdict)
    result = work.trainer(taught.events, taught.labels, config, work.progress)
    failed = failed_checks(result.model, history.events.take(rows[-PROBE_EVENTS:]))
    if failed:
        raise TrainingRefused(f"the challenger is unfit for use: {'; '.join(failed)}")
    record = register_detector(work.registry, result, taught, work.clock, alias="challenger", why=None)
    scores = scores_from((champion.model, result.model), history.events, int(rows[0]), work.progress)
    known = np.isfinite(scores[0][rows])  # a repeat of an event has no score
    judged = JudgedEvents(
        fraud[known],
        account[known],
        scores[0][rows][known],
        scores[1][rows][known],
        budget_share(history.events.occurred_at[rows], config.alerts_per_day),
    )
    verdict = judge(judged, kind_of(config, champion), rules.gate, np.random.default_rng(rules.seed))
    outcome = Outcome(verdict.decision, verdict.reason, before, name_of(record), verdict, result.metrics)
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


def split(
    history: LabelledHistory, champion_until: int, judged_share: float
) -> tuple[LabelledHistory, npt.NDArray[np.intp]]:
    """What may teach, and the rows that judge: matured, later than all of that and than what the champion knew.
    champion_until in epoch milliseconds. Raises TrainingRefused."""
    times, labels = history.events.occurred_at, history.labels
    matured = labels >= 0
    if not (labels == 1).any():
        raise TrainingRefused(f"no fraud is known among {int(matured.sum())} matured events")
    cut = max(int(np.quantile(times[matured], 1 - judged_share)), champion_until)
    count = int(np.searchsorted(times, cut, "right"))
    taught = LabelledHistory(history.events.take(np.arange(count)), labels[:count])
    return taught, np.flatnonzero(matured & (times > cut))


def training_config(rules: RetrainingRules, champion: Champion | None) -> TrainingConfig:
    """As the champion's where the rules leave it open. Its reporting limit is what running workers count by."""
    config = TrainingConfig(
        hidden=rules.hidden or DEFAULT_HIDDEN,
        epochs=rules.epochs,
        seed=rules.seed,
        alerts_per_day=rules.alerts_per_day or DEFAULT_ALERTS_PER_DAY,
    )
    if champion is None:
        return config
    own = champion.model.network.config
    budget = rules.alerts_per_day or champion.record.metrics.get("alerts_per_day") or DEFAULT_ALERTS_PER_DAY
    return replace(
        config, hidden=rules.hidden or own.hidden, alerts_per_day=budget, reporting_limit=own.reporting_limit
    )


def kind_of(config: TrainingConfig, champion: Champion) -> Kind:
    """Another size is a new design, and has to be better."""
    return "refresh" if config.hidden == champion.model.network.config.hidden else "design"


def scores_from(
    models: Sequence[TrainedDetector], events: Events, first: int, progress: Progress
) -> list[npt.NDArray[np.float64]]:
    """float64[n] for each model, NaN for repeats and for most events before row `first`, which only move the state."""
    scorers = [Scorer(model) for model in models]
    scores = [np.full(len(events), np.nan) for _ in models]
    for start in range(0, len(events), SCORED_AT_ONCE):
        rows = np.arange(start, min(start + SCORED_AT_ONCE, len(events)))
        chunk = events.take(rows)
        for scorer, found in zip(scorers, scores, strict=True):
            if rows[-1] < first:
                scorer.fold(chunk)
            else:
                found[rows] = scorer.score(chunk).score
        progress("compare", (rows[-1] + 1) / len(events))
    return scores


def account_numbers(events: Events, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """int64[len(rows)], from 0."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(events.account_id[row], len(numbers)) for row in rows.tolist()], np.int64)


def budget_share(occurred_at: npt.NDArray[np.int64], alerts_per_day: float) -> float:
    """Alerts that the budget allows in the span of these events, over the events."""
    days = max((int(occurred_at[-1]) - int(occurred_at[0])) / MILLISECONDS_A_DAY, 1e-6)
    return min(max(alerts_per_day * days, 1.0) / len(occurred_at), 1.0)


def name_of(record: ModelRecord) -> str:
    return f"{record.name}:{record.version}"


def _milliseconds(time: datetime) -> int:
    return round(time.astimezone(UTC).timestamp() * 1000)
