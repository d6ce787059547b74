"""A history replayed in event time through the very code that runs live: what would have been scored, alerted and
promoted had the service been there.

Batches go through Scorer.score and alerts through the AlertBook; a label is known only once the label horizon has
passed since its event; on schedule a challenger is trained and judged by the code of `headgate retrain` on what was
known at that moment, and takes over by Scorer.replace_model. State is in memory; no file, no service.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from models.alert_budget import AlertBudget
from models.events import MILLISECONDS_A_DAY, Events
from models.gate import Verdict
from models.labels import VERSION_INTERVAL, History, LabelledHistory, LabelRelease, milliseconds
from models.scoring import ScoredBatch, Scorer
from models.sequences import TrainingRefused
from models.train_detector import TrainingResult
from ops.jobs.challenge import (
    DEFAULT_ALERTS_PER_DAY,
    Incumbent,
    Progress,
    RetrainingRules,
    Trainer,
    challenge,
    first_training,
    taught_until,
)
from ops.jobs.train import train_on_one_thread, trained_until
from streams.alerts import AlertBook, FlaggedEvent
from streams.detection import MODEL_NAME
from streams.probation import failed_trial

SCORED_AT_ONCE = 8_192
#: The alert threshold is brought up to date so often (milliseconds).
THRESHOLD_INTERVAL = 10 * 60_000
Rows = npt.NDArray[np.intp]


class BacktestRefused(Exception):
    """This history cannot be replayed; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """The first training takes place retrain_from (None: retrain_every) after the midnight, UTC, before the first
    event, the next ones every retrain_every. rules.label_horizon is the labels' delay. fold_within: as the worker's
    setting, milliseconds."""

    retrain_every: timedelta = timedelta(days=7)
    retrain_from: timedelta | None = None
    rules: RetrainingRules = field(default_factory=RetrainingRules)
    fold_within: int = 30 * 60_000

    @property
    def alerts_per_day(self) -> float:
        return self.rules.alerts_per_day or DEFAULT_ALERTS_PER_DAY


@dataclass(frozen=True, slots=True)
class TrainingPass:
    """at: epoch milliseconds. champion: before it. model: what was trained, None where nothing was; it took over where
    `promoted` says so. decision: as of a pass of `headgate retrain`, or "refused" where the history could not teach."""

    at: int
    champion: str | None
    model: str | None
    decision: str
    reason: str
    verdict: Verdict | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def promoted(self) -> bool:
        return self.decision in ("first model", "promote")


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """Of n events in the order of time. score float64[n], NaN before the first model and for repeats; threshold
    float64[n], NaN before the first model; flagged bool[n]; alert int64[n]: the row whose event opened the alert that
    the event belongs to, -1 for none; model int32[n]: place in `models`, -1 before the first."""

    score: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    alert: npt.NDArray[np.int64]
    model: npt.NDArray[np.int32]
    models: tuple[str, ...]
    score_kinds: tuple[str, ...]
    passes: tuple[TrainingPass, ...]

    @property
    def model_names(self) -> list[str | None]:
        names = np.array([*self.models, None], object)  # -1 is the last
        found: list[str | None] = names[self.model].tolist()
        return found

    @property
    def opened(self) -> npt.NDArray[np.bool_]:
        """bool[n]: events that opened an alert."""
        rows: npt.NDArray[np.bool_] = self.alert == np.arange(len(self.alert))
        return rows


def backtest(
    events: Events,
    fraud: npt.NDArray[np.bool_] | None,
    options: BacktestOptions,
    progress: Progress,
    trainer: Trainer = train_on_one_thread,
) -> BacktestResult:
    """events in the order of time; fraud bool[n], None where no label ever comes. Raises BacktestRefused."""
    check(events, fraud, options)
    replay = Replay(events, fraud, options, progress, trainer)
    times = events.occurred_at
    due = training_times(times, options)
    for rows in batches(times, [*due, *label_versions(times)]):
        while due and due[0] <= times[rows[0]]:
            replay.train(due.pop(0))
        replay.score(rows)
        progress("replay", (int(rows[-1]) + 1) / len(events))
    return replay.result()


def check(events: Events, fraud: npt.NDArray[np.bool_] | None, options: BacktestOptions) -> None:
    if not len(events):
        raise BacktestRefused("there are no transactions")
    if (np.diff(events.occurred_at) < 0).any():
        raise BacktestRefused("events must be in the order of their time")
    if fraud is not None and len(fraud) != len(events):
        raise BacktestRefused(f"{len(fraud)} labels for {len(events)} events")
    if fraud is not None and not fraud.any():
        raise BacktestRefused("no transaction is labelled as fraud; without a labels file the backtest needs none")
    if not training_times(events.occurred_at, options):
        first, last = (day_of(int(events.occurred_at[row])) for row in (0, -1))
        wait = options.retrain_from or options.retrain_every
        raise BacktestRefused(f"the history ({first} to {last}) ends before the first training, {days(wait)} from it")


def training_times(times: npt.NDArray[np.int64], options: BacktestOptions) -> list[int]:
    """Epoch milliseconds, up to the last event."""
    origin = int(times[0]) // MILLISECONDS_A_DAY * MILLISECONDS_A_DAY
    wait, every = options.retrain_from or options.retrain_every, options.retrain_every
    return list(range(origin + milliseconds(wait), int(times[-1]) + 1, milliseconds(every)))


def label_versions(times: npt.NDArray[np.int64]) -> list[int]:
    """The moments at which what labels say of merchants is brought up to date."""
    return [int(version) * VERSION_INTERVAL for version in np.unique(times // VERSION_INTERVAL)]


def batches(times: npt.NDArray[np.int64], cuts: list[int]) -> Iterator[Rows]:
    """The rows in order, at most SCORED_AT_ONCE together, none across a cut: what happens at that very moment is
    after it."""
    ends = np.unique([*np.searchsorted(times, np.unique(np.array(cuts, np.int64)), "left").tolist(), len(times)])
    start = 0
    for end in ends.tolist():
        for first in range(start, end, SCORED_AT_ONCE):
            yield np.arange(first, min(first + SCORED_AT_ONCE, end))
        start = end


def steps(times: npt.NDArray[np.int64]) -> list[Rows]:
    """The places of a batch, those together that share a threshold."""
    return np.split(np.arange(len(times)), np.flatnonzero(np.diff(times // THRESHOLD_INTERVAL)) + 1)


class Replay:
    """What a worker and a registry would hold, and what came of the events so far."""

    def __init__(
        self,
        events: Events,
        fraud: npt.NDArray[np.bool_] | None,
        options: BacktestOptions,
        progress: Progress,
        trainer: Trainer,
    ) -> None:
        count = len(events)
        self._events, self._options = events, options
        labels = np.full(count, -1, np.int8) if fraud is None else fraud.astype(np.int8)
        self._labelled = LabelledHistory.matured(events, labels, options.rules.label_horizon)
        self._release = LabelRelease(self._labelled)
        self._progress, self._trainer = progress, trainer
        self._scorer: Scorer | None = None
        self._champion: Incumbent | None = None
        self._book = AlertBook(fold_within=options.fold_within)
        self._budget = AlertBudget(options.alerts_per_day)
        self._trained = 0
        self._models: list[str] = []
        self._kinds: list[str] = []
        self._passes: list[TrainingPass] = []
        self._score, self._threshold = np.full(count, np.nan), np.full(count, np.nan)
        self._flagged = np.zeros(count, np.bool_)
        self._alert = np.full(count, -1, np.int64)
        self._model = np.full(count, -1, np.int32)

    def result(self) -> BacktestResult:
        """Raises BacktestRefused where no model came of any training."""
        if not self._models:
            tried = self._passes[-1]
            raise BacktestRefused(f"no model could be trained; on {day_of(tried.at)}: {tried.reason}")
        return BacktestResult(
            self._score,
            self._threshold,
            self._flagged,
            self._alert,
            self._model,
            tuple(self._models),
            tuple(self._kinds),
            tuple(self._passes),
        )

    def score(self, rows: Rows) -> None:
        if self._scorer is None:
            return
        events = self._events.take(rows)
        self._scorer.use_labels(self._release.knowledge(int(events.occurred_at[0])))
        scored = self._scorer.score(events)
        self._release.note(rows[scored.built.rows], scored.built.unexplained)
        self._score[rows] = scored.score
        self._model[rows] = len(self._models) - 1
        for some in steps(events.occurred_at):
            self._decide(scored, some, int(rows[0]))
        self._book.close_before(int(events.occurred_at[-1]))

    def train(self, now: int) -> None:
        """A pass of `headgate retrain` at a moment (epoch milliseconds)."""
        before = self._models[-1] if self._models else None
        try:
            found = self._first(now) if self._champion is None else self._challenge(now, self._champion)
        except TrainingRefused as refusal:
            found = TrainingPass(now, before, None, "refused", str(refusal))
        self._passes.append(found)

    def history(self, now: int) -> LabelledHistory:
        """What happened before a moment, and what was known of it."""
        return self._labelled.as_of(now)

    def _first(self, now: int) -> TrainingPass:
        history = self.history(now)
        result = first_training(history, self._options.rules, self._trainer, self._progress)
        self._scorer = Scorer(result.model)
        for rows in batches(history.events.occurred_at, []):  # as of a worker that starts with a history in SQL
            built = self._scorer.remember(history.events.take(rows))
            self._release.note(rows[built.rows], built.unexplained)
        name = self._take_over(result, history)
        return TrainingPass(now, None, name, "first model", "there was no champion", metrics=result.metrics)

    def _challenge(self, now: int, champion: Incumbent) -> TrainingPass:
        before = self._models[-1]
        found = challenge(self.history(now), champion, self._options.rules, self._trainer, self._progress)
        verdict = found.verdict
        if found.result is None:
            return TrainingPass(now, before, None, verdict.decision, verdict.reason, verdict)
        decision, reason = verdict.decision, verdict.reason
        if decision == "promote":
            problem = self._problem(found.result)
            if problem is not None:
                decision, reason = "refuse", f"promoted, but refused by the worker: {problem}"
        if decision == "promote":
            assert self._scorer is not None
            self._scorer.replace_model(found.result.model)
            name = self._take_over(found.result, found.taught)
        else:
            name = self._next_name()
        return TrainingPass(now, before, name, decision, reason, verdict, found.result.metrics)

    def _problem(self, result: TrainingResult) -> str | None:
        """What a worker would have against the new model when it is to take it over."""
        assert self._scorer is not None
        share = result.metrics["alerts_per_day"] / result.metrics["events_per_day"]
        return failed_trial(self._scorer.trial(result.model), self._scorer.trial(self._scorer.model), share)

    def _take_over(self, result: TrainingResult, taught: History) -> str:
        until = taught_until(result.metrics, round(trained_until(taught).timestamp() * 1000))
        self._champion = Incumbent(result.model, until, result.metrics["alerts_per_day"])
        self._models.append(self._next_name())
        self._kinds.append(result.model.calibration.kind)
        self._budget.use_model(self._models[-1], result.model.threshold)
        return self._models[-1]

    def _next_name(self) -> str:
        """As the registry counts: what was refused has a version too."""
        self._trained += 1
        return f"{MODEL_NAME}:{self._trained}"

    def _decide(self, scored: ScoredBatch, places: Rows, first: int) -> None:
        """Flags the events at some places of the batch, by the threshold of their moment, and raises alerts; first:
        the row of the batch's first event. An alert is called by the row of the event that opened it."""
        events, rows = scored.events, first + places
        time, score = events.occurred_at[places], scored.score[places]
        threshold = self._budget.threshold(int(time[0]))
        flagged = score >= threshold
        for place in places[flagged].tolist():
            event = self._flagged_event(scored, place, threshold)
            self._alert[first + place] = int(self._book.apply(event, str(first + place))[-1].alert_id)
        self._threshold[rows], self._flagged[rows] = threshold, flagged
        self._budget.observe(time, score, flagged, self._alert[rows] == rows)

    def _flagged_event(self, scored: ScoredBatch, place: int, threshold: float) -> FlaggedEvent:
        events = scored.events
        return FlaggedEvent(
            event_id=events.event_id[place],
            account_id=events.account_id[place],
            offset=int(events.offset[place]),
            occurred_at=int(events.occurred_at[place]),
            scored_at=int(events.occurred_at[place]),
            amount=float(events.amount[place]),
            score=float(scored.score[place]),
            score_kind=scored.score_kind,
            threshold=threshold,
            model=self._models[-1],
        )


def day_of(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d}"


def days(span: timedelta) -> str:
    return f"{span.total_seconds() / 86_400:g} days"
