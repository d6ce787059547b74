"""Which events repeat one that their account has among its newest: decided the same however the log is cut.

A repeat moves nothing, so whether an event is one can depend on the answers before it. Where no id occurs twice,
that is settled for the whole batch at once; only accounts with a candidate are followed event by event.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)


def find_duplicates(ring: Hashes, events: Rows, slots: Rows, event_hash: Hashes) -> npt.NDArray[np.bool_]:
    """bool[n]: the event's id hash is among the newest accepted ones of its account.

    ring [slots, size]: hashes of accepted events, entry k of an account at k % size; events [slots]: how many there
    were; slots, event_hash [n]: the batch.
    """
    duplicate: npt.NDArray[np.bool_] = (ring.take(slots, 0) == event_hash[:, None]).any(1)
    key = event_hash + slots.astype(np.uint64) * _ODD  # equal for equal pairs; else hardly ever, and harmlessly
    ordered = np.sort(key)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated) and not duplicate.any():
        return duplicate
    suspects = np.unique(slots[duplicate | np.isin(key, repeated)])
    rows = np.flatnonzero(np.isin(slots, suspects))
    rows = rows[np.argsort(slots[rows], kind="stable")]
    stops = np.append(np.flatnonzero(np.diff(slots[rows])) + 1, len(rows)).tolist()
    own_hashes, answers = event_hash[rows].tolist(), list[bool]()
    for recent, count, stop in zip(ring[suspects].tolist(), events[suspects].tolist(), stops, strict=True):
        answers += _follow(recent, count, own_hashes[len(answers) : stop])
    duplicate[rows] = answers
    return duplicate


def _follow(ring: list[int], count: int, event_hashes: list[int]) -> list[bool]:
    """One account's events in turn."""
    size, oldest = len(ring), count % len(ring)
    recent = deque(ring[:count] if count <= size else ring[oldest:] + ring[:oldest], size)
    answers = []
    for value in event_hashes:
        answers.append(value in recent)
        if not answers[-1]:
            recent.append(value)
    return answers
