"""What a partition of engagements that was just claimed is restored from: its stored engagements and slates in SQL."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.engagements import ACTION_NUMBERS, Engagements
from storage.database import Database
from storage.engagement_history import EngagementColumns, stored_engagements, stored_slates
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

    def engagements(self, claim: Claim) -> Iterator[Engagements]:
        """The partition's stored engagements before the claim's next offset, in offset order."""
        with self._database.reading() as connection:
            for columns in stored_engagements(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                before_offset=claim.next_offset,
            ):
                yield stored_as_engagements(columns)

    def slates(self, claim: Claim) -> Iterator[tuple[list[str], npt.NDArray[np.int64]]]:
        """Who got a slate, and when that which it answers occurred, in offset order."""
        with self._database.reading() as connection:
            yield from stored_slates(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                before_offset=claim.next_offset,
            )


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
