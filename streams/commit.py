"""One micro-batch into one SQL transaction, exactly once, whatever happens to the connection.

SQL owns progress: the transaction's last statement moves `stream_progress` under our epoch and from our base
offset. When a partition's row does not match, or the connection dies during COMMIT, the row is read again:
already at `next` means done, at `base` under our epoch means send the same bytes again, anything else means that
another worker owns the partition; then the rest of the batch is sent without it. Rows of a worker that slept may
meet those of the new owner before that last statement: a key that is there already is judged in the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from storage.bulk import write_rows
from storage.database import Database, DatabaseUnavailable
from storage.progress import ProgressRow, advance, read_progress, set_backend_pid
from streams.batch import FreshRows, PartitionWork, PreparedBatch
from streams.patience import Wait


class Fate(Enum):
    """What became of a partition's work, judged from its row in stream_progress."""

    DONE = "done"
    AGAIN = "again"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class CommitResult:
    """committed: with the rows that their finishes added to outboxes."""

    committed: Sequence[PartitionWork]
    lost: Sequence[PartitionWork]


#: A key is there already; COPY's errors come from the driver itself.
KEY_CONFLICTS = (IntegrityError, psycopg.IntegrityError)
#: Judged to be ours, and there all the same: a bug, which trying again cannot mend.
MOST_CONFLICTS = 2


class PartitionsMoved(Exception):
    """Some partition's row did not match; the transaction is rolled back."""


def judge(work: PartitionWork, row: ProgressRow | None) -> Fate:
    """The fate of a work that was sent at least once."""
    step = work.advance
    if row is None or row.epoch != step.epoch:
        return Fate.LOST
    if row.next_offset == step.next_offset and step.next_offset != step.base_offset:
        return Fate.DONE
    return Fate.AGAIN if row.next_offset == step.base_offset else Fate.LOST


class Committer:
    """Writes prepared batches in order over one connection, which it renews when it breaks.

    `wait` is called between two attempts while the database is away.
    """

    def __init__(
        self,
        database: Database,
        wait: Wait,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._clock = clock
        self._wait = wait
        self._connection: Connection | None = None
        self._noted: set[tuple[int, int, int]] = set()
        #: By the id() of a work: what its finishes added to outboxes when it was last sent.
        self._added: dict[int, dict[str, FreshRows]] = {}
        self.backend_pid: int | None = None

    def commit(self, batch: PreparedBatch) -> CommitResult:
        works = list(batch.works)
        self._added.clear()
        committed: list[PartitionWork] = []
        lost: list[PartitionWork] = []
        uncertain = False
        failures = conflicts = 0
        while works:
            try:
                if uncertain:
                    fates = self._judge_all(works)
                    committed += [w for w in works if fates[id(w)] is Fate.DONE]
                    lost += [w for w in works if fates[id(w)] is Fate.LOST]
                    works = [w for w in works if fates[id(w)] is Fate.AGAIN]
                    if not works:
                        break
                self._send(works)
                committed += works
                works = []
            except PartitionsMoved:
                uncertain = True
            except KEY_CONFLICTS:
                conflicts += 1
                if conflicts > MOST_CONFLICTS:
                    raise
                uncertain = True
            except DatabaseUnavailable as error:
                uncertain = True
                failures += 1
                self.close()
                self._wait(failures, error)
        with_added = [replace(w, fresh={**w.fresh, **self._added.get(id(w), {})}) for w in committed]
        return CommitResult(with_added, lost)

    def close(self) -> None:
        """Drops the connection; from another thread it breaks off what is at hand."""
        connection, self._connection = self._connection, None
        self._noted.clear()
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.connect()
            if self._database.dialect == "postgresql":
                driver: Any = self._connection.connection.driver_connection
                self.backend_pid = driver.info.backend_pid
        return self._connection

    def _send(self, works: Sequence[PartitionWork]) -> None:
        with self._database.translating_errors():
            connection = self._connected()
            self._note_backend(connection, works)
            with connection.begin():
                write_rows(connection, [rows for work in works for rows in work.rows])
                for work in works:
                    self._added[id(work)] = {
                        outbox: rows for finish in work.finish for outbox, rows in (finish(connection) or {}).items()
                    }
                if advance(connection, [work.advance for work in works], self._clock()) != len(works):
                    raise PartitionsMoved

    def _note_backend(self, connection: Connection, works: Sequence[PartitionWork]) -> None:
        """Before the first write for a claim: so that the next owner can end this backend, should we freeze."""
        steps = [work.advance for work in works]
        new = {(step.topic_generation, step.partition, step.epoch) for step in steps} - self._noted
        if new and self.backend_pid is not None:
            with connection.begin():
                set_backend_pid(connection, sorted(new), self.backend_pid)
            self._noted |= new

    def _judge_all(self, works: Sequence[PartitionWork]) -> dict[int, Fate]:
        with self._database.translating_errors():
            connection = self._connected()
            with connection.begin():
                fates = {}
                for work in works:
                    step = work.advance
                    rows = read_progress(connection, step.topic_generation, [step.partition])
                    fates[id(work)] = judge(work, rows.get(step.partition))
                return fates
