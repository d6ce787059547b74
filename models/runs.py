"""Batch arithmetic on runs: the rows of one entity within a batch, sorted by entity and then by arrival.

Every function is vectorised and gives the same result however a log is cut into batches. Scans take log2(longest
run) passes, each over the rows that still need it (Hillis and Steele, 1986), so a hot key is not quadratic.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Runs:
    """order: batch rows sorted by slot, arrival kept; slot and rank (0 for a run's first row) in that order; first
    and last: sorted positions of each run's ends."""

    order: Rows
    slot: Rows
    rank: Rows
    first: Rows
    last: Rows

    @property
    def longest(self) -> int:
        return int(self.rank.max(initial=-1)) + 1


def find_runs(slots: Rows) -> Runs:
    order = np.argsort(slots, kind="stable")
    slot = slots[order]
    starts = np.empty(len(slot), bool)
    if len(slot):
        starts[0] = True
        np.not_equal(slot[1:], slot[:-1], out=starts[1:])
    first = np.flatnonzero(starts)
    rank = np.arange(len(slot)) - first[np.cumsum(starts) - 1] if len(slot) else np.zeros(0, np.int64)
    last = np.append(first[1:], len(slot)) - 1 if len(slot) else first
    return Runs(order, slot, rank, first, last)


def running_maximum(values: Rows, rank: Rows, longest: int) -> Rows:
    """The maximum of a run's values up to each row."""
    result = values.copy()
    shift = 1
    while shift < longest:
        rows = np.flatnonzero(rank >= shift)
        result[rows] = np.maximum(result[rows], result[rows - shift])
        shift *= 2
    return result


def decayed_before(decay: Floats, start: Floats, added: Floats, rank: Rows, longest: int) -> Floats:
    """S[i], the decayed sums just before row i: S[first] = decay * start, S[i] = decay[i] * (S[i-1] + added[i-1]).

    All [n, d]: decay from the event before (or the stored state) to this one; start: the stored sums, read on first
    rows only; added: what each row adds after itself.
    """
    total = decay * start
    if longest < 2:
        return total
    later = np.flatnonzero(rank >= 1)
    factor = decay.copy()
    factor[rank == 0] = 0.0
    total[later] = decay[later] * added[later - 1]
    shift = 1
    while shift < longest:
        rows = np.flatnonzero(rank >= shift)
        total[rows] = total[rows] + factor[rows] * total[rows - shift]
        factor[rows] = factor[rows] * factor[rows - shift]
        shift *= 2
    return total


def window(
    ring: npt.NDArray[np.generic], new: npt.NDArray[np.generic], count: Rows, runs: Runs
) -> npt.NDArray[np.generic]:
    """What the ring of each row's entity holds just before that row: [n, size], unordered.

    ring [slots, size] with entry k of an entity at k % size; new [n] the rows' own entries; count [n]: entries of
    the entity before the batch.
    """
    size = ring.shape[1]
    held = ring[runs.slot]
    for lag in range(1, min(runs.longest, size + 1)):
        rows = np.flatnonzero(runs.rank >= lag)
        held[rows, (count[rows] + runs.rank[rows] - lag) % size] = new[rows - lag]
    return held


def write_ring(ring: npt.NDArray[np.generic], new: npt.NDArray[np.generic], count: Rows, runs: Runs) -> None:
    """Appends the rows' entries to their rings; of a long run only the newest `size` are written."""
    size = ring.shape[1]
    if runs.longest > size:
        length = np.repeat(runs.last - runs.first + 1, runs.last - runs.first + 1)
        kept = np.flatnonzero(length - runs.rank <= size)
        ring[runs.slot[kept], (count[kept] + runs.rank[kept]) % size] = new[kept]
    else:
        ring[runs.slot, (count + runs.rank) % size] = new
