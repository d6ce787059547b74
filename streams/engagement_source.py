"""What a partition of engagements that was just claimed is restored from: its stored engagements and slates in SQL."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from models.engagements import ACTION_NUMBERS, Engagements
from storage.database import Database
from storage.engagement_history import EngagementColumns, SlateColumns, stored_engagements, stored_slates
from storage.partition_counts import count_of
from storage.progress import Claim, Control, latest_control
from streams.patience import Wait, patiently
from streams.records import MILLISECONDS_A_DAY
from streams.rescaled import ROWS_AT_ONCE, Beginning, ReadStored, Stored, beginning, since_rescale

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
        """What the partition used last of something from outside its log, and from which offset on: not before the
        latest rescale, from which every state goes on with its ring alone."""
        with self._database.reading() as connection:
            control = latest_control(connection, claim.topic_generation, claim.partition, name)
            return since_rescale(control, beginning(claim, count_of(connection, claim)))

    def engagements(self, claim: Claim, from_offset: int) -> Iterator[Engagements]:
        """What the partition's state is folded from beyond an offset, in order: its stored engagements before the
        claim's next offset. From 0 on, where the topic was rescaled, those of other partitions come before them."""
        with self._database.reading() as connection:
            stored = self._answered(connection, claim)
            begin = self._beginning(connection, claim, from_offset, stored)
            for numbers, rows in () if begin is None else begin.rows(stored, AnsweredEngagements.concatenate):
                partition = np.full(len(rows), claim.partition, np.int32)
                yield replace(rows.events, partition=partition, offset=numbers)
            for columns in stored_engagements(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                from_offset=from_offset if begin is None else begin.boundary,
                before_offset=claim.next_offset,
            ):
                yield stored_as_engagements(columns)

    def slates(self, claim: Claim, from_offset: int) -> "StoredSlates":
        """The slates that answered the engagements from an offset on, under the offsets that these have."""
        return StoredSlates(self._slates(claim, from_offset))

    def _slates(self, claim: Claim, from_offset: int) -> Iterator[SlateColumns]:
        with self._database.reading() as connection:
            stored = self._answered(connection, claim)
            begin = self._beginning(connection, claim, from_offset, stored)
            for numbers, rows in () if begin is None else begin.rows(stored, AnsweredEngagements.concatenate):
                answered = np.flatnonzero(rows.answered)
                users = [rows.events.user_id[row] for row in answered.tolist()]
                yield SlateColumns(numbers[answered], users, rows.events.occurred_at[answered])
            yield from stored_slates(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                from_offset=from_offset if begin is None else begin.boundary,
                before_offset=claim.next_offset,
            )

    @staticmethod
    def _beginning(
        connection: Connection, claim: Claim, from_offset: int, stored: "ReadStored[AnsweredEngagements]"
    ) -> Beginning | None:
        """Where other partitions' engagements belong to the fold."""
        begin = beginning(claim, count_of(connection, claim)) if from_offset == 0 else None
        return begin if begin is not None and begin.has_others(stored) else None

    @staticmethod
    def _answered(connection: Connection, claim: Claim) -> "ReadStored[AnsweredEngagements]":
        def stored(partition: int, before_offset: int) -> "Iterator[Stored[AnsweredEngagements]]":
            place = {
                "topic_generation": claim.topic_generation,
                "partition": partition,
                "before_offset": before_offset,
                "batch_rows": ROWS_AT_ONCE,
            }
            slates = StoredSlates(stored_slates(connection, **place))
            for columns in stored_engagements(connection, **place):
                offsets = columns.source_offset
                answered = np.isin(offsets, slates.offsets_until(int(offsets[-1]) + 1))
                rows = AnsweredEngagements(stored_as_engagements(columns), answered)
                yield columns.recorded_at, columns.user_id, rows

        return stored


@dataclass(frozen=True, slots=True)
class AnsweredEngagements:
    """answered bool[n]: whether a slate answered it."""

    events: Engagements
    answered: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.events)

    def take(self, rows: npt.NDArray[Any]) -> "AnsweredEngagements":
        return AnsweredEngagements(self.events.take(rows), self.answered[rows])

    @staticmethod
    def concatenate(parts: Sequence["AnsweredEngagements"]) -> "AnsweredEngagements":
        return AnsweredEngagements(
            Engagements.concatenate([part.events for part in parts]),
            np.concatenate([part.answered for part in parts]),
        )


class StoredSlates:
    """Slates in offset order, to be taken up to one offset after another."""

    def __init__(self, parts: Iterator[SlateColumns]) -> None:
        self._parts = parts
        self._part = SlateColumns(np.zeros(0, np.int64), [], np.zeros(0, np.int64))
        self._place = 0

    def until(self, offset: int) -> Iterator[tuple[list[str], npt.NDArray[np.int64]]]:
        """Who got a slate for an engagement before this offset, and when that occurred; of those not yet taken."""
        for part, rows in self._taken(offset):
            yield part.user_id[rows], part.occurred_at[rows]

    def offsets_until(self, offset: int) -> npt.NDArray[np.int64]:
        """Of the engagements before this offset that a slate answered; of those not yet taken."""
        found = [part.source_offset[rows] for part, rows in self._taken(offset)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def _taken(self, offset: int) -> Iterator[tuple[SlateColumns, slice]]:
        while True:
            begin, self._place = self._place, int(np.searchsorted(self._part.source_offset, offset))
            if begin < self._place:
                yield self._part, slice(begin, self._place)
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
