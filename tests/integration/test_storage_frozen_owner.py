"""A worker that froze in mid transaction cannot keep its partitions, nor finish what it began."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Connection, RootTransaction, text

from storage import database as storage_database
from storage.bulk import EncodedRows, encode_rows, write_rows
from storage.database import Database, DatabaseUnavailable, LockUnavailable, open_database, upgrade
from storage.progress import Advance, Claim, advance, claim_partitions, read_progress, set_backend_pid
from storage.tables import Duplicate

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    yield database
    database.engine.dispose()


def claim(database: Database, owner: str, backend_pid: int | None) -> Claim:
    return claim_partitions(
        database,
        topic="transactions",
        topic_uuid="uuid-1",
        start_offsets={0: 0},
        owner=owner,
        backend_pid=backend_pid,
        now=NOON,
    )[0]


def backend_pid(connection: Connection) -> int:
    driver: Any = connection.connection.driver_connection
    return int(driver.info.backend_pid)


@pytest.fixture
def writer(database: Database) -> Iterator[Connection]:
    """The old owner's connection. Its session may idle in a transaction, so that only the claim can end it."""
    connection = database.connect()
    with connection.begin():
        connection.execute(text("SET idle_in_transaction_session_timeout = 0"))
    yield connection
    connection.invalidate()
    connection.close()


@pytest.mark.parametrize("noted", ["by the claim", "later"])
def test_a_claim_ends_the_frozen_owner_whose_commit_then_fails(
    database: Database, writer: Connection, noted: str
) -> None:
    pid = backend_pid(writer)
    old = claim(database, "old", pid if noted == "by the claim" else None)
    if noted == "later":
        with database.begin() as connection:
            set_backend_pid(connection, [(old.topic_generation, old.partition, old.epoch)], pid)
    frozen = writer.begin()
    assert advance(writer, [Advance(old.topic_generation, 0, old.epoch, 0, 10, applied=10)], NOON)

    new = claim(database, "new", None)

    assert (new.epoch, new.next_offset) == (2, 0)
    with pytest.raises(DatabaseUnavailable), database.translating_errors():
        frozen.commit()
    with database.reading() as connection:
        row = read_progress(connection, 1, [0])[0]
    assert (row.owner, row.epoch, row.next_offset, row.applied) == ("new", 2, 0, 0)


def test_the_old_owners_next_batch_on_a_new_connection_moves_nothing(database: Database, writer: Connection) -> None:
    old = claim(database, "old", backend_pid(writer))
    claim(database, "new", None)
    with writer.begin():
        assert advance(writer, [Advance(1, 0, old.epoch, 0, 10, applied=10)], NOON) == 0


def test_a_lock_that_nobody_gives_up_is_an_error_that_says_so(
    database: Database, writer: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.progress.CLAIM_ATTEMPTS", 1)
    old = claim(database, "old", None)
    with writer.begin():
        assert advance(writer, [Advance(1, 0, old.epoch, 0, 10, applied=10)], NOON)
        with pytest.raises(LockUnavailable, match="lock timeout"):
            claim(database, "new", None)


def duplicate_row() -> EncodedRows:
    columns = {
        **{"day": 20_000, "topic_generation": 1, "source_partition": 0, "source_offset": np.arange(1)},
        **{"event_id": "e1", "entity_id": "a1", "occurred_at": 0, "recorded_at": 0},
    }
    return encode_rows("postgresql", Duplicate, columns, 1)


WHAT_THE_OWNER_DOES_WHEN_IT_WAKES: dict[str, Callable[[Connection, RootTransaction], object]] = {
    "commit": lambda _, transaction: transaction.commit(),
    "statement": lambda connection, _: connection.execute(text("SELECT 1")),
    "copy": lambda connection, _: write_rows(connection, [duplicate_row()]),
}


@pytest.mark.parametrize("wakes_with", WHAT_THE_OWNER_DOES_WHEN_IT_WAKES)
def test_a_session_that_idles_in_a_transaction_is_ended_by_the_server(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, wakes_with: str
) -> None:
    """Where no backend pid is stored this frees the row; to the owner the database seems to have gone."""
    upgrade(postgres_url)
    monkeypatch.setattr(storage_database, "IDLE_IN_TRANSACTION", "2s")
    database = open_database(postgres_url)
    insert = text("INSERT INTO stream_controls VALUES (1, 0, 'model', 0, 'detector:1')")
    with database.connect() as frozen:
        transaction = frozen.begin()
        frozen.execute(insert)
        with database.begin() as connection:
            connection.execute(insert)  # waits for the frozen transaction's key until the server ends it
        with pytest.raises(DatabaseUnavailable), database.translating_errors():
            WHAT_THE_OWNER_DOES_WHEN_IT_WAKES[wakes_with](frozen, transaction)
        frozen.invalidate()
    database.engine.dispose()
