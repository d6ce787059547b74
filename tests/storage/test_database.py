"""Which errors mean that the database is away, who waits for whom, and moments in UTC."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from storage import tables
from storage.database import BadDatabaseUrl, Database, DatabaseUnavailable, SchemaOutdated, open_database, upgrade
from tests.storage.rows import NOON, RowMaker

CONTROL = "INSERT INTO stream_controls VALUES (1, 0, 'model', {offset}, 'detector:1')"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on and nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_absent_server_is_one_line_without_the_password(closed_port: int, host: str) -> None:
    url = f"postgresql://worker:s3cret@{host}:{closed_port}/headgate"
    for address in (url, f"{url}?password=s3cret"):
        database = open_database(address)
        for attempt in (database.connect, database.check, lambda address=address: upgrade(address)):
            with pytest.raises(DatabaseUnavailable) as caught:
                attempt()
            message = str(caught.value)
            assert f"{host}:{closed_port}/headgate" in message
            assert "refused" in message
            assert "s3cret" not in message
            assert "\n" not in message


def test_a_file_that_cannot_be_opened_is_an_absent_database(tmp_path: Path) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    database = open_database(f"sqlite:///{tmp_path / 'folder.sqlite'}")
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        database.connect()


@pytest.mark.parametrize("url", ["not a url", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(BadDatabaseUrl):
        open_database(url)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        (f"{CONTROL.format(offset=0)}, (1, 0, 'model', 0, 'again')", IntegrityError),
        ("INSERT INTO stream_controls VALUES (1, 0, 'model', 0, NULL)", IntegrityError),
        ("SELECT * FROM no_such_table", DBAPIError),
        ("SELEKT", DBAPIError),
    ],
)
def test_refused_data_and_statements_are_not_an_absent_database(
    database: Database, statement: str, error: type[Exception]
) -> None:
    with pytest.raises(error), database.begin() as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("opened", ["begin", "reading"])
def test_a_statement_that_fails_for_want_of_a_schema_says_what_to_run(empty_database_url: str, opened: str) -> None:
    database = open_database(empty_database_url)
    with pytest.raises(SchemaOutdated, match="headgate db upgrade"), getattr(database, opened)() as connection:
        connection.execute(text("SELECT * FROM models"))
    database.engine.dispose()


def test_a_reader_neither_waits_for_a_writer_nor_sees_its_rows(database: Database) -> None:
    count = select(func.count()).select_from(tables.StreamControl)
    with database.begin() as writer:
        writer.execute(text(CONTROL.format(offset=0)))
        with database.reading() as reader:
            assert reader.execute(count).scalar() == 0
    with database.reading() as reader:
        assert reader.execute(count).scalar() == 1


def test_a_writer_does_not_wait_for_a_reader_who_goes_on_seeing_what_there_was(database: Database) -> None:
    count = select(func.count()).select_from(tables.StreamControl)
    with database.reading() as reader:
        assert reader.execute(count).scalar() == 0
        with database.begin() as writer:
            writer.execute(text(CONTROL.format(offset=0)))
        assert reader.execute(count).scalar() == 0
    with database.reading() as reader:
        assert reader.execute(count).scalar() == 1


def test_a_reader_may_not_write(database: Database) -> None:
    with pytest.raises(DBAPIError, match=r"read-only|readonly"), database.reading() as reader:
        reader.execute(text(CONTROL.format(offset=0)))
    with database.begin() as writer:
        writer.execute(text(CONTROL.format(offset=0)))


def test_a_second_writer_of_sqlite_waits_at_its_begin(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    upgrade(url)
    database = open_database(url)
    with database.begin(), database.engine.connect() as second:
        raw = second.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA busy_timeout=0")
        with pytest.raises(DatabaseUnavailable, match="locked"), database.translating_errors():
            second.begin()


def test_moments_come_back_in_utc_whatever_zone_they_came_in(database: Database, rows: RowMaker) -> None:
    early = datetime(1, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    rows.label("f1", given_at=NOON.astimezone(timezone(timedelta(hours=-7))), joined_at=early)
    with database.reading() as connection:
        row = connection.execute(select(tables.Feedback.given_at, tables.Feedback.joined_at)).one()
    assert tuple(row) == (NOON, early)
    assert row.given_at.utcoffset() == timedelta(0)


def test_moments_compare_in_order_in_sql(database: Database, rows: RowMaker) -> None:
    moments = [NOON - timedelta(milliseconds=1), NOON, NOON + timedelta(milliseconds=1)]
    for number, moment in enumerate(moments):
        rows.label(f"f{number}", given_at=moment)
    given_at = tables.Feedback.given_at
    with database.reading() as connection:
        assert list(connection.scalars(select(given_at).where(given_at >= NOON).order_by(given_at))) == moments[1:]


def test_a_moment_without_a_zone_is_refused(rows: RowMaker) -> None:
    with pytest.raises(StatementError, match="no time zone"):
        rows.label("f1", given_at=datetime(2026, 3, 14))
