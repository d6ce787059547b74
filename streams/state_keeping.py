"""What keeps a topic's state beyond memory, as its processor uses it: the cold tier and snapshots together.

Lives on the compute thread. A partition's state is what a snapshot holds and what came after its offset; of entities
that left memory, what the cold tier holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from models.residents import Kept
from storage.database import Database
from storage.progress import Advance
from storage.snapshots import SnapshotFiles
from streams.batch import Finish, OwnedPartition, PartitionWork
from streams.cold_tier import ColdTier
from streams.patience import Wait
from streams.snapshots import Cadence, Snapshots, Standing
from streams.state_codec import ActiveFrom
from streams.state_metrics import StateMetrics


@dataclass(frozen=True, slots=True)
class StateRules:
    """What the settings decide. files: None for no snapshots; most_resident: accounts or users in memory."""

    files: SnapshotFiles | None = None
    cadence: Cadence = field(default_factory=Cadence)
    most_resident: int = 1_000_000


class StateKeeping:
    """drop: has the models forget a partition."""

    def __init__(
        self,
        topic: str,
        kept: Kept,
        drop: Callable[[int], None],
        rules: StateRules,
        database: Database,
        wait: Wait,
        clock: Callable[[], datetime],
        metrics: StateMetrics,
    ) -> None:
        self._drop = drop
        self._cold = ColdTier(topic, kept, database, wait, metrics, most_resident=rules.most_resident)
        #: To be started, and told of commits.
        self.snapshots = Snapshots(topic, kept, rules.files, database, clock, metrics, rules.cadence)

    def restore(self, owner: OwnedPartition, active: ActiveFrom | None) -> int:
        """Forgets a partition and begins its state with a snapshot, if there is one; the offset from which on its
        events have to be folded. May be repeated. Raises DatabaseUnavailable."""
        self._drop(owner.claim.partition)
        self._cold.begin(owner.claim)
        return self.snapshots.restore(
            owner, active, self._drop, lambda: self._cold.make_room_in_fold(owner.claim, active)
        )

    def before_fold(self, owner: OwnedPartition, ids: Sequence[str], position: int, active: ActiveFrom | None) -> None:
        """Before stored events of these entities are folded, `position` being the first one's offset. Raises
        DatabaseUnavailable."""
        self._cold.fetch(owner.claim, ids, position, active, patient=False)

    def after_fold(self, owner: OwnedPartition, active: ActiveFrom | None) -> None:
        """Raises DatabaseUnavailable."""
        self._cold.make_room_in_fold(owner.claim, active)

    def before_batch(self, owner: OwnedPartition, ids: Sequence[str], position: int, active: ActiveFrom | None) -> None:
        """Before a batch moves these entities of a partition on from `position`; waits while the database is away."""
        self._cold.fetch(owner.claim, ids, position, active)

    def after_batch(self, works: Sequence[PartitionWork], standing: Standing) -> list[PartitionWork]:
        """The batch's works, and what has to leave memory with them. standing: after the batch."""
        leaving = self._cold.make_room(
            {
                partition: (owner, active)
                for partition, (owner, _, active) in standing.items()
                if owner.usable and active is not None
            }
        )
        found = list(works)
        for owner, finish in leaving:
            found = with_finish(found, owner, standing[owner.claim.partition][1], finish)
        return found

    def between_batches(self, standing: Standing, now: float) -> None:
        """A snapshot of what is due."""
        self.snapshots.offer(standing, now)

    def drop(self, partition: int) -> None:
        """The partition is another worker's."""
        self._cold.drop(partition)
        self.snapshots.drop(partition)
        self._drop(partition)


def with_finish(
    works: Sequence[PartitionWork], owner: OwnedPartition, position: int, finish: Finish
) -> list[PartitionWork]:
    """The works with something more to do in the owner's, or in one of its own that moves no offset."""
    found = list(works)
    for place, work in enumerate(found):
        if work.owner is owner:
            found[place] = replace(work, finish=(*work.finish, finish))
            return found
    claim = owner.claim
    step = Advance(claim.topic_generation, claim.partition, claim.epoch, position, position)
    return [*found, PartitionWork(owner, step, [], [finish])]
