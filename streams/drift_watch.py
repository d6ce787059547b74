"""Looks for drift beside the flow: the compute thread hands over a sample of what it scored, a watch compares it.

Inputs and scores are compared with the training's by population stability, from this worker's sample of the last day;
the level of scores by ADWIN, from what all workers counted. What drifted is recorded in SQL, where `headgate retrain`
looks, and shows in the metrics.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import structlog

from models.artifact import TrainedDetector
from models.drift import REFERENCE_NOTE, Found, SampledInputs, level_changes
from models.score_counts import MILLISECONDS_AN_HOUR, HourCounts, add_counts
from models.scoring import ScoredBatch, Scorer
from storage.database import Database
from storage.drifts import DriftRecord, record_drifts
from storage.score_sketches import sketches_from
from streams.health import FlowMetrics
from streams.score_counting import hour_counts

log = structlog.get_logger(__name__)

#: Every so many accepted events one is looked at.
SAMPLE_EVERY = 20
#: Sampled events that wait for a look, 70 MB of them: some 70,000 events a second. The oldest are dropped.
MOST_WAITING = 250_000
LOOK_SECONDS = 60.0
#: Looks from one reading of all workers' counts to the next.
LOOKS_AN_HOUR = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """Every so many of a batch's events: float32[m, F], float64[m], epoch milliseconds int64[m]."""

    model: str
    features: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    occurred_at: npt.NDArray[np.int64]


class WaitingSamples:
    """Put in by one thread, taken out by another; at most so many events in all."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._samples: deque[Sample] = deque()
        self._events = 0
        self._lock = threading.Lock()

    def put(self, sample: Sample) -> None:
        with self._lock:
            self._samples.append(sample)
            self._events += len(sample.scores)
            while self._events > self._most and len(self._samples) > 1:
                self._events -= len(self._samples.popleft().scores)

    def take(self) -> list[Sample]:
        """All of them, the oldest first."""
        with self._lock:
            taken, self._samples, self._events = self._samples, deque(), 0
        return list(taken)


class DriftWatch:
    def __init__(
        self,
        database: Database,
        metrics: FlowMetrics,
        clock: Callable[[], datetime],
        *,
        worker: str,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._worker = worker
        self._in_use: tuple[str, TrainedDetector] | None = None
        self._waiting = WaitingSamples()
        self._skip = 0
        self._sampled_model = ""
        self._inputs = SampledInputs({})
        self._looks = 0

    def sample(self, model: str, scorer: Scorer, scored: ScoredBatch) -> None:
        """On the compute thread, for each batch."""
        if self._in_use is None or self._in_use[0] != model:
            self._in_use = model, scorer.model
        accepted = scored.built.rows
        places = np.arange(self._skip, len(accepted), SAMPLE_EVERY)
        self._skip += len(places) * SAMPLE_EVERY - len(accepted)
        if len(places):
            rows = accepted[places]
            features = scored.built.features[places]
            self._waiting.put(Sample(model, features, scored.score[rows], scored.events.occurred_at[rows]))

    def look(self) -> None:
        """Compares what was sampled since the last look, and once an hour what was counted. Raises
        DatabaseUnavailable."""
        in_use = self._in_use
        if in_use is None:
            return
        model, detector = in_use
        self._take(model, detector)
        found = self._inputs.stability()
        if self._looks % LOOKS_AN_HOUR == 0:
            found += level_changes(self._counted(model), detector.threshold)
        self._looks += 1
        self._report(model, found)

    def _take(self, model: str, detector: TrainedDetector) -> None:
        """Moves the waiting samples into the last day's counts; those of another model are dropped."""
        if model != self._sampled_model:
            self._sampled_model, self._looks = model, 0
            self._inputs = SampledInputs(detector.notes.get(REFERENCE_NOTE, {}))
        samples = [sample for sample in self._waiting.take() if sample.model == model]
        if not samples:
            return
        # All at once: small batches leave thousands of samples, and each would keep Python's lock from the stream.
        features, scores, occurred_at = (
            np.concatenate([getattr(sample, name) for sample in samples])
            for name in ("features", "scores", "occurred_at")
        )
        hours = occurred_at // MILLISECONDS_AN_HOUR
        for hour in np.unique(hours).tolist():
            own = hours == hour
            self._inputs.add(hour, features[own], scores[own])

    def _counted(self, model: str) -> dict[int, HourCounts]:
        """The model's hours, over all partitions."""
        merged: dict[int, HourCounts] = {}
        with self._database.reading() as connection:
            for sketch in sketches_from(connection, None):
                if sketch.model == model:
                    hour, counts = hour_counts(sketch)
                    add_counts(merged, {hour: counts})
        return merged

    def _report(self, model: str, found: list[Found]) -> None:
        for one in found:
            self._metrics.drift(one.detector, one.subject, one.value)
        now = self._clock()
        drifted = [
            DriftRecord(model, one.detector, one.subject, now, one.value, one.bound, self._worker)
            for one in found
            if one.drifted
        ]
        if not drifted:
            return
        for record in record_drifts(self._database, drifted):
            self._metrics.drifted(record.detector)
            log.warning(
                "drift", model=model, detector=record.detector, subject=record.subject, value=round(record.value, 3)
            )
