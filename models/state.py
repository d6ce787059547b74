"""What is remembered of accounts and merchants: arenas of preallocated arrays, one slot an entity.

Entities belong to a partition (state is the fold of a partition's log), so a slot is found by (partition, id). Rings
hold an entity's newest entries, entry k at k % size. Nothing here knows what the numbers mean for the model.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

LOG_AMOUNTS = 16
MERCHANTS = 32
EVENT_IDS = 24
FEATURE_ROWS = 16
POSITIONS = 12
#: Before any time there is; far enough from int64's end that a difference to a real time does not overflow.
NEVER = -(2**60)


class Slots:
    """(partition, id) -> slot. The slots of dropped partitions are used again."""

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

    def find(
        self, partition: npt.NDArray[np.int32], ids: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The slots of n entities, and the rows at which unseen ones got theirs now."""
        slots = np.empty(len(ids), np.int64)
        unseen: list[int] = []
        for rows in _rows_of_partitions(partition):
            known = self._by_partition.setdefault(int(partition[rows[0]]), {})
            first, stop = int(rows[0]), int(rows[-1]) + 1
            together = stop - first == len(rows)  # as in a live batch, which is made of chunks
            part = ids[first:stop] if together else [ids[row] for row in rows.tolist()]
            found = np.fromiter(map(known.get, part, repeat(-1)), np.int64, len(part))
            for place in np.flatnonzero(found < 0).tolist():
                if part[place] not in known:
                    known[part[place]] = self._new_slot()
                    unseen.append(int(rows[place]))
                found[place] = known[part[place]]
            slots[rows] = found
        return slots, np.array(unseen, np.int64)

    def slot(self, partition: int, entity: str) -> int:
        """The slot of an entity that is known to be resident."""
        return self._by_partition[partition][entity]

    def known(self, partition: int, entity: str) -> int | None:
        """None where the entity is not resident."""
        return self._by_partition.get(partition, {}).get(entity)

    def drop(self, partition: int) -> npt.NDArray[np.int64]:
        """Forgets a partition; returns the slots that are free now."""
        freed = list(self._by_partition.pop(partition, {}).values())
        self._free += freed
        return np.array(freed, np.int64)

    def _new_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1


def _rows_of_partitions(partition: npt.NDArray[np.int32]) -> list[npt.NDArray[np.int64]]:
    """The rows of each partition in the batch, in their order."""
    order = np.argsort(partition, kind="stable")
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(partition[order])) + 1) if len(rows)]


class Arena:
    """Named arrays [capacity, ...] that grow by doubling; a cleared slot holds each array's empty value."""

    def __init__(self, layout: dict[str, tuple[tuple[int, ...], str, float]], capacity: int) -> None:
        self._layout = layout
        self.capacity = capacity
        self.arrays = {
            name: _empty_slots((capacity, *shape), dtype, empty) for name, (shape, dtype, empty) in layout.items()
        }

    def grow_to(self, slots: int) -> None:
        if slots <= self.capacity:
            return
        capacity = max(slots, 2 * self.capacity)
        for name, (shape, dtype, empty) in self._layout.items():
            larger = _empty_slots((capacity, *shape), dtype, empty)
            larger[: self.capacity] = self.arrays[name]
            self.arrays[name] = larger
        self.capacity = capacity

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        for name, (_, _, empty) in self._layout.items():
            self.arrays[name][slots] = empty

    @property
    def bytes_per_slot(self) -> int:
        return sum(array.nbytes // self.capacity for array in self.arrays.values())


def _empty_slots(shape: tuple[int, ...], dtype: str, empty: float) -> npt.NDArray[Any]:
    """Zeros cost no memory and no time until they are written to, which matters where an arena has just grown."""
    return np.full(shape, empty, dtype) if empty else np.zeros(shape, dtype)


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
            "offsets": ((POSITIONS,), "int64", -1),
            "days": ((POSITIONS,), "int32", -1),
        },
        capacity,
    )


def merchant_arena(capacity: int, *, sums: int, labels: int) -> Arena:
    return Arena(
        {
            "last_time": ((), "int64", NEVER),
            "sums": ((sums,), "float64", 0),
            "hash": ((), "uint64", 0),
            "labels": ((labels,), "float32", 0),
            "label_version": ((), "int64", NEVER),
        },
        capacity,
    )


class HiddenStates:
    """One network's state of each account slot: values float32 [capacity, units] on the device; current bool
    [capacity]: it has seen the account's newest events (a slot without events needs none).

    Changed in inference mode only: what has grown there must not be written outside of it.
    """

    def __init__(self, units: int, capacity: int, device: torch.device) -> None:
        self.values = torch.zeros(capacity, units, device=device)
        self.current = np.zeros(capacity, np.bool_)

    def grow_to(self, slots: int) -> None:
        if slots > len(self.values):
            capacity = max(slots, 2 * len(self.values))
            larger = torch.zeros(capacity, self.values.shape[1], device=self.values.device)
            larger[: len(self.values)] = self.values
            self.current = np.concatenate([self.current, np.zeros(capacity - len(self.values), np.bool_)])
            self.values = larger

    @torch.inference_mode()
    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        if len(slots):
            self.values[torch.from_numpy(slots).to(self.values.device)] = 0
            self.current[slots] = False
