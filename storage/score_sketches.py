"""How many events had which score in which hour, per partition and model: written with the batches that count them,
merged by every worker. What a bin means is the models package's business.

Each write adds what was counted since the one before and says up to which offset, so a write that is repeated adds
nothing, and what a killed worker had not written is counted again from its predictions.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, and_, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from storage.day_partitions import among_days_from
from storage.tables import Alert, Prediction, ScoreSketch

Counts = npt.NDArray[np.int64]
#: How long an hour is kept.
KEPT = timedelta(days=35)
#: Far beyond the bins that there are: a row cannot be made into more memory than that.
MOST_BINS_BYTES = 1 << 20


_COLUMNS = (
    ScoreSketch.model,
    ScoreSketch.hour,
    ScoreSketch.events,
    ScoreSketch.flagged,
    ScoreSketch.opened,
    ScoreSketch.latest_at,
    ScoreSketch.bins,
)
#: What a write changes.
_COUNTED = ("events", "flagged", "opened", "latest_at", "bins", "until_offset")


@dataclass(frozen=True, slots=True)
class SketchHour:
    """One model's events of one hour, of which `latest` is the time of the latest. bins int64[n]: events by score."""

    model: str
    hour: datetime
    events: int
    flagged: int
    opened: int
    latest: datetime
    bins: Counts


@dataclass(frozen=True, slots=True)
class ScoredColumns:
    """Stored predictions of one model as columns; times in epoch milliseconds; opened: whether the event opened an
    alert."""

    occurred_at: Counts
    scored_at: Counts
    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    opened: npt.NDArray[np.bool_]


def add_to_sketches(
    connection: Connection,
    topic_generation: int,
    partition: int,
    until_offset: int,
    counted: Sequence[SketchHour],
) -> bool:
    """Adds what was counted of a partition's events before until_offset; False where that was added already. For the
    transaction that owns the partition's progress."""
    known = counted_until(connection, topic_generation, partition)
    if not counted or (known is not None and known >= until_offset):
        return False
    stored = _stored_hours(connection, topic_generation, partition, counted)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(ScoreSketch)
    key = ["topic_generation", "source_partition", "model", "hour"]
    changed = {name: statement.excluded[name] for name in _COUNTED}
    rows = [
        {"topic_generation": topic_generation, "source_partition": partition, "until_offset": until_offset}
        | _values(_sum(stored.get((one.model, one.hour)), one))
        for one in counted
    ]
    # Few statements, since a worker that catches up counts many hours in each of many partitions at once.
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)
    connection.execute(
        delete(ScoreSketch).where(
            ScoreSketch.topic_generation == topic_generation,
            ScoreSketch.source_partition == partition,
            ScoreSketch.hour < max(one.hour for one in counted) - KEPT,
        )
    )
    return True


def counted_until(connection: Connection, topic_generation: int, partition: int) -> int | None:
    """Up to which offset the partition's events are counted; None where none is."""
    statement = select(func.max(ScoreSketch.until_offset)).where(
        ScoreSketch.topic_generation == topic_generation, ScoreSketch.source_partition == partition
    )
    found: int | None = connection.execute(statement).scalar()
    return found


def predictions_between(
    connection: Connection, topic_generation: int, partition: int, from_offset: int, before_offset: int
) -> dict[str, ScoredColumns]:
    """Model -> what it said of a partition's transactions in this range of offsets."""
    opened = and_(
        Alert.alert_id == Prediction.alert_id,
        Alert.revision == 1,
        Alert.source_offset == Prediction.source_offset,
    )
    statement = (
        select(
            Prediction.model,
            Prediction.occurred_at,
            Prediction.scored_at,
            Prediction.score,
            Prediction.flagged,
            Alert.alert_id,
        )
        .outerjoin(Alert, opened)
        .where(
            Prediction.topic_generation == topic_generation,
            Prediction.source_partition == partition,
            Prediction.source_offset >= from_offset,
            Prediction.source_offset < before_offset,
            *among_days_from(connection, Prediction, topic_generation, partition, from_offset),
        )
        .order_by(Prediction.source_offset)
    )
    by_model: dict[str, list[Any]] = {}
    for row in connection.execute(statement):
        by_model.setdefault(row.model, []).append(row)
    return {
        model: ScoredColumns(
            occurred_at=_milliseconds([row.occurred_at for row in rows]),
            scored_at=_milliseconds([row.scored_at for row in rows]),
            score=np.array([row.score for row in rows]),
            flagged=np.array([row.flagged for row in rows], np.bool_),
            opened=np.array([row.alert_id is not None for row in rows], np.bool_),
        )
        for model, rows in by_model.items()
    }


def sketches_from(connection: Connection, hour: datetime | None) -> Iterator[SketchHour]:
    """The sketches of all partitions from an hour on, None for all: each model and hour once for each partition."""
    statement = select(*_COLUMNS)
    if hour is not None:
        statement = statement.where(ScoreSketch.hour >= hour)
    for row in connection.execute(statement):
        yield _hour(row)


def _hour(row: Any) -> SketchHour:
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(row.bins, MOST_BINS_BYTES)
    if unpacking.unconsumed_tail:
        raise ValueError(f"the scores of {row.model} at {row.hour} take more than {MOST_BINS_BYTES:,} bytes")
    bins = np.frombuffer(unpacked, "<i4").astype(np.int64)
    return SketchHour(row.model, row.hour, row.events, row.flagged, row.opened, row.latest_at, bins)


def _stored_hours(
    connection: Connection, topic_generation: int, partition: int, counted: Sequence[SketchHour]
) -> dict[tuple[str, datetime], SketchHour]:
    """What is stored already of these hours, and perhaps of others between them."""
    hours = [one.hour for one in counted]
    statement = select(*_COLUMNS).where(
        ScoreSketch.topic_generation == topic_generation,
        ScoreSketch.source_partition == partition,
        ScoreSketch.model.in_({one.model for one in counted}),
        ScoreSketch.hour.between(min(hours), max(hours)),
    )
    return {(row.model, row.hour): _hour(row) for row in connection.execute(statement)}


def _values(total: SketchHour) -> dict[str, Any]:
    return {
        "model": total.model,
        "hour": total.hour,
        "events": total.events,
        "flagged": total.flagged,
        "opened": total.opened,
        "latest_at": total.latest,
        "bins": zlib.compress(total.bins.astype("<i4").tobytes(), 1),
    }


def _sum(stored: SketchHour | None, added: SketchHour) -> SketchHour:
    if stored is None:
        return added
    return SketchHour(
        added.model,
        added.hour,
        stored.events + added.events,
        stored.flagged + added.flagged,
        stored.opened + added.opened,
        max(stored.latest, added.latest),
        stored.bins + added.bins,
    )


def _milliseconds(times: Sequence[datetime]) -> Counts:
    return np.array([round(time.timestamp() * 1000) for time in times], np.int64)
