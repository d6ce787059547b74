"""One at a time, over connections and processes, and free again however the holder ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.database import Database, DatabaseUnavailable, open_database
from storage.exclusive import AlreadyRunning, exclusively
from tests.deployment import wait_until

HOLDER = """
import sys
from storage.database import open_database
from storage.exclusive import exclusively
with exclusively(open_database(sys.argv[1]), "work"):
    print("held", flush=True)
    sys.stdin.read()
"""
CHECKOUT = Path(__file__).parents[2]


def test_a_second_holder_is_told_so_at_once_and_other_work_is_free(database: Database) -> None:
    with exclusively(database, "work") as still_held:
        with pytest.raises(AlreadyRunning, match="another work is running"), exclusively(database, "work"):
            pass
        with exclusively(database, "other work"):
            still_held()
    with exclusively(database, "work"):
        pass


def test_an_error_within_the_block_frees_the_lock(database: Database) -> None:
    with pytest.raises(KeyError), exclusively(database, "work"):
        raise KeyError
    with exclusively(database, "work"):
        pass


def test_a_killed_process_holds_nothing(database: Database) -> None:
    url = database.engine.url.render_as_string(hide_password=False)
    arguments = [sys.executable, "-c", HOLDER, url]
    with subprocess.Popen(arguments, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning), exclusively(database, "work"):
            pass
        holder.kill()
    wait_until("the lock is free", lambda: is_free(database))


def is_free(database: Database) -> bool:
    try:
        with exclusively(database, "work"):
            return True
    except AlreadyRunning:  # PostgreSQL notices the death of a client a moment later
        return False


def test_who_lost_the_lock_with_its_connection_is_told_before_the_next_step(postgres_url: str) -> None:
    database = open_database(postgres_url)
    with exclusively(database, "work") as still_held:
        with database.begin() as connection:
            connection.exec_driver_sql(
                """SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE l.locktype = 'advisory' AND d.datname = current_database()"""
            )
        with pytest.raises(DatabaseUnavailable):
            still_held()
    with exclusively(database, "work") as still_held:
        still_held()
    database.engine.dispose()
