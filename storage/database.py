"""Opening the database and bringing its schema up to date. PostgreSQL in production, SQLite embedded.

Everything that cannot reach the database becomes DatabaseUnavailable (worth another try); data that the database
refuses stays an error of its own kind, because trying again cannot help.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from storage.database_roles import as_migrator

MIGRATIONS = Path(__file__).parent / "migrations"
#: A frozen owner's transaction cannot hold its partitions longer than this.
IDLE_IN_TRANSACTION = "3s"
#: SQLSTATE classes that mean "not now": connection, resources, operator intervention, system, rollback for
#: serialization or deadlock.
TRANSIENT_CLASSES = ("08", "53", "57", "58", "40")
LOCK_NOT_AVAILABLE = "55P03"
#: The server ended a session that idled in a transaction, or whose transaction took too long.
ENDED_SESSION = ("25P03", "25P04")
TRANSIENT_IN_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
#: What the drivers raise for a table or a column that is not there, beside other mistakes in a statement.
STATEMENT_REFUSED = (psycopg.ProgrammingError, sqlite3.OperationalError)
MIGRATION_LOCK = 4_815_162_342


#: What libpq says of a server that it does not trust, or that does not trust it, before there is a SQLSTATE.
REFUSALS = {
    "authentication": ("authentication failed", "no pg_hba.conf entry", "no password supplied"),
    "authorization": ("permission denied for database", "is not permitted to log in"),
    "tls": (
        *("SSL error", "does not support SSL", "certificate verify failed", "server certificate for"),
        *("certificate file", "private key file", "client certificate"),
    ),
}


class DatabaseUnavailable(Exception):
    """The database does not answer, or ended the connection; try again. refused: why, where one side does not
    accept the other (as REFUSALS has it), else None."""

    refused: str | None = None


class DatabaseRefused(Exception):
    """The database's user lacks a right."""


class LockUnavailable(DatabaseUnavailable):
    """Another transaction held what was asked for, longer than the lock timeout."""


class SchemaOutdated(Exception):
    """The database's schema is not the one that this version needs."""


class BadDatabaseUrl(ValueError):
    """The database URL cannot be used."""


@dataclass(frozen=True, slots=True)
class Database:
    """An engine and its dialect ("postgresql" or "sqlite")."""

    engine: Engine

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def connect(self) -> Connection:
        """A connection; raises DatabaseUnavailable."""
        with self.translating_errors():
            return self.engine.connect()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end; raises DatabaseUnavailable."""
        with self.translating_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a read-only transaction, all of whose statements see the same state; on SQLite it never waits
        for a writer."""
        options: dict[str, Any] = {"sqlite_read": True}
        if self.dialect == "postgresql":
            options = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
        with self.translating_errors(), self.engine.connect() as plain:
            connection = plain.execution_options(**options)
            with connection.begin():
                yield connection

    @contextmanager
    def translating_errors(self) -> Iterator[None]:
        """Turns driver errors that are worth another try into DatabaseUnavailable, and statements that fail because the
        schema is an older one (or none) into SchemaOutdated."""
        try:
            yield
        except sqlalchemy.exc.TimeoutError as error:
            raise DatabaseUnavailable(f"{self.where}: no connection became free") from error
        except (DBAPIError, psycopg.Error, sqlite3.Error) as error:  # COPY's errors come from the driver itself
            cause = error.orig if isinstance(error, DBAPIError) else error
            broken = isinstance(error, DBAPIError) and error.connection_invalidated
            if not broken and not is_transient(cause):
                if isinstance(cause, InsufficientPrivilege):
                    said = str(cause).partition("\n")[0]
                    raise DatabaseRefused(f"{self.where}: {said}; `headgate db roles` grants rights") from error
                if isinstance(cause, STATEMENT_REFUSED):
                    self.check()
                raise
            locked = getattr(cause, "sqlstate", None) == LOCK_NOT_AVAILABLE
            kind = LockUnavailable if locked else DatabaseUnavailable
            unavailable = kind(f"{self.where}: {_in_one_line(cause)}")
            unavailable.refused = refusal_of(cause)
            raise unavailable from error

    @property
    def where(self) -> str:
        """The address without its password."""
        address = self.engine.url.difference_update_query(["password", "sslpassword"])
        return f"database at {address.render_as_string(hide_password=True)}"

    def check(self) -> None:
        """Raises DatabaseUnavailable or SchemaOutdated."""
        found, wanted = current_revision(self), head_revision()
        if found != wanted:
            raise SchemaOutdated(
                f"{self.where} has schema {found or 'nothing'}, this version needs {wanted}; run `headgate db upgrade`"
            )


def open_database(url: str) -> Database:
    address = _normalised(url)
    if address.get_backend_name() == "sqlite":
        engine = sqlalchemy.create_engine(address, poolclass=NullPool, connect_args={"timeout": 30})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_immediate)
    else:
        # Compiling takes longer than the statements on many partitions that it is meant to speed up.
        options = f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION} -c timezone=UTC -c jit=off"
        engine = sqlalchemy.create_engine(
            address,
            poolclass=QueuePool,
            pool_size=10,
            max_overflow=10,
            pool_timeout=10,
            pool_pre_ping=True,
            connect_args={"options": options, "connect_timeout": 5, "application_name": "headgate"},
        )
    return Database(engine)


def connection_parameters(url: str) -> dict[str, str]:
    """What libpq is told by a PostgreSQL URL, and by its own environment variables where the URL says nothing."""
    address = _normalised(url)
    _, given = address.get_dialect()().create_connect_args(address)
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val is not None
    }
    return defaults | {name: str(value) for name, value in given.items()}


def upgrade(url: str, revision: str = "head") -> str:
    """Brings the schema to the newest revision (or another) and returns it; two at once wait for each other."""
    database = open_database(url)
    try:
        with database.begin() as connection:
            if database.dialect == "postgresql":
                # A machine that is busy must not end the session between two steps, as it would a frozen worker's.
                connection.execute(sqlalchemy.text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            with as_migrator(connection):
                config = _alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
    finally:
        database.engine.dispose()
    return head_revision() if revision == "head" else revision


def current_revision(database: Database) -> str | None:
    with database.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    assert head is not None
    return head


def is_transient(error: BaseException | None) -> bool:
    """Whether a driver's error may go away by itself: a lost connection, a lock, a full disk; never refused data."""
    if isinstance(error, sqlite3.Error):
        primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return primary in TRANSIENT_IN_SQLITE
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # the client's own: it could not connect, or the connection broke
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate.startswith(TRANSIENT_CLASSES) or error.sqlstate in (LOCK_NOT_AVAILABLE, *ENDED_SESSION)


def refusal_of(error: BaseException | None) -> str | None:
    """Why a connection was refused, by either side; None where it failed otherwise."""
    if not isinstance(error, psycopg.OperationalError) or error.sqlstate is not None:
        return None
    said = str(error)
    return next((reason for reason, words in REFUSALS.items() if any(word in said for word in words)), None)


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _normalised(url: str) -> URL:
    try:
        address = make_url(url)
        backend = address.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise BadDatabaseUrl(
            "the database URL cannot be read; write postgresql://user@host/name or sqlite:///file"
        ) from error
    if backend in ("postgresql", "postgres"):
        return address.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        if address.database in (None, "", ":memory:"):
            raise BadDatabaseUrl("SQLite in memory forgets everything between two connections; use sqlite:///file")
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        return address
    raise BadDatabaseUrl(f"{backend} is not supported; use PostgreSQL or SQLite")


def _prepare_sqlite(driver_connection: Any, _record: Any) -> None:
    driver_connection.isolation_level = None  # transactions are begun by _begin_immediate
    driver_connection.execute("PRAGMA journal_mode=WAL")
    driver_connection.execute("PRAGMA synchronous=NORMAL")
    driver_connection.execute("PRAGMA busy_timeout=30000")
    driver_connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: Connection) -> None:
    """A writer takes its lock at once, so that it waits here rather than fails in mid transaction. Plain reads ask
    for a deferred transaction with the execution option `sqlite_read`."""
    reads = connection.get_execution_options().get("sqlite_read")
    if reads:
        connection.exec_driver_sql("PRAGMA query_only=ON")  # for this connection's life, which NullPool ends
    connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")


def _in_one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or repr(error)
