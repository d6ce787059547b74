"""A challenger from a history, and the verdict on it against the champion: what `headgate retrain` does with the
history from SQL, and `headgate backtest` with what was known at a moment of one from files.

The latest matured events, later than anything the champion was trained on, are kept from the challenger's training;
both models score the whole history in order and are judged on those (models/gate.py). It knows neither SQL nor the
registry, and promotes nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifact import TrainedDetector
from models.checks import failed_checks
from models.events import MILLISECONDS_A_DAY
from models.gate import GateRules, JudgedEvents, Kind, Verdict, judge, too_few
from models.labels import History, LabelRelease, events_of, version_portions
from models.scoring import Scorer
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import PROBE_EVENTS, TrainingResult

SCORED_AT_ONCE = 8_192
DEFAULT_ALERTS_PER_DAY = 100.0
DEFAULT_HIDDEN = 64
#: A slice that judges or validates is at least so long (milliseconds), however many frauds it holds.
LEAST_SPAN = 3 * MILLISECONDS_A_DAY

Progress = Callable[[str, float], None]
Trainer = Callable[[History, TrainingConfig, Progress], TrainingResult]


@dataclass(frozen=True, slots=True)
class RetrainingRules:
    """label_horizon: the age from which an event without a label is legitimate. judged_share: of the matured events,
    the latest, which judge and never train; validation_share: of the others, the latest, which stop training and
    calibrate. Neither takes more than holds enough_frauds and LEAST_SPAN (None: no such bound). hidden and
    alerts_per_day: None takes the champion's."""

    label_horizon: timedelta = timedelta(days=7)
    judged_share: float = 0.2
    validation_share: float = 0.25
    enough_frauds: int | None = 300
    hidden: int | None = None
    alerts_per_day: float | None = None
    epochs: int = 12
    seed: int = 0
    gate: GateRules = field(default_factory=GateRules)


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The champion as far as a challenge needs it. trained_until: epoch milliseconds, no label of a later event taught
    it or judged it. alerts_per_day: None where it does not say."""

    model: TrainedDetector
    trained_until: int
    alerts_per_day: float | None


def taught_until(metrics: Mapping[str, Any], latest: int) -> int:
    """metrics: of a model's training; latest: the time of its latest event. A model of surprise alone was shown no
    fraud, so none is known to it: labels may judge it as soon as they come."""
    return 0 if metrics.get("frauds") == 0 else latest


@dataclass(frozen=True, slots=True)
class Challenge:
    """What came of it. result: None where there was too little to judge by, so that nothing was trained; taught: what
    the challenger was, or would have been, trained on."""

    verdict: Verdict
    taught: History
    result: TrainingResult | None = None


def first_training(history: History, rules: RetrainingRules, trainer: Trainer, progress: Progress) -> TrainingResult:
    """Whatever can be trained beats none, so all of the history teaches. Raises TrainingRefused."""
    config = with_validation(training_config(rules, None), history, rules)
    return trainer(history, config, progress)


def challenge(
    history: History,
    champion: Incumbent,
    rules: RetrainingRules,
    trainer: Trainer,
    progress: Progress,
    kind: Kind | None = None,
) -> Challenge:
    """kind: None for what the size says. Raises TrainingRefused."""
    taught, rows = split(history, champion.trained_until, rules)
    fraud, account = history.labels[rows] == 1, history.accounts.number[rows].astype(np.int64)
    config = with_validation(training_config(rules, champion), taught, rules)
    kind = kind or kind_of(config, champion)
    verdict = too_few(fraud, account, kind, rules.gate)
    if verdict is not None:  # before an hour of training rather than after it
        until = datetime.fromtimestamp(int(taught.occurred_at[-1]) / 1000, UTC)
        reason = f"{verdict.reason}, in matured events after {until:%Y-%m-%d %H:%M} UTC"
        return Challenge(replace(verdict, reason=reason), taught)
    result = trainer(taught, config, progress)
    failed = failed_checks(result.model, events_of(history, rows[-PROBE_EVENTS:]))
    if failed:
        raise TrainingRefused(f"the challenger is unfit for use: {'; '.join(failed)}")
    old, new = scores_of(champion.model, result.model, history, progress)
    known = np.isfinite(old[rows])  # a repeat of an event has no score
    judged = JudgedEvents(
        fraud[known],
        account[known],
        old[rows][known],
        new[rows][known],
        budget_share(history.occurred_at[rows], config.alerts_per_day),
    )
    return Challenge(judge(judged, kind, rules.gate, np.random.default_rng(rules.seed)), taught, result)


def split(history: History, champion_until: int, rules: RetrainingRules) -> tuple[History, npt.NDArray[np.intp]]:
    """What may teach, and the rows that judge: matured, later than all of that and than what the champion knew.
    champion_until in epoch milliseconds. Raises TrainingRefused."""
    times, labels = history.occurred_at, history.labels
    matured = labels >= 0
    if not (labels == 1).any():
        raise TrainingRefused(f"no fraud is known among {int(matured.sum())} matured events")
    cut = max(later_slice_begin(times, labels, rules.judged_share, rules.enough_frauds), champion_until)
    count = int(np.searchsorted(times, cut, "right"))
    return history.first(count), np.flatnonzero(matured & (times > cut))


def later_slice_begin(
    times: npt.NDArray[np.int64], labels: npt.NDArray[np.int8], share: float, enough_frauds: int | None
) -> int:
    """The time (epoch milliseconds) after which the later slice of a history begins: the share of its matured events,
    of which there are some, or fewer where these hold enough frauds over LEAST_SPAN."""
    matured, frauds = times[labels >= 0], times[labels == 1]
    begin = int(np.quantile(matured, 1 - share))
    if enough_frauds is None or len(frauds) <= enough_frauds:
        return begin
    return max(begin, min(int(frauds[-enough_frauds - 1]), int(matured[-1]) - LEAST_SPAN))


def with_validation(config: TrainingConfig, history: History, rules: RetrainingRules) -> TrainingConfig:
    """The same with the share that the rules keep for validation from what teaches."""
    times, labels = history.occurred_at, history.labels
    share = rules.validation_share
    if (labels == 1).any():
        matured = times[labels >= 0]
        share = float((matured > later_slice_begin(times, labels, share, rules.enough_frauds)).mean())
    return replace(config, validation_share=share)


def training_config(rules: RetrainingRules, champion: Incumbent | None) -> TrainingConfig:
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
    budget = rules.alerts_per_day or champion.alerts_per_day or DEFAULT_ALERTS_PER_DAY
    return replace(
        config, hidden=rules.hidden or own.hidden, alerts_per_day=budget, reporting_limit=own.reporting_limit
    )


def kind_of(config: TrainingConfig, champion: Incumbent) -> Kind:
    """Another size is a new design, and has to be better."""
    return "refresh" if config.hidden == champion.model.network.config.hidden else "design"


def scores_of(
    champion: TrainedDetector, challenger: TrainedDetector, history: History, progress: Progress
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """float64[n] each, NaN for repeats: both over the same features, with what labels said at each moment."""
    scorer, release, times = Scorer(champion), LabelRelease(history), history.occurred_at
    scorer.start_shadow(challenger)
    old, new = np.full(len(times), np.nan), np.full(len(times), np.nan)
    for rows, events in version_portions(history, SCORED_AT_ONCE):
        scorer.use_labels(release.knowledge(int(times[rows[0]])))
        scored = scorer.score(events)
        assert scored.shadow is not None
        old[rows], new[rows] = scored.score, scored.shadow.score
        release.note(rows[scored.built.rows], scored.built.unexplained)
        progress("compare", (int(rows[-1]) + 1) / len(times))
    return old, new


def budget_share(occurred_at: npt.NDArray[np.int64], alerts_per_day: float) -> float:
    """Alerts that the budget allows in the span of these events, over the events."""
    days = max((int(occurred_at[-1]) - int(occurred_at[0])) / MILLISECONDS_A_DAY, 1e-6)
    return min(max(alerts_per_day * days, 1.0) / len(occurred_at), 1.0)
