"""Feedback: stored once, joined with what it is about, expired when that never comes.

What it is about may come later, so a row starts as pending; each batch, and every few seconds of quiet, joins
what can be joined. A verdict on an open alert is seen by the owner of that alert's partition (detection.py).
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from storage.alert_history import known_feedback
from storage.database import Database
from storage.progress import Advance, Claim
from storage.training_data import expire_feedback, has_pending_feedback, join_feedback
from streams.batch import Chunk, OwnedPartition, PartitionWork, PreparedBatch, usable_by_partition
from streams.decode import DecodedFeedback, decode_feedback
from streams.patience import Wait, patiently
from streams.records import DecodeLimits, Record, reasons
from streams.rows import RowEncoder


@dataclass(slots=True)
class FeedbackState:
    """One partition's next offset, and the ids (with their offsets) that SQL may not have yet."""

    owner: OwnedPartition
    position: int
    in_flight: dict[str, int] = field(default_factory=dict)


class FeedbackProcessor:
    """The Processor of the `feedback` topic. `wait` is called while the database is away; join_interval in seconds."""

    def __init__(
        self,
        database: Database,
        rows: RowEncoder,
        limits: DecodeLimits,
        *,
        wait: Wait,
        owned: Callable[[], Sequence[OwnedPartition] | None],
        expiry: timedelta,
        join_interval: float = 2.0,
    ) -> None:
        self._database = database
        self._rows = rows
        self._limits = limits
        self._wait = wait
        self._owned = owned
        self._expiry = expiry
        self._join_interval = join_interval
        self._partitions: dict[int, FeedbackState] = {}
        self._joined_at = 0.0

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        found = usable_by_partition(chunks)
        works = [self._work(owner, own, now) for owner, own in found]
        records = sum(len(own) for _, own in found)
        if now - self._joined_at >= self._join_interval:
            self._joined_at = now
            works += self._joins_elsewhere({owner.claim.partition for owner, _ in found}, now)
        return PreparedBatch(works, records, now) if works else None

    def idle(self, now: float) -> PreparedBatch | None:
        return self.process([], now)

    def _joins_elsewhere(self, busy: Set[int], now: float) -> list[PartitionWork]:
        """A look at what is pending in partitions without records in this batch, as works that move no offset."""
        works = []
        for owner in self._owned() or ():
            claim = owner.claim
            if claim.partition not in busy and self._pending(claim):
                position = self._state(owner).position
                step = Advance(claim.topic_generation, claim.partition, claim.epoch, position, position)
                works.append(PartitionWork(owner, step, [], [self._join(claim, now)]))
        return works

    def _state(self, owner: OwnedPartition) -> FeedbackState:
        state = self._partitions.get(owner.claim.partition)
        if state is None or state.owner is not owner:
            state = FeedbackState(owner, owner.claim.next_offset)
            self._partitions[owner.claim.partition] = state
        return state

    def _work(self, owner: OwnedPartition, records: Sequence[Record], now: float) -> PartitionWork:
        claim, state = owner.claim, self._state(owner)
        decoded = decode_feedback(records, self._limits)
        duplicate = self._duplicates(state, decoded)
        base, state.position = state.position, records[-1].offset + 1
        repeated = int(duplicate.sum())
        step = Advance(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            base,
            state.position,
            applied=len(decoded) - repeated,
            duplicates=repeated,
            dead_letters=len(decoded.dead),
            gaps=state.position - base - len(records),
        )
        encoded = self._rows.feedback(claim, decoded, duplicate)
        encoded += self._rows.dead_letters(claim, decoded.dead)
        outboxes = frozenset({"dead_letters"}) if decoded.dead else frozenset()
        return PartitionWork(owner, step, encoded, [self._join(claim, now)], outboxes, refused=reasons(decoded.dead))

    def _duplicates(self, state: FeedbackState, decoded: DecodedFeedback) -> npt.NDArray[np.bool_]:
        """Of ids that SQL has, or will have once the batches before this one (and this one) are written."""
        committed = state.owner.committed
        state.in_flight = {name: offset for name, offset in state.in_flight.items() if offset >= committed}
        known = self._known([message.feedback_id for message in decoded.messages])
        duplicate = np.zeros(len(decoded), np.bool_)
        for row, message in enumerate(decoded.messages):
            if message.feedback_id in known or message.feedback_id in state.in_flight:
                duplicate[row] = True
            else:
                state.in_flight[message.feedback_id] = int(decoded.offset[row])
        return duplicate

    def _known(self, ids: Sequence[str]) -> set[str]:
        def read() -> set[str]:
            with self._database.reading() as connection:
                return known_feedback(connection, ids)

        return patiently(read, self._wait)

    def _pending(self, claim: Claim) -> bool:
        def read() -> bool:
            with self._database.reading() as connection:
                return has_pending_feedback(connection, claim.topic_generation, claim.partition)

        return patiently(read, self._wait)

    def _join(self, claim: Claim, now: float) -> "Join":
        moment = datetime.fromtimestamp(now, UTC)
        return Join(claim.topic_generation, claim.partition, moment, moment - self._expiry)


@dataclass(frozen=True, slots=True)
class Join:
    """Joins and expires the pending feedback of one partition, inside a batch's transaction."""

    topic_generation: int
    partition: int
    now: datetime
    expire_before: datetime

    def __call__(self, connection: Connection) -> None:
        join_feedback(connection, self.topic_generation, [self.partition], self.now)
        expire_feedback(connection, self.topic_generation, [self.partition], self.expire_before)
