"""What a partition of engagements that was just claimed is restored from: its stored engagements and slates in SQL."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.engagements import ACTION_NUMBERS, Engagements
from storage.database import Database
from storage.engagement_history import EngagementColumns, SlateColumns, stored_engagements, stored_slates
from storage.progress import Claim, Control, latest_control
from streams.patience import Wait, patiently
from streams.records import MILLISECONDS_A_DAY

Found = TypeVar("Found")


class EngagementSource:
    """Reads over connections of its own; `wait` is called while the database is away."""

    def __init__(self, database: Database, wait: Wait) -> None:
        self._database = database
        self._wait = wait

    def patiently(self, read: Callable[[], Found]) -> Found:
        """For the reads below, whose caller has to begin again with them."""
        return patiently(read, self._wait)

    def control(self, claim: Claim, name: str) -> Control | None:
        """What the partition used last of something from outside its log, and from which offset on."""
        with self._database.reading() as connection:
            return latest_control(connection, claim.topic_generation, claim.partition, name)

    def engagements(self, claim: Claim, from_offset: int) -> Iterator[Engagements]:
        """The partition's stored engagements from an offset on, before the claim's next one, in offset order."""
        with self._database.reading() as connection:
            for columns in stored_engagements(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                from_offset=from_offset,
                before_offset=claim.next_offset,
            ):
                yield stored_as_engagements(columns)

    def slates(self, claim: Claim, from_offset: int) -> "StoredSlates":
        """The partition's stored slates from an offset on, before the claim's next one."""
        return StoredSlates(self._slates(claim, from_offset))

    def _slates(self, claim: Claim, from_offset: int) -> Iterator[SlateColumns]:
        with self._database.reading() as connection:
            yield from stored_slates(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                from_offset=from_offset,
                before_offset=claim.next_offset,
            )


class StoredSlates:
    """Slates in offset order, to be taken up to one offset after another."""

    def __init__(self, parts: Iterator[SlateColumns]) -> None:
        self._parts = parts
        self._part = SlateColumns(np.zeros(0, np.int64), [], np.zeros(0, np.int64))
        self._place = 0

    def until(self, offset: int) -> Iterator[tuple[list[str], npt.NDArray[np.int64]]]:
        """Who got a slate for an engagement before this offset, and when that occurred; of those not yet taken."""
        while True:
            begin, self._place = self._place, int(np.searchsorted(self._part.source_offset, offset))
            if begin < self._place:
                yield self._part.user_id[begin : self._place], self._part.occurred_at[begin : self._place]
            if self._place < len(self._part.user_id):
                return
            following = next(self._parts, None)
            if following is None:
                return
            self._part, self._place = following, 0


def stored_as_engagements(columns: EngagementColumns) -> Engagements:
    return Engagements(
        partition=columns.source_partition,
        offset=columns.source_offset,
        day=(columns.recorded_at // MILLISECONDS_A_DAY).astype(np.int32),
        event_id=columns.event_id,
        occurred_at=columns.occurred_at,
        user_id=columns.user_id,
        item_id=columns.item_id,
        action=np.array([ACTION_NUMBERS[name] for name in columns.action], np.int8),
        value=columns.value,
        recommendation_id=columns.recommendation_id,
    )
