"""How many records a batch may have, so that scoring and storing them takes no longer than the latency budget. Knows
nothing of records.

Larger batches cost less a record but make each wait for all the others. What batches take is measured as it goes,
without what waits in between; a faster machine makes larger ones.
"""

#: A batch of fewer records takes hardly less time, one of more saves hardly any.
LEAST_RECORDS, MOST_RECORDS = 1_024, 8_192
#: How much the latest batch counts.
WEIGHT = 0.2


class BatchSize:
    """`note` and `most` may be called from different threads. budget: seconds."""

    def __init__(self, budget: float, *, least: int = LEAST_RECORDS, most: int = MOST_RECORDS) -> None:
        self._budget = budget
        self._least, self._largest = least, most
        self._seconds_a_record = budget / most

    @property
    def most(self) -> int:
        return max(self._least, min(self._largest, int(self._budget / self._seconds_a_record)))

    def note(self, records: int, seconds: float) -> None:
        """A batch took so long. Small ones tell nothing of large ones; a pause (a restore, a database that is away)
        counts no more than a slow machine would, and a clock that stood still no less than a fast one."""
        if 2 * records >= self._least:
            bounded = min(max(seconds / records, self._budget / self._largest / 2), self._budget / self._least)
            self._seconds_a_record += WEIGHT * (bounded - self._seconds_a_record)
