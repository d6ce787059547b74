"""A challenger in the champion's shadow: scored on live traffic, stored as shadow, never alerting.

Which version it is, the registry says by the alias `shadow`; it is asked every two seconds, and the compute thread
takes the answer over between two batches. A shadow that cannot be loaded, or whose scores are no numbers, is dropped
with a word to the operator; nothing of what the champion does depends on it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import structlog

from models.artifact import BadModel, TrainedDetector
from models.scoring import IncompatibleModel, ScoredBatch, Scorer
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams.health import FlowMetrics
from streams.swap import Tell

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What the compute thread has to take over; without a record the shadow ends."""

    record: ModelRecord | None = None
    model: TrainedDetector | None = None


class ShadowWatch:
    """`look` is a background thread's, everything else the compute thread's."""

    def __init__(
        self,
        registry: ModelRegistry,
        model_name: str,
        metrics: FlowMetrics,
        tell: Tell,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._registry = registry
        self._model_name = model_name
        self._metrics = metrics
        self._tell = tell
        self._clock = clock
        self._seen: int | None = None
        self._change: Change | None = None
        self._to_withdraw: list[tuple[ModelRecord, str]] = []
        self._lock = threading.Lock()
        self._current: ModelRecord | None = None

    @property
    def name(self) -> str | None:
        """name:version of the model that scores in the shadow now."""
        return None if self._current is None else str(self._current)

    def look(self) -> None:
        """One look at the registry. Raises DatabaseUnavailable."""
        self._withdraw()
        shadow = self._registry.shadow(self._model_name)
        if (shadow.version if shadow else None) == self._seen:
            return
        change = Change() if shadow is None else self._loaded(shadow)
        self._seen = shadow.version if shadow else None
        with self._lock:
            self._change = change

    def take(self, scorer: Scorer) -> None:
        """Between two batches."""
        if self._change is None:  # the usual case, without the lock
            return
        with self._lock:
            change, self._change = self._change, None
        if change is None:
            return
        self._end(scorer)
        if change.record is None or change.model is None:
            return
        try:
            scorer.start_shadow(change.model)
        except IncompatibleModel as error:
            self._refuse(change.record, str(error))
            return
        self._current = change.record
        self._metrics.shadow_in_use(change.record.version)
        log.info("shadow begins", model=str(change.record))

    def checked(self, scorer: Scorer, scored: ScoredBatch) -> ScoredBatch:
        """The batch with the shadow's scores, unless these are no numbers."""
        if scored.shadow is None or np.isfinite(scored.shadow.score[scored.built.rows]).all():
            return scored
        if self._current is not None:
            self._refuse(self._current, "its scores are no numbers")
        self._end(scorer)
        return replace(scored, shadow=None)

    def _loaded(self, shadow: ModelRecord) -> Change:
        try:
            return Change(shadow, TrainedDetector.from_bytes(self._registry.load(shadow)))
        except (BadModel, CorruptModel) as error:
            self._refuse(shadow, str(error), withdraw=False)
            return Change()

    def _withdraw(self) -> None:
        while self._to_withdraw:
            self._registry.withdraw_shadow(*self._to_withdraw[0], self._clock)
            self._to_withdraw.pop(0)

    def _end(self, scorer: Scorer) -> None:
        if self._current is not None:
            scorer.stop_shadow()
            log.info("shadow ends", model=str(self._current))
            self._current = None
            self._metrics.shadow_in_use(0)

    def _refuse(self, record: ModelRecord, why: str, *, withdraw: bool = True) -> None:
        """withdraw: for what the model is, which is the same everywhere; not for what this worker cannot read."""
        if withdraw:
            self._to_withdraw.append((record, why))
        log.error("shadow refused", model=str(record), why=why)
        self._tell(f"model {record} scores no longer in the shadow of the champion: {why}; the champion goes on")
