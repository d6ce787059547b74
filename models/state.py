"""What is remembered of accounts and merchants: arenas of preallocated arrays, one slot an entity (slots.py).

Rings hold an entity's newest entries, entry k at k % size. Nothing here knows what the numbers mean for the model.
"""

from collections.abc import Sequence
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


class Arena:
    """Named arrays [capacity, ...]; a slot that is new or cleared holds each array's empty value.

    Room that no slot was made in yet is not written to, and so costs no memory. A large capacity therefore spares a
    running worker the copying of everything when it doubles."""

    def __init__(self, layout: dict[str, tuple[tuple[int, ...], str, float]], capacity: int) -> None:
        self._layout = layout
        self._slots = 0
        self.capacity = capacity
        self.arrays = {name: np.empty((capacity, *shape), dtype) for name, (shape, dtype, _) in layout.items()}

    def grow_to(self, slots: int) -> None:
        """There are so many slots from now on, or more; to be called before they are used."""
        if slots > self.capacity:
            self.capacity = max(slots, 2 * self.capacity)
            for name, (shape, dtype, _) in self._layout.items():
                larger = np.empty((self.capacity, *shape), dtype)
                larger[: self._slots] = self.arrays[name][: self._slots]
                self.arrays[name] = larger
        if slots > self._slots:
            for name, (_, _, empty) in self._layout.items():
                self.arrays[name][self._slots : slots] = empty
            self._slots = slots

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        for name, (_, _, empty) in self._layout.items():
            self.arrays[name][slots] = empty

    @property
    def bytes_per_slot(self) -> int:
        return sum(array.nbytes // self.capacity for array in self.arrays.values())

    def row_type(self, names: Sequence[str]) -> np.dtype[Any]:
        """One entity's entries of some arrays as one record."""
        return np.dtype([(name, self._layout[name][1], self._layout[name][0]) for name in names])

    def rows(self, slots: npt.NDArray[np.int64], row_type: np.dtype[Any]) -> npt.NDArray[Any]:
        """[k] records of the slots' entries, copied."""
        rows = np.empty(len(slots), row_type)
        for name in row_type.names or ():
            rows[name] = self.arrays[name].take(slots, 0)  # a tenth of the time that indexing takes
        return rows

    def put_rows(self, slots: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> None:
        for name in rows.dtype.names or ():
            self.arrays[name][slots] = rows[name]


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
        """capacity: slots that there is room for; on a GPU, where all of it costs memory and growing little time, few
        of them at first."""
        capacity = capacity if device.type == "cpu" else min(capacity, 1024)
        self._slots = 0
        self.values = torch.empty(capacity, units, device=device)
        self.current = np.zeros(capacity, np.bool_)

    @torch.inference_mode()
    def grow_to(self, slots: int) -> None:
        """There are so many slots from now on, or more, the new ones empty; to be called before they are used."""
        if slots > len(self.values):
            capacity = max(slots, 2 * len(self.values))
            larger = torch.empty(capacity, self.values.shape[1], device=self.values.device)
            larger[: self._slots] = self.values[: self._slots]
            self.current = np.concatenate([self.current, np.zeros(capacity - len(self.values), np.bool_)])
            self.values = larger
        if slots > self._slots:
            self.values[self._slots : slots] = 0
            self._slots = slots

    def of(self, slots: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """float32[k, units] and bool[k], copied; a state that is not current is zero."""
        values = self.values[torch.from_numpy(slots).to(self.values.device)].cpu().numpy()
        current = self.current[slots]
        values[~current] = 0
        return values, current

    @torch.inference_mode()
    def put(
        self, slots: npt.NDArray[np.int64], values: npt.NDArray[np.float32], current: npt.NDArray[np.bool_]
    ) -> None:
        self.values[torch.from_numpy(slots).to(self.values.device)] = torch.from_numpy(values).to(self.values.device)
        self.current[slots] = current

    @torch.inference_mode()
    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        if len(slots):
            self.values[torch.from_numpy(slots).to(self.values.device)] = 0
            self.current[slots] = False
