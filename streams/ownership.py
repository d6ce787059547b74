"""Which partitions this worker owns right now, and the chunks it may accept from them.

An assignment by Kafka becomes ownership only through a claim in SQL, which takes a new epoch and says where to go
on. Everything that comes from before the claim, or from another place in the log, is refused here.
"""

import threading
from collections.abc import Mapping, Sequence

from storage.progress import Claim
from streams.batch import Chunk, OwnedPartition

TopicPartition = tuple[str, int]


class Ownership:
    """Owned partitions by (topic, partition). Changed on the event loop, read by every thread; `accept` belongs to the
    compute threads."""

    def __init__(self) -> None:
        self._owned: dict[TopicPartition, OwnedPartition] = {}
        self._settled = False
        self._kafka_generation = -1
        self._lock = threading.Lock()

    def take(
        self, claims: Sequence[Claim], topic_uuids: Mapping[str, str], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        """Replaces all ownership by these claims; returns the offset to fetch next of each."""
        owned = _owned(claims, topic_uuids, kafka_generation)
        with self._lock:
            self._owned = owned
            self._settled = True
            self._kafka_generation = kafka_generation
        return {key: owner.claim.next_offset for key, owner in owned.items()}

    def take_again(
        self, claims: Sequence[Claim], topic_uuids: Mapping[str, str], kafka_generation: int
    ) -> dict[TopicPartition, int]:
        """Puts these claims in the place of earlier ones of the same partitions, unless a rebalance came in between;
        returns the offset to fetch next of each."""
        owned = _owned(claims, topic_uuids, kafka_generation)
        with self._lock:
            if not self._settled or kafka_generation != self._kafka_generation:
                return {}
            for key, owner in owned.items():
                if key in self._owned:
                    self._owned[key].revoked = True
                self._owned[key] = owner
        return {key: owner.claim.next_offset for key, owner in owned.items()}

    def revoke_all(self) -> None:
        """A rebalance begins: no new batch is started with what was owned."""
        with self._lock:
            self._settled = False
            for owner in self._owned.values():
                owner.revoked = True

    def owned(self, topic: str) -> list[OwnedPartition] | None:
        """The topic's usable partitions; None while a rebalance is under way."""
        with self._lock:
            if not self._settled:
                return None
            return [o for (name, _), o in self._owned.items() if name == topic and o.usable]

    def committed(self) -> dict[TopicPartition, int]:
        """SQL's next offsets, for Kafka's lag tools."""
        with self._lock:
            return {key: owner.committed for key, owner in self._owned.items() if owner.usable}

    def owner(self, topic: str, partition: int) -> OwnedPartition | None:
        """Whose a chunk is that is fetched now; None where the partition is not ours."""
        with self._lock:
            owner = self._owned.get((topic, partition))
            return owner if owner is not None and owner.usable else None

    def all_owned(self) -> list[OwnedPartition] | None:
        """Everything that was claimed, also what was found to be lost since; None while a rebalance is under way."""
        with self._lock:
            return list(self._owned.values()) if self._settled else None

    def accept(self, chunk: Chunk) -> Chunk | None:
        """The part of a fetched chunk that is new; None where nothing is, or where its owner's claim is not ours any
        more."""
        owner, records = chunk.owner, chunk.records
        if not owner.usable or self._owned.get((owner.claim.topic, owner.claim.partition)) is not owner:
            return None
        if records[0].offset < owner.accepted:
            records = [record for record in records if record.offset >= owner.accepted]
            if not records:
                return None
        owner.accepted = records[-1].offset + 1
        return Chunk(owner, records)


def _owned(
    claims: Sequence[Claim], topic_uuids: Mapping[str, str], kafka_generation: int
) -> dict[TopicPartition, OwnedPartition]:
    return {
        (claim.topic, claim.partition): OwnedPartition(
            claim, topic_uuids[claim.topic], kafka_generation, claim.next_offset, claim.next_offset
        )
        for claim in claims
    }
