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
        self._newest = 0
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
            own = (partition == number) & (row >= 0)
            sums = self._partitions.get(number, np.zeros(0))
            if len(sums) < items:
                sums = np.concatenate([sums, np.zeros(max(items, 2 * len(sums)) - len(sums))])
                self._partitions[number] = sums
            np.add.at(sums, row[own], scaled[own])

    def of_all(self, items: int) -> Floats:
        """float64[items]: the decayed sums of the first rows at the newest time so far, at least 0."""
        total = np.zeros(items)
        for sums in self._partitions.values():
            total[: len(sums)] += sums[:items]
        total *= np.exp2((self._reference - self._newest) / self._half_life)
        return np.maximum(total, 0.0, out=total)

    def drop_partition(self, partition: int) -> None:
        self._partitions.pop(partition, None)

    def _move_reference(self) -> None:
        passed = (self._newest - self._reference) / self._half_life
        if passed > MOST_HALF_LIVES:
            for sums in self._partitions.values():
                sums *= np.exp2(-passed)
            self._reference = self._newest
