"""What a partition counts of its scores between two writes to SQL: `score_sketches`, which thresholds are made from.

Lives on the compute thread; the counts go with a batch into its transaction, a few seconds' worth at once. A worker
that is killed before loses none: whoever claims the partition counts the predictions since the last write again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from models.score_counts import MILLISECONDS_AN_HOUR, HourCounts, ScoreHistory, count_scores
from storage.progress import Claim
from storage.score_sketches import ScoredColumns, SketchHour, add_to_sketches

WRITE_SECONDS = 10.0
#: Counts of so many events are written before the time is over: they are what a claim may have to count again.
MOST_EVENTS = 100_000


@dataclass(slots=True)
class PartitionCounts:
    """alert_max_age: milliseconds; an older event cannot alert and is not counted."""

    alert_max_age: int
    pending: ScoreHistory = field(default_factory=ScoreHistory)
    events: int = 0
    written_at: float = 0.0

    def count(self, model: str, scored: ScoredColumns) -> None:
        score = scored.score
        young = scored.occurred_at >= scored.scored_at - self.alert_max_age
        if not young.all():
            score = np.where(young, score, np.nan)
        counted = count_scores(scored.occurred_at, score, scored.flagged, scored.opened)
        self.pending.add(model, counted)
        self.events += sum(counts.events for counts in counted.values())

    def due(self, claim: Claim, position: int, now: float) -> "WriteScoreCounts | None":
        """What the batch that ends before this offset has to write, if it is time; it counts as written then."""
        if not self.events or (now - self.written_at < WRITE_SECONDS and self.events < MOST_EVENTS):
            return None
        write = WriteScoreCounts(claim.topic_generation, claim.partition, position, sketch_hours(self.pending))
        self.pending, self.events, self.written_at = ScoreHistory(), 0, now
        return write


@dataclass(frozen=True, slots=True)
class WriteScoreCounts:
    """Adds counts to the sketches of a partition, in a batch's transaction. Repeated, it adds nothing."""

    topic_generation: int
    partition: int
    until_offset: int
    hours: Sequence[SketchHour]

    def __call__(self, connection: Connection) -> None:
        add_to_sketches(connection, self.topic_generation, self.partition, self.until_offset, self.hours)


def recounted(alert_max_age: int, by_model: Mapping[str, ScoredColumns]) -> PartitionCounts:
    """What was not yet written of predictions that are stored."""
    counts = PartitionCounts(alert_max_age)
    for model, scored in by_model.items():
        counts.count(model, scored)
    return counts


def scored_columns(
    occurred_at: npt.NDArray[np.int64],
    scored_at: int,
    score: npt.NDArray[np.float64],
    flagged: npt.NDArray[np.bool_],
    opened: Sequence[int],
) -> ScoredColumns:
    """A batch's part of one partition; opened: the rows that opened an alert."""
    opening = np.zeros(len(score), np.bool_)
    opening[list(opened)] = True
    return ScoredColumns(occurred_at, np.full(len(score), scored_at, np.int64), score, flagged, opening)


def sketch_hours(history: ScoreHistory) -> list[SketchHour]:
    return [
        SketchHour(
            model=model,
            hour=_moment(hour * MILLISECONDS_AN_HOUR),
            events=counts.events,
            flagged=counts.flagged,
            opened=counts.opened,
            latest=_moment(counts.latest),
            bins=counts.bins,
        )
        for model, hours in history.models.items()
        for hour, counts in sorted(hours.items())
    ]


def hour_counts(sketch: SketchHour) -> tuple[int, HourCounts]:
    """Epoch hour and counts of a stored sketch."""
    latest = round(sketch.latest.timestamp() * 1000)
    counts = HourCounts(sketch.events, sketch.flagged, sketch.opened, latest, sketch.bins)
    return round(sketch.hour.timestamp()) // 3600, counts


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
