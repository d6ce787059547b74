"""A thread that watches SQL's progress from outside: how long partitions stood still, and that offsets only grow.

It looks every tenth of a second; while the database is away it sees nothing, which counts as standing still.
"""

import threading
import time

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ops.bench.faults.beside import Beside
from ops.bench.faults.deployment import Deployment
from ops.bench.faults.outcomes import Violation

LOOK_SECONDS = 0.1
#: (topic, partition)
Partition = tuple[str, int]


class ProgressWatch(Beside):
    """`begin` and `stall` bound the time that is measured; `backwards` gives what was seen since it was asked last."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__("progress-watch", LOOK_SECONDS)
        self._engine = deployment.database.engine
        self._transactions = deployment.transactions
        self._offsets: dict[Partition, int] = {}
        self._changed_at: dict[Partition, float] = {}
        self._longest = 0.0
        self._backwards: list[Violation] = []
        self._lock = threading.Lock()

    def begin(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._longest = 0.0
            self._changed_at = dict.fromkeys(self._changed_at, now)

    def stall(self) -> float:
        """Seconds: the longest that any partition of the transactions got no outcome since `begin`."""
        now = time.monotonic()
        with self._lock:
            return max([self._longest, *(now - changed for changed in self._changed_at.values())])

    def backwards(self) -> list[Violation]:
        with self._lock:
            found, self._backwards = self._backwards, []
        return found

    def _act(self) -> None:
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                rows = connection.execute(text("SELECT topic, partition, next_offset FROM stream_progress")).all()
        except SQLAlchemyError:
            return
        self._note({(row.topic, row.partition): row.next_offset for row in rows}, time.monotonic())

    def _note(self, offsets: dict[Partition, int], now: float) -> None:
        with self._lock:
            for place, offset in offsets.items():
                before = self._offsets.get(place, 0)
                if offset < before:
                    self._backwards.append(Violation("state", f"{place}: next_offset went from {before} to {offset}"))
                if place[0] == self._transactions and offset != before:
                    self._longest = max(self._longest, now - self._changed_at.get(place, now))
                    self._changed_at[place] = now
            self._offsets |= offsets
