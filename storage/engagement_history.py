"""What is stored of one partition's engagements and slates, in the order of its log: what a worker restores from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from storage.day_partitions import among_days_from
from storage.streaming import milliseconds, streamed
from storage.tables import Engagement, Recommendation

Int64s = npt.NDArray[np.int64]
ROWS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class EngagementColumns:
    """Rows of `engagements` as columns; times in epoch milliseconds, value NaN for none, action by its name."""

    source_partition: npt.NDArray[np.int32]
    source_offset: Int64s
    occurred_at: Int64s
    recorded_at: Int64s
    value: npt.NDArray[np.float64]
    event_id: list[str]
    user_id: list[str]
    item_id: list[str]
    action: list[str]
    recommendation_id: list[str | None]

    def __len__(self) -> int:
        return len(self.event_id)


COLUMN_NAMES = tuple(EngagementColumns.__dataclass_fields__)


def stored_engagements(
    connection: Connection,
    *,
    topic_generation: int,
    partition: int,
    before_offset: int,
    from_offset: int = 0,
    batch_rows: int = ROWS_AT_ONCE,
) -> Iterator[EngagementColumns]:
    """One partition's engagements from an offset on and before another, in offset order."""
    statement = (
        select(*(getattr(Engagement, name) for name in COLUMN_NAMES))
        .where(
            Engagement.topic_generation == topic_generation,
            Engagement.source_partition == partition,
            Engagement.source_offset >= from_offset,
            Engagement.source_offset < before_offset,
            *among_days_from(connection, Engagement, topic_generation, partition, from_offset),
        )
        .order_by(Engagement.source_offset)
    )
    for rows in streamed(connection, statement, batch_rows):
        yield as_columns(rows)


def as_columns(rows: Sequence[Sequence[Any]]) -> EngagementColumns:
    """Of rows that hold COLUMN_NAMES."""
    columns = dict(zip(COLUMN_NAMES, zip(*rows, strict=True), strict=True))
    return EngagementColumns(
        source_partition=np.array(columns["source_partition"], np.int32),
        source_offset=np.array(columns["source_offset"], np.int64),
        occurred_at=milliseconds(columns["occurred_at"]),
        recorded_at=milliseconds(columns["recorded_at"]),
        value=np.array(columns["value"], np.float64),
        **{name: list(columns[name]) for name in ("event_id", "user_id", "item_id", "action", "recommendation_id")},
    )


@dataclass(frozen=True, slots=True)
class SlateColumns:
    """Who got a slate for the engagement at which offset and time (epoch milliseconds)."""

    source_offset: Int64s
    user_id: list[str]
    occurred_at: Int64s


def stored_slates(
    connection: Connection,
    *,
    topic_generation: int,
    partition: int,
    before_offset: int,
    from_offset: int = 0,
    batch_rows: int = ROWS_AT_ONCE,
) -> Iterator[SlateColumns]:
    """One partition's slates from an offset on and before another, in offset order."""
    statement = (
        select(Recommendation.source_offset, Recommendation.user_id, Recommendation.occurred_at)
        .where(
            Recommendation.topic_generation == topic_generation,
            Recommendation.source_partition == partition,
            Recommendation.source_offset >= from_offset,
            Recommendation.source_offset < before_offset,
            *among_days_from(connection, Recommendation, topic_generation, partition, from_offset),
        )
        .order_by(Recommendation.source_offset)
    )
    for rows in streamed(connection, statement, batch_rows):
        offsets, users, times = zip(*rows, strict=True)
        yield SlateColumns(np.array(offsets, np.int64), list(users), milliseconds(times))
