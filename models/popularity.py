"""How much each item earns lately from everyone: what new users see, and all users while no policy serves.

A decayed sum of rewards for each partition and item. Sums are kept in the units of a reference time, so that nothing
has to be decayed at every event; the reference moves before numbers grow large.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Half-lives after which the reference time moves.
MOST_HALF_LIVES = 40.0


class Popularity:
    """half_life in milliseconds of event time."""

    def __init__(self, half_life: int) -> None:
        self._half_life = half_life
        self._reference = 0
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
        self._move_reference(int(at.max()))
        scaled = worth * np.exp2((at - self._reference) / self._half_life)
        for number in np.unique(partition).tolist():
            own = (partition == number) & (row >= 0)
            sums = self._partitions.get(number, np.zeros(0))
            if len(sums) < items:
                sums = np.concatenate([sums, np.zeros(max(items, 2 * len(sums)) - len(sums))])
                self._partitions[number] = sums
            np.add.at(sums, row[own], scaled[own])

    def of(self, rows: npt.NDArray[np.int64], at: int) -> Floats:
        """float64 of rows' shape: the decayed sums at a time, at least 0."""
        total = np.zeros(rows.shape)
        for sums in self._partitions.values():
            known = rows < len(sums)
            total[known] += sums[rows[known]]
        return np.asarray(np.maximum(total * np.exp2((self._reference - at) / self._half_life), 0.0), np.float64)

    def drop_partition(self, partition: int) -> None:
        self._partitions.pop(partition, None)

    def _move_reference(self, newest: int) -> None:
        passed = (newest - self._reference) / self._half_life
        if passed > MOST_HALF_LIVES:
            for sums in self._partitions.values():
                sums *= np.exp2(-passed)
            self._reference = newest
