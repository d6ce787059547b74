"""How much each item earns lately from everyone: what new users see, and all users while no policy serves.

A decayed sum of rewards for each partition and item. Sums are kept in the units of a reference time, so that nothing
has to be decayed at every event; the reference moves before numbers grow large.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.catalogue import Catalogue

Floats = npt.NDArray[np.float64]
#: Half-lives after which the reference time moves.
MOST_HALF_LIVES = 40.0
#: Of half-lives, further back than any number reaches.
MOST_BACKWARDS = 1_000.0


class Popularity:
    """half_life in milliseconds of event time."""

    def __init__(self, half_life: int) -> None:
        self._half_life = half_life
        self._reference = 0
        self._newest = 0
        self._newest_of: dict[int, int] = {}
        self._partitions: dict[int, Floats] = {}

    def add(
        self,
        partition: npt.NDArray[np.int32],
        row: npt.NDArray[np.int64],
        at: npt.NDArray[np.int64],
        worth: Floats,
        items: int,
    ) -> None:
        """worth float64[n] of engagements at `at` (epoch milliseconds) with catalogue rows, -1 for unknown items;
        items: rows of the catalogue."""
        if not len(at):
            return
        self._newest = max(self._newest, int(at.max()))
        self._move_reference()
        scaled = worth * np.exp2((at - self._reference) / self._half_life)
        for number in np.unique(partition).tolist():
            its = partition == number
            self._newest_of[number] = max(self._newest_of.get(number, 0), int(at[its].max()))
            own = its & (row >= 0)
            np.add.at(self._sums(number, items), row[own], scaled[own])

    def of_all(self, items: int) -> Floats:
        """float64[items]: the decayed sums of the first rows at the newest time so far, at least 0."""
        total = np.zeros(items)
        for sums in self._partitions.values():
            total[: len(sums)] += sums[:items]
        total *= np.exp2((self._reference - self._newest) / self._half_life)
        return np.maximum(total, 0.0, out=total)

    def earned(self, partition: int) -> tuple[npt.NDArray[np.int64], Floats, int]:
        """The rows of items that earned something, their sums at the partition's newest time, and that time."""
        sums, newest = self._partitions.get(partition, np.zeros(0)), self._newest_of.get(partition, 0)
        rows = np.flatnonzero(sums)
        later = min((self._reference - newest) / self._half_life, MOST_BACKWARDS)
        return rows, sums[rows] * np.exp2(later), newest

    def put(self, partition: int, row: npt.NDArray[np.int64], sums: Floats, newest: int, items: int) -> None:
        """What `earned` gave of a partition of which nothing is known here."""
        self._newest_of[partition], self._newest = newest, max(self._newest, newest)
        self._move_reference()
        self._sums(partition, items)[row] = sums * np.exp2((newest - self._reference) / self._half_life)

    def drop_partition(self, partition: int) -> None:
        self._partitions.pop(partition, None)
        self._newest_of.pop(partition, None)

    def _sums(self, partition: int, items: int) -> Floats:
        """At least so many rows."""
        sums = self._partitions.get(partition, np.zeros(0))
        if len(sums) < items:
            sums = np.concatenate([sums, np.zeros(max(items, 2 * len(sums)) - len(sums))])
            self._partitions[partition] = sums
        return sums

    def _move_reference(self) -> None:
        passed = (self._newest - self._reference) / self._half_life
        if passed > MOST_HALF_LIVES:
            for sums in self._partitions.values():
                sums *= np.exp2(-passed)
            self._reference = self._newest


class PopularityByItem:
    """What each partition's items earned by their keys, which outlive the catalogue's rows: as residents.Whole."""

    def __init__(self, popularity: Popularity, catalogue: Catalogue) -> None:
        self._popularity = popularity
        self._catalogue = catalogue

    def of_partition(self, partition: int) -> Mapping[str, npt.NDArray[Any]]:
        rows, sums, newest = self._popularity.earned(partition)
        return {"item": self._catalogue.key[rows], "earned": sums, "newest": np.array([newest])}

    def put_partition(self, partition: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Items that are in no catalogue any more have earned nothing."""
        rows = self._catalogue.rows_of_keys(arrays["item"])
        known = rows >= 0
        newest = int(arrays["newest"][0])
        self._popularity.put(partition, rows[known], arrays["earned"][known], newest, len(self._catalogue))
