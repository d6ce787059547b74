"""A migrated, empty database for each test, on SQLite and on PostgreSQL; the schema is made once per session."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from storage.database import Database, open_database, upgrade
from storage.tables import Base
from tests.storage.rows import RowMaker

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(scope="session")
def migrated_postgres(postgres_maintenance_url: str) -> Iterator[Database]:
    url = make_url(postgres_maintenance_url).set(drivername="postgresql")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        own = url.set(database=name).render_as_string(hide_password=False)
        upgrade(own)
        database = open_database(own)
        yield database
        database.engine.dispose()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    database = open_database(sqlite_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def postgres_database(migrated_postgres: Database) -> Database:
    tables = ", ".join(Base.metadata.tables.keys() - {"audit_log"})  # which is only added to
    with migrated_postgres.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {tables} CASCADE")
    return migrated_postgres


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> Database:
    fixtures = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}
    found: Database = request.getfixturevalue(fixtures[request.param])
    return found


@pytest.fixture
def rows(database: Database) -> RowMaker:
    return RowMaker(database)
