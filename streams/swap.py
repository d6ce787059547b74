"""New weights between two batches, and back: a thread finds and loads a new champion, the compute thread takes it over.

The registry says who is champion; it is asked every two seconds. A file that is missing, damaged, foreign or made for
other features is refused: the model in use goes on, and the operator is told. A model whose answers are no numbers, or
alert far beyond its budget and the model before it (streams/probation.py), is taken back as well, in its trial or
later: the worker goes on with the model before it at once, and the thread has the registry make that one the champion
again, for all workers. On the path of a batch are the trial, the exchange of a reference, and a look at the scores.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.artifact import BadModel, TrainedDetector
from models.events import Events
from models.scoring import IncompatibleModel, ScoredBatch, Scorer
from storage.database import DatabaseUnavailable
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams.health import FlowMetrics
from streams.probation import Probation, Tally, failed_trial, jump, no_numbers

log = structlog.get_logger(__name__)

ASK_SECONDS = 2.0

#: Tells the operator; must not raise.
Tell = Callable[[str], None]
#: A version as it was promoted once: promoted again, it is another.
Promotion = tuple[int, datetime | None]


class ModelFailed(Exception):
    """The model's scores are no numbers, and there is no other to score with."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A loaded champion. alert_share: of the events, how many its budget flags; None where that is unknown."""

    record: ModelRecord
    model: TrainedDetector
    alert_share: float | None


def replacement_of(registry: ModelRegistry, record: ModelRecord) -> Replacement:
    """Raises BadModel, CorruptModel."""
    model = TrainedDetector.from_bytes(registry.load(record))
    alerts, events = (record.metrics.get(name) for name in ("alerts_per_day", "events_per_day"))
    return Replacement(record, model, alerts / events if alerts and events else None)


class ChampionWatch:
    """`look` is the thread's, everything else the compute thread's. A promotion that was refused or taken back is not
    tried again; a later one of the same version is."""

    def __init__(
        self,
        registry: ModelRegistry,
        current: ModelRecord,
        metrics: FlowMetrics,
        tell: Tell,
        *,
        clock: Callable[[], datetime],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """changed: called on the thread when another version has become champion."""
        self._registry = registry
        self._metrics = metrics
        self._tell = tell
        self._clock = clock
        self._changed = changed
        self._current = current
        self._seen = _promotion(current)
        self._ready: Replacement | None = None
        self._before: Replacement | None = None
        self._looked_before: Promotion | None = None
        self._to_withdraw: list[tuple[ModelRecord, str]] = []
        self._lock = threading.Lock()
        self._proven = {current.version}
        self._tally = Tally()
        self._probation: Probation | None = None
        metrics.model_in_use(current.version)

    def look(self) -> None:
        """One look at the registry. Raises DatabaseUnavailable."""
        self._withdraw()
        champion = self._registry.champion(self._current.name)
        if champion is not None and _promotion(champion) != self._seen:
            self._seen = _promotion(champion)
            self._changed()
            self._prepare(champion)
        self._prepare_way_back()

    def take(self, scorer: Scorer) -> str | None:
        """Puts a waiting champion into the scorer, between two batches; its name, or None where nothing changed."""
        if self._ready is None:  # the usual case, without the lock
            return None
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is None:
            return None
        with self._metrics.swapping():
            try:
                problem, expected_share = self._tried(scorer, ready)
                if problem is not None:
                    self._refuse(ready.record, problem, withdraw=True)
                    return None
                before = scorer.model
                scorer.replace_model(ready.model)
            except IncompatibleModel as error:
                self._refuse(ready.record, str(error))
                return None
        probation = None if self._may_alert_freely(ready.record) else Probation(expected_share)
        with self._lock:
            self._before = Replacement(self._current, before, None)
        self._use(ready.record, "activated", probation)
        return str(ready.record)

    def score(self, scorer: Scorer, events: Events) -> tuple[ScoredBatch, str | None]:
        """The batch as it may be committed, and the name of the model that took over for it, or None. Raises
        ModelFailed."""
        scored = scorer.score(events)
        problem, name = self._problem(scored), None
        while problem is not None:
            before = self._step_back(scorer, problem)
            scored, name = scorer.score_again(scored, before.model), str(before.record)
            problem = no_numbers(scored)
        return scored, name

    def _prepare(self, champion: ModelRecord) -> None:
        """Has a champion ready for `take`, unless it is in use already."""
        ready = None
        if champion.version != self._current.version:
            try:
                ready = replacement_of(self._registry, champion)
            except (BadModel, CorruptModel) as error:
                self._refuse(champion, str(error))
        with self._lock:
            self._ready = ready
            if champion.version == self._current.version:
                self._current = champion

    def _prepare_way_back(self) -> None:
        """The version before the one in use, where none was replaced by it in this process."""
        current = self._current
        if self._before is not None or self._looked_before == _promotion(current):
            return
        before = self._readable_before(current)
        self._looked_before = _promotion(current)
        with self._lock:
            if self._before is None and self._current is current:
                self._before = before

    def _readable_before(self, record: ModelRecord) -> Replacement | None:
        before = self._registry.before(record)
        while before is not None:
            try:
                return replacement_of(self._registry, before)
            except (BadModel, CorruptModel) as error:
                log.warning("no way back to this model", model=str(before), error=str(error))
            before = self._registry.before(before)
        return None

    def _look_back(self) -> None:
        """As the thread does, when there is no time to wait for it."""
        try:
            self._prepare_way_back()
        except DatabaseUnavailable as error:
            log.warning("cannot look for the model before the one in use", error=str(error))

    def _withdraw(self) -> None:
        """The latest first: of two, the earlier one must not become champion in place of the later."""
        while self._to_withdraw:
            record, why = self._to_withdraw[-1]
            champion = self._registry.withdraw(record, why, self._clock)
            if champion is not None:
                log.warning("rolled back in the registry", model=str(record), champion=str(champion), why=why)
            self._to_withdraw.remove((record, why))

    def _may_alert_freely(self, record: ModelRecord) -> bool:
        """A version that was in use before, or that someone insists on: who rolls back in a wave of frauds must not be
        stopped by the wave."""
        return record.version in self._proven or record.insisted_on

    def _tried(self, scorer: Scorer, ready: Replacement) -> tuple[str | None, float]:
        """What is wrong with a model's answers about the latest events, and the share it may be expected to flag."""
        trial = scorer.trial(ready.model)
        in_use = trial if self._may_alert_freely(ready.record) else scorer.trial(scorer.model)
        expected = max(ready.alert_share or 0.0, in_use.flagged_share, self._tally.share)
        return failed_trial(trial, in_use, ready.alert_share), expected

    def _problem(self, scored: ScoredBatch) -> str | None:
        events, flagged = len(scored.built.rows), int(scored.flagged.sum())
        problem = no_numbers(scored)
        if problem is None and self._probation is not None:
            problem = jump(self._probation, events, flagged)
            self._probation = self._probation.plus(events, flagged)
        self._tally = self._tally.plus(events, flagged)
        return problem

    def _step_back(self, scorer: Scorer, why: str) -> Replacement:
        """The model before the one in use, which is withdrawn. On probation there always is one."""
        bad = self._current
        if self._before is None:
            self._look_back()
        with self._lock:
            before, self._before = self._before, None
        if before is None or not scorer.can_take(before.model):
            raise ModelFailed(f"{bad}: {why}, and there is no model to go back to; promote a sound one")
        self._to_withdraw.append((bad, why))
        self._use(before.record, "rolled_back", None)
        log.error("model taken back", model=str(bad), why=why, instead=str(before.record))
        self._tell(f"model {bad} is taken back: {why}; {before.record} goes on")
        return before

    def _use(self, record: ModelRecord, outcome: str, probation: Probation | None) -> None:
        with self._lock:
            self._current = record
        self._proven.add(record.version)
        self._tally, self._probation = Tally(), probation
        log.info("model replaced", model=str(record))
        self._metrics.model_swapped(outcome)
        self._metrics.model_in_use(record.version)

    def _refuse(self, record: ModelRecord, why: str, *, withdraw: bool = False) -> None:
        """withdraw: for what the model says, which is the same everywhere; not for what this worker cannot read."""
        if withdraw:
            self._to_withdraw.append((record, why))
        log.error("model refused", model=str(record), why=why)
        self._metrics.model_swapped("refused")
        self._tell(f"model {record} is refused: {why}; the model in use goes on")


def _promotion(record: ModelRecord) -> Promotion:
    return record.version, record.promoted_at
