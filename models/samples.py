"""Samples by hash in bounded memory: the same rows whatever the order and the cuts of a stream (Gibbons, 2001).

An event is in a sample because of its id alone, so that repeats of an id are in it together or not at all.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
MOST_HASHES = 1 << 21
ALL = 1 << 64


class RepeatSample:
    """What share of a stream's hashes came before: exact up to MOST_HASHES of them, beyond it of a sample."""

    def __init__(self, most: int = MOST_HASHES) -> None:
        self._most = most
        self._bound = ALL
        self._parts: list[Hashes] = []
        self.kept = 0

    def add(self, hashes: Hashes) -> None:
        self._parts.append(hashes if self.exact else hashes[hashes < np.uint64(self._bound)])
        self.kept += len(self._parts[-1])
        while self.kept > self._most and self._bound > 1:
            self._bound //= 2
            self._parts = [part[part < np.uint64(self._bound)] for part in self._parts]
            self.kept = sum(map(len, self._parts))

    @property
    def exact(self) -> bool:
        return self._bound == ALL

    @property
    def repeated(self) -> float:
        if not self.kept:
            return 0.0
        ordered = np.sort(np.concatenate(self._parts))  # np.unique takes ten times as long
        return float((ordered[1:] == ordered[:-1]).sum()) / self.kept


class RowSample:
    """Of a stream of rows of numbers those with the smallest hashes, so many at most."""

    def __init__(self, columns: Sequence[str], most: int) -> None:
        self.columns = tuple(columns)
        self._most = most
        self._hashes: Hashes = np.zeros(0, np.uint64)
        self.rows: Floats = np.zeros((0, len(self.columns)))

    def add(self, hashes: Hashes, rows: Floats) -> None:
        """uint64[n], float64[n, columns]"""
        if len(self._hashes) >= self._most:
            smaller = hashes < self._hashes[-1]
            hashes, rows = hashes[smaller], rows[smaller]
        if not len(hashes):
            return
        hashes, rows = np.concatenate([self._hashes, hashes]), np.concatenate([self.rows, rows])
        order = np.argsort(hashes, kind="stable")[: self._most]
        self._hashes, self.rows = hashes[order], rows[order]

    def column(self, name: str) -> Floats:
        found: Floats = self.rows[:, self.columns.index(name)]
        return found

    def __len__(self) -> int:
        return len(self.rows)


def mixed(*columns: npt.NDArray[np.generic]) -> Hashes:
    """uint64[n]: one hash of several columns of whole numbers or float64 (the finaliser of SplitMix64)."""
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        bits = column.view(np.uint64) if column.dtype.itemsize == 8 else column.astype(np.uint64)
        found = found * np.uint64(0x9E3779B97F4A7C15) + bits
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return found
