"""Which entity has which slot of an arena, when it was last touched, and whether it moved on.

Entities belong to a partition (state is the fold of a partition's log), so a slot is found by (partition, id).
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt

#: The partition of a slot that nobody has.
FREE = -1


class Slots:
    """(partition, id) -> slot, and of each slot the offset of its entity's last event and whether it moved on since
    its changes were last taken. The slots of entities that left are used again."""

    def __init__(self) -> None:
        self._by_partition: dict[int, dict[str, int]] = {}
        self._free: list[int] = []
        self._next = 0
        self._ids: list[str] = []
        self._partition = np.full(0, FREE, np.int32)
        self._touched = np.zeros(0, np.int64)
        self._changed = np.zeros(0, np.bool_)
        #: Of partitions whose changes somebody took, who has to be told of those that left.
        self._gone: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return self._next - len(self._free)

    @property
    def highest(self) -> int:
        """One more than the highest slot ever given out."""
        return self._next

    @property
    def bytes_per_slot(self) -> int:
        """Of the arrays; the ids and the look-up come on top."""
        return self._partition.itemsize + self._touched.itemsize + self._changed.itemsize

    def find(
        self, partition: npt.NDArray[np.int32], ids: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The slots of n entities, and the rows at which unseen ones got theirs now."""
        slots = np.empty(len(ids), np.int64)
        unseen: list[int] = []
        for number, rows in _rows_of_partitions(partition):
            known = self._by_partition.setdefault(number, {})
            part = ids[rows] if isinstance(rows, slice) else [ids[row] for row in rows.tolist()]
            found = np.fromiter(map(known.get, part, repeat(-1)), np.int64, len(part))
            new: list[int] = []
            for place in np.flatnonzero(found < 0).tolist():
                if part[place] not in known:
                    known[part[place]] = self._new_slot()
                    new.append(place)
                found[place] = known[part[place]]
            if new:
                self._begin(number, found[new], [part[place] for place in new])
                unseen += np.arange(len(ids))[rows][new].tolist()
            slots[rows] = found
        return slots, np.array(unseen, np.int64)

    def slot(self, partition: int, entity: str) -> int:
        """The slot of an entity that is known to be resident."""
        return self._by_partition[partition][entity]

    def known(self, partition: int, entity: str) -> int | None:
        """None where the entity is not resident."""
        return self._by_partition.get(partition, {}).get(entity)

    def missing(self, partition: int, ids: Iterable[str]) -> list[str]:
        """Those that are not resident, each once, in their order."""
        known = self._by_partition.get(partition, {})
        return list(dict.fromkeys([entity for entity in ids if entity not in known]))

    def drop(self, partition: int) -> npt.NDArray[np.int64]:
        """Forgets a partition; returns the slots that are free now."""
        freed = np.array(list(self._by_partition.pop(partition, {}).values()), np.int64)
        self._gone.pop(partition, None)
        self._end(freed)
        return freed

    # Which entities moved on, and which leave and come back: snapshots and bounded memory.

    def moved_on(self, slots: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]) -> None:
        """These entities' last events have these offsets now. Of a slot that occurs twice the later counts."""
        self._touched[slots] = offset
        self._changed[slots] = True

    def touched(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._touched[slots]

    def ids(self, slots: npt.NDArray[np.int64]) -> list[str]:
        return [self._ids[slot] for slot in slots.tolist()]

    def residents(self) -> dict[int, int]:
        """Partition -> how many entities it has here."""
        return {partition: len(known) for partition, known in self._by_partition.items()}

    def changed(self, partition: int) -> npt.NDArray[np.int64]:
        """The slots of those that moved on since their changes were last taken."""
        own = self._partition[: self._next] == partition
        return np.flatnonzero(own & self._changed[: self._next])

    def take_changes(self, partition: int) -> tuple[npt.NDArray[np.int64], list[str]]:
        """The slots of what moved on and the ids of what left, since the call before."""
        slots, known = self.changed(partition), self._by_partition.get(partition, {})
        self._changed[slots] = False
        gone, self._gone[partition] = self._gone.get(partition, ()), set()
        return slots, [entity for entity in gone if entity not in known]

    def change_again(self, partition: int, ids: Iterable[str], gone: Iterable[str]) -> None:
        """Changes that were taken and came to nothing are changes still."""
        known = self._by_partition.get(partition, {})
        self._changed[[known[entity] for entity in ids if entity in known]] = True
        self._gone.setdefault(partition, set()).update(entity for entity in gone if entity not in known)

    def change_everything(self, partition: int) -> None:
        """All that is resident is a change, and what left is none: for a reader that knows nothing yet."""
        self._changed[: self._next] |= self._partition[: self._next] == partition
        self._gone.pop(partition, None)

    def gone(self, partition: int) -> int:
        """How many left since changes were last taken."""
        return len(self._gone.get(partition, ()))

    def longest_untouched(self, partition: int, count: int) -> npt.NDArray[np.int64]:
        """The slots of at most so many entities, whose last events lie furthest back."""
        own = np.flatnonzero(self._partition[: self._next] == partition)
        if count < len(own):
            own = own[np.argpartition(self._touched[own], count)[:count]]
        return own

    def remove(self, partition: int, slots: npt.NDArray[np.int64]) -> None:
        """These entities are not resident any more."""
        known, ids = self._by_partition.get(partition, {}), self.ids(slots)
        for entity in ids:
            del known[entity]
        if partition in self._gone:
            self._gone[partition].update(ids)
        self._end(slots)

    def admit(
        self, partition: int, ids: Sequence[str], touched: npt.NDArray[np.int64], *, changed: bool
    ) -> npt.NDArray[np.int64]:
        """Slots for entities that are not resident, each once. changed: whether that they are here is a change; else
        whoever takes changes knows them."""
        known = self._by_partition.setdefault(partition, {})
        if not changed:
            self._gone.setdefault(partition, set())
        slots = np.array([self._new_slot() for _ in ids], np.int64)
        known.update(zip(ids, slots.tolist(), strict=True))
        self._begin(partition, slots, ids)
        self._touched[slots] = touched
        self._changed[slots] = changed
        return slots

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def _begin(self, partition: int, slots: npt.NDArray[np.int64], ids: Sequence[str]) -> None:
        """New residents in new slots."""
        if self._next > len(self._ids):
            more = max(self._next, 2 * len(self._ids)) - len(self._ids)
            self._ids += [""] * more
            self._partition = np.concatenate([self._partition, np.full(more, FREE, np.int32)])
            self._touched = np.concatenate([self._touched, np.zeros(more, np.int64)])
            self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])
        for slot, entity in zip(slots.tolist(), ids, strict=True):
            self._ids[slot] = entity
        self._partition[slots] = partition
        self._touched[slots] = -1
        self._changed[slots] = False

    def _end(self, slots: npt.NDArray[np.int64]) -> None:
        for slot in slots.tolist():
            self._ids[slot] = ""
        self._partition[slots] = FREE
        self._changed[slots] = False
        self._free += slots.tolist()


def _rows_of_partitions(partition: npt.NDArray[np.int32]) -> list[tuple[int, slice | npt.NDArray[np.int64]]]:
    """Each partition of the batch with its rows, in their order; a slice where they are together, as in a live batch,
    which is made of chunks."""
    cuts = (np.flatnonzero(partition[1:] != partition[:-1]) + 1).tolist()
    starts = [0, *cuts] if len(partition) else []
    numbers: list[int] = partition[starts].tolist()
    if len(set(numbers)) == len(numbers):
        return list(zip(numbers, map(slice, starts, [*cuts, len(partition)]), strict=True))
    return [(number, np.flatnonzero(partition == number)) for number in dict.fromkeys(numbers)]
