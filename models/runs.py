"""Batch arithmetic on runs: the rows of one entity within a batch, sorted by entity and then by arrival.

Every function is vectorised and gives the same result however a log is cut into batches. Scans take log2(longest
run) passes, each over the rows that still need it (Hillis and Steele, 1986), so a hot key is not quadratic.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Runs:
    """order: batch rows sorted by slot, arrival kept; slot and rank (0 for a run's first row) in that order; first
    and last: sorted positions of each run's ends; longest: rows of the longest run, 0 without any."""

    order: Rows
    slot: Rows
    rank: Rows
    first: Rows
    last: Rows
    longest: int


def find_runs(slots: Rows) -> Runs:
    order = np.argsort(slots, kind="stable")
    slot = slots[order]
    starts = np.ones(len(slot), bool)
    np.not_equal(slot[1:], slot[:-1], out=starts[1:])
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(slot))[: len(first)] - 1
    length = last - first + 1
    rank = np.arange(len(slot)) - np.repeat(first, length)
    return Runs(order, slot, rank, first, last, int(length.max(initial=0)))


def running_maximum(values: Rows, rank: Rows, longest: int) -> Rows:
    """The maximum of a run's values up to each row."""
    result = values.copy()
    shift = 1
    while shift < longest:
        rows = np.flatnonzero(rank >= shift)
        result[rows] = np.maximum(result[rows], result[rows - shift])
        shift *= 2
    return result


def decayed_before(decay: Floats, start: Floats, added: Floats, runs: Runs) -> Floats:
    """S[i], the decayed sums just before row i: S[first] = decay * start, S[i] = decay[i] * (S[i-1] + added[i-1]).

    All [n, d]: decay from the event before (or the stored state) to this one; start: the stored sums, read on first
    rows only; added: what each row adds after itself. Stable over any span of time: nothing is divided by a decay.
    """
    total = decay * start
    later = np.flatnonzero(runs.rank >= 1)
    if not len(later):
        return total
    total[later] = decay[later] * added[later - 1]
    factor = decay.copy()
    factor[runs.first] = 0.0
    rows, shift = later, 1
    while len(rows):
        total[rows] += factor[rows] * total[rows - shift]
        factor[rows] *= factor[rows - shift]
        shift *= 2
        rows = rows[runs.rank[rows] >= shift]
    return total


def window(ring: npt.NDArray[Any], new: npt.NDArray[Any], count: Rows, runs: Runs) -> npt.NDArray[Any]:
    """What the ring of each row's entity holds just before that row: [n, size], in the ring's own order.

    ring [slots, size] with entry k of an entity at k % size; new [n] the rows' own entries; count [n]: entries of
    the entity before the batch.
    """
    size = ring.shape[1]
    held = ring[runs.slot]
    rows = np.flatnonzero(runs.rank >= 1)
    if len(rows) * 4 < len(held):
        for lag in range(1, min(runs.longest, size + 1)):
            held[rows, (count[rows] + runs.rank[rows] - lag) % size] = new[rows - lag]
            rows = rows[runs.rank[rows] > lag]
        return held
    # Entry k of the entity is at k % size: the newest one before this row in each place, by its lag.
    lags = ((count + runs.rank)[:, None] - 1 - np.arange(size)) % size + 1
    inside = lags <= runs.rank[:, None]
    source = np.arange(len(new))[:, None] - lags
    held[inside] = new[source[inside]]
    return held


def write_ring(ring: npt.NDArray[Any], new: npt.NDArray[Any], count: Rows, runs: Runs) -> None:
    """Appends the rows' entries to their rings; of a long run only the newest `size` are written."""
    size = ring.shape[1]
    if runs.longest > size:
        length = runs.last - runs.first + 1
        kept = np.flatnonzero(np.repeat(length, length) - runs.rank <= size)
        ring[runs.slot[kept], (count[kept] + runs.rank[kept]) % size] = new[kept]
    else:
        ring[runs.slot, (count + runs.rank) % size] = new
