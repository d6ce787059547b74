"""Whether SQL says that a partition of ours is to be claimed anew: a loss was accepted, a topic rescaled, somebody
erased, or a worker that is no longer there claimed it last.

Kafka says whose a partition is, SQL who moves it. Where the two differ for long, the one whom Kafka names takes it
back; a worker that Kafka no longer names hears of it in a rebalance before that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from storage.accepted_losses import ACCEPT_LOSS
from storage.database import Database
from storage.erasure import ERASE
from storage.partition_counts import RESCALE, latest_count
from storage.progress import ProgressRow, all_progress
from streams.ownership import TopicPartition

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
#: Owners in SQL that are commands: whoever Kafka names takes the partition at once.
COMMANDS = (ACCEPT_LOSS, RESCALE, ERASE)


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition that Kafka gave us. epoch: of our claim, 0 where we could not claim it."""

    topic: str
    topic_uuid: str
    partition: int
    epoch: int

    @property
    def place(self) -> TopicPartition:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Superseded:
    """The epoch that SQL has of a partition of ours, and since when we know (seconds)."""

    epoch: int
    since: float


def superseded(
    assigned: Sequence[Assigned],
    rows: Mapping[tuple[str, str, int], ProgressRow],
    counts: Mapping[tuple[str, str], int],
    before: Mapping[TopicPartition, Superseded],
    now: float,
    patience: float,
) -> dict[TopicPartition, Superseded]:
    """What of ours SQL gives to somebody else, or would give to us by now. What a command left behind, and what may be
    claimed for the first time, counts as known for `patience` seconds. counts: topic and its Kafka id -> partitions."""
    found: dict[TopicPartition, Superseded] = {}
    for one in assigned:
        row = rows.get((one.topic, one.topic_uuid, one.partition))
        epoch = 0 if row is None else row.epoch
        if one.epoch == 0:
            if one.partition < counts.get((one.topic, one.topic_uuid), 0):
                found[one.place] = Superseded(epoch, now - patience)
        elif row is not None and epoch > one.epoch:
            since = now - patience if row.owner in COMMANDS else now
            known = before.get(one.place)
            found[one.place] = known if known is not None and known.epoch == epoch else Superseded(epoch, since)
    return found


class PartitionWatch:
    """`look` belongs to a thread of its own. assigned: None in a rebalance; take_again: place -> the epoch seen."""

    def __init__(
        self,
        database: Database,
        assigned: Callable[[], Sequence[Assigned] | None],
        take_again: Callable[[Mapping[TopicPartition, int]], None],
        clock: Callable[[], float],
        patience: float,
    ) -> None:
        self._database = database
        self._assigned = assigned
        self._take_again = take_again
        self._clock = clock
        self._patience = patience
        self._superseded: dict[TopicPartition, Superseded] = {}

    def look(self) -> None:
        """Raises DatabaseUnavailable."""
        assigned = self._assigned()
        if assigned is None:
            self._superseded = {}
            return
        topics = {(one.topic, one.topic_uuid) for one in assigned if one.epoch == 0}
        with self._database.reading() as connection:
            rows = {(row.topic, row.topic_uuid, row.partition): row for row in all_progress(connection)}
            found = {topic: latest_count(connection, *topic) for topic in topics}
        counts = {topic: count.partitions for topic, count in found.items() if count is not None}
        now = self._clock()
        self._superseded = superseded(assigned, rows, counts, self._superseded, now, self._patience)
        due = {place: one for place, one in self._superseded.items() if now - one.since >= self._patience}
        if due:
            log.warning(
                "partitions are claimed anew", partitions=[f"{topic}/{number}" for topic, number in sorted(due)]
            )
            self._superseded |= {place: replace(one, since=now) for place, one in due.items()}
            self._take_again({place: one.epoch for place, one in due.items()})
