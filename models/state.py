"""What is remembered of accounts and merchants: arenas of preallocated arrays, one slot an entity.

Entities belong to a partition (state is the fold of a partition's log), so a slot is found by (partition, id). Rings
hold an entity's newest entries, entry k at k % size. Nothing here knows what the numbers mean for the model.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

LOG_AMOUNTS = 16
MERCHANTS = 32
EVENT_IDS = 24
FEATURE_ROWS = 16
POSITIONS = 12
NEVER = -1


class Slots:
    """(partition, id) -> slot, with the slots of dropped partitions used again."""

    def __init__(self) -> None:
        self._by_partition: dict[int, dict[str, int]] = {}
        self._free: list[int] = []
        self._next = 0

    def __len__(self) -> int:
        return self._next - len(self._free)

    @property
    def highest(self) -> int:
        """One more than the highest slot ever given out."""
        return self._next

    def find(self, partition: npt.NDArray[np.int32], ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The slots of n entities; unseen ones get theirs now."""
        slots = np.empty(len(ids), np.int64)
        bounds = np.flatnonzero(np.diff(partition)) + 1
        start = 0
        for stop in (*bounds.tolist(), len(ids)):
            if stop > start:
                slots[start:stop] = self._find_in(int(partition[start]), ids[start:stop])
            start = stop
        return slots

    def drop(self, partition: int) -> npt.NDArray[np.int64]:
        """Forgets a partition; returns the slots that are free now."""
        freed = list(self._by_partition.pop(partition, {}).values())
        self._free += freed
        return np.array(freed, np.int64)

    def _find_in(self, partition: int, ids: Sequence[str]) -> list[int]:
        known = self._by_partition.setdefault(partition, {})
        slots = list(map(known.get, ids))
        if None in slots:
            for row, slot in enumerate(slots):
                if slot is None:
                    entity = ids[row]
                    if entity not in known:
                        known[entity] = self._new_slot()
                    slots[row] = known[entity]
        return slots  # type: ignore[return-value]

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1


class Arena:
    """Named arrays [capacity, ...] that grow by doubling; a cleared slot holds each array's empty value."""

    def __init__(self, layout: dict[str, tuple[tuple[int, ...], str, float]], capacity: int) -> None:
        self._layout = layout
        self.capacity = capacity
        self.arrays = {
            name: np.full((capacity, *shape), empty, dtype) for name, (shape, dtype, empty) in layout.items()
        }

    def grow_to(self, slots: int) -> None:
        if slots <= self.capacity:
            return
        capacity = max(slots, 2 * self.capacity)
        for name, (shape, dtype, empty) in self._layout.items():
            larger = np.full((capacity, *shape), empty, dtype)
            larger[: self.capacity] = self.arrays[name]
            self.arrays[name] = larger
        self.capacity = capacity

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        for name, (_, _, empty) in self._layout.items():
            self.arrays[name][slots] = empty

    @property
    def bytes_per_slot(self) -> int:
        return sum(array.nbytes // self.capacity for array in self.arrays.values())


def account_arena(capacity: int, *, features: int, categories: int, sums: int) -> Arena:
    return Arena(
        {
            "last_time": ((), "int64", NEVER),
            "events": ((), "int64", 0),
            "sums": ((sums,), "float64", 0),
            "log_amounts": ((LOG_AMOUNTS,), "float32", np.inf),
            "merchants": ((MERCHANTS,), "uint32", 0),
            "event_ids": ((EVENT_IDS,), "uint64", 0),
            "feature_rows": ((FEATURE_ROWS, features), "float16", 0),
            "category_rows": ((FEATURE_ROWS, categories), "uint16", 0),
            "offsets": ((POSITIONS,), "int64", NEVER),
            "days": ((POSITIONS,), "int32", NEVER),
        },
        capacity,
    )


def merchant_arena(capacity: int, *, sums: int) -> Arena:
    return Arena({"last_time": ((), "int64", NEVER), "sums": ((sums,), "float64", 0)}, capacity)


class HiddenStates:
    """The recurrent network's state of each account slot: float32 [capacity, units] on the device."""

    def __init__(self, units: int, capacity: int, device: torch.device) -> None:
        self.values = torch.zeros(capacity, units, device=device)

    def grow_to(self, slots: int) -> None:
        if slots > len(self.values):
            larger = torch.zeros(max(slots, 2 * len(self.values)), self.values.shape[1], device=self.values.device)
            larger[: len(self.values)] = self.values
            self.values = larger

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        if len(slots):
            self.values[torch.from_numpy(slots).to(self.values.device)] = 0
