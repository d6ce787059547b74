"""Bounded memory: entities that were not touched for longest leave to SQL and come back when a batch names them.

A state that leaves is written in the transaction of the batch that it leaves with, as of its entity's last event, and
is kept here until that is committed. Before a batch moves anything on, the states that it lacks are read at once: the
newest of each as of where the partition stands. So the fold of a log finds what the live stream had, and whether an
entity left in between changes no result. Lives on the compute thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from models.residents import Kept, Packed
from storage.cold_states import has_cold_states, read_cold_states, write_cold_states
from storage.database import Database
from storage.progress import Claim, hold_epoch
from streams.batch import Finish, OwnedPartition
from streams.patience import Wait, patiently
from streams.state_codec import ActiveFrom, cold_layout, cold_states, fitting, packed_of
from streams.state_metrics import StateMetrics

#: Entities that leave at once, so that it is not done for every batch.
SLAB = 8_192
#: Of those that may be resident, the share that leaves at once at most: for small limits.
LARGEST_SHARE = 8


@dataclass(frozen=True, slots=True)
class WriteColdStates:
    """In the transaction of the batch that the entities leave with. active: of the networks' states."""

    claim: Claim
    packed: Packed
    active: ActiveFrom | None
    layout: str

    def __call__(self, connection: Connection) -> None:
        write_cold_states(
            connection,
            self.claim.topic_generation,
            self.claim.partition,
            self.packed.ids,
            self.packed.touched + 1,
            cold_states(self.packed, self.active),
            self.layout,
        )


@dataclass(frozen=True, slots=True)
class Leaving:
    """A slab on its way to SQL, with the work of its partition that has this number."""

    owner: OwnedPartition
    work: int
    packed: Packed
    active: ActiveFrom | None
    places: Mapping[str, int]

    @property
    def arrived(self) -> bool:
        return self.owner.written >= self.work


@dataclass(slots=True)
class ColdPartition:
    """in_sql: whether the partition may have states in SQL."""

    in_sql: bool
    leaving: list[Leaving] = field(default_factory=list)


class ColdTier:
    """most_resident: entities in memory, over all partitions."""

    def __init__(
        self, topic: str, kept: Kept, database: Database, wait: Wait, metrics: StateMetrics, *, most_resident: int
    ) -> None:
        self._topic = topic
        self._kept = kept
        self._database = database
        self._wait = wait
        self._metrics = metrics
        self._most = most_resident
        self._layout = cold_layout(kept)
        self._partitions: dict[int, ColdPartition] = {}

    def begin(self, claim: Claim) -> None:
        """Before a partition is restored. Raises DatabaseUnavailable."""
        with self._database.reading() as connection:
            in_sql = has_cold_states(connection, claim.topic_generation, claim.partition)
        self._partitions[claim.partition] = ColdPartition(in_sql)

    def drop(self, partition: int) -> None:
        self._partitions.pop(partition, None)

    def fetch(
        self, claim: Claim, ids: Sequence[str], position: int, active: ActiveFrom | None, *, patient: bool = True
    ) -> None:
        """Before a partition moves on from `position` with events of these entities: brings in those that left.
        active: under which networks' states are of use now. Raises DatabaseUnavailable where it is not to be patient.
        """
        cold = self._partitions.get(claim.partition)
        if cold is None or not (cold.in_sql or cold.leaving):
            return
        missing = self._kept.leaving.missing(claim.partition, ids)
        if not missing:
            return
        cold.leaving = [slab for slab in cold.leaving if not slab.arrived]
        found = list(self._on_their_way(cold, missing, active))
        here = {entity for packed in found for entity in packed.ids}
        rest = [entity for entity in missing if entity not in here]
        if cold.in_sql and rest:
            with self._metrics.looking_up(self._topic):
                stored = self._stored(claim, rest, position, active, patient=patient)
            found += [stored] if len(stored) else []
        if found:
            packed = Packed.concatenate(found)
            self._kept.leaving.admit(claim.partition, packed, changed=True)
            self._metrics.returned(self._topic, len(packed))

    def make_room(
        self, owners: Mapping[int, tuple[OwnedPartition, ActiveFrom]]
    ) -> Iterator[tuple[OwnedPartition, Finish]]:
        """After a batch: what of these partitions has to leave, each to be written with the owner's next work."""
        while (over := len(self._kept.leaving) - self._most) > 0:
            counts = {number: count for number, count in self._kept.leaving.by_partition().items() if number in owners}
            largest = max(counts, key=lambda number: counts[number], default=None)
            if largest is None or not counts[largest]:
                return
            owner, active = owners[largest]
            packed = self._evict(largest, over)
            cold = self._partitions.setdefault(largest, ColdPartition(in_sql=False))
            places = {entity: place for place, entity in enumerate(packed.ids)}
            cold.leaving.append(Leaving(owner, owner.prepared + 1, packed, active, places))
            cold.in_sql = True
            yield owner, WriteColdStates(owner.claim, packed, active, self._layout)

    def make_room_in_fold(self, claim: Claim, active: ActiveFrom | None) -> None:
        """Of a partition that is being folded, whose events are all in SQL: written at once, unless the partition is no
        longer ours. After a rescale others fold other events, and must not find what this claim made of its own; what
        is not written is gone from memory, which is of no use any more. Raises DatabaseUnavailable."""
        over = len(self._kept.leaving) - self._most
        if over <= 0:
            return
        packed = self._evict(claim.partition, over)
        if len(packed):
            with self._database.begin() as connection:
                if not hold_epoch(connection, claim.topic_generation, claim.partition, claim.epoch):
                    return
                WriteColdStates(claim, packed, active, self._layout)(connection)
            self._partitions[claim.partition].in_sql = True

    def _evict(self, partition: int, over: int) -> Packed:
        packed = self._kept.leaving.evict(partition, max(over, min(SLAB, self._most // LARGEST_SHARE)))
        self._metrics.evicted(self._topic, len(packed))
        return packed

    def _on_their_way(self, cold: ColdPartition, missing: Sequence[str], active: ActiveFrom | None) -> Iterator[Packed]:
        """From slabs that are not in SQL yet; of an entity in several the latest counts."""
        wanted = set(missing)
        for slab in reversed(cold.leaving):
            here = [slab.places[entity] for entity in slab.places.keys() & wanted]
            if here:
                wanted -= slab.places.keys()
                packed = slab.packed.take(np.array(sorted(here), np.int64))
                yield fitting(packed, slab.active, active, self._kept.leaving.units)

    def _stored(
        self, claim: Claim, ids: Sequence[str], position: int, active: ActiveFrom | None, *, patient: bool
    ) -> Packed:
        def read() -> list[tuple[str, int, bytes]]:
            with self._database.reading() as connection:
                return read_cold_states(
                    connection, claim.topic_generation, claim.partition, ids, position, self._layout
                )

        rows = patiently(read, self._wait) if patient else read()
        residents = self._kept.leaving
        return packed_of(
            [row[0] for row in rows],
            np.array([row[1] for row in rows], np.int64) - 1,
            [row[2] for row in rows],
            residents.row_type,
            active,
            residents.units,
        )
