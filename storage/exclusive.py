"""What only one process at a time may do: a lock that ends with its process, however that ends.

PostgreSQL: a session's advisory lock, on a connection of its own that is in no transaction, so that no timeout ends
it. SQLite: a locked file beside the database.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from sqlalchemy import text

from storage.database import Database, DatabaseUnavailable


class AlreadyRunning(Exception):
    """Another process does this at the moment."""


@contextmanager
def exclusively(database: Database, what: str) -> Iterator[Callable[[], None]]:
    """Holds the lock within the block, or raises AlreadyRunning at once. What it gives is to be called before a step
    that must not be taken twice: it raises DatabaseUnavailable where the lock was lost with its connection."""
    holding = _advisory_lock if database.dialect == "postgresql" else _locked_file
    with holding(database, what) as still_held:
        yield still_held


@contextmanager
def _advisory_lock(database: Database, what: str) -> Iterator[Callable[[], None]]:
    key = int.from_bytes(sha256(what.encode()).digest()[:8], "big", signed=True)
    with database.connect() as plain:
        connection = plain.execution_options(isolation_level="AUTOCOMMIT")

        def still_held() -> None:
            with database.translating_errors():
                connection.execute(text("SELECT 1"))

        with database.translating_errors():
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
        if not taken:
            raise AlreadyRunning(f"another {what} is running on the {database.where}")
        try:
            yield still_held
        finally:
            with suppress(DatabaseUnavailable), database.translating_errors():  # a lost connection holds no lock
                if not connection.invalidated:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


@contextmanager
def _locked_file(database: Database, what: str) -> Iterator[Callable[[], None]]:
    import fcntl  # not on Windows, where SQLite's embedded mode is not supported either

    path = Path(f"{database.engine.url.database}.{what}-lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another {what} is running on the {database.where}") from None
        yield lambda: None
    finally:
        os.close(handle)  # the file stays: to remove it would let two processes lock two files of one name
