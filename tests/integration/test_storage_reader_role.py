"""The role headgate_reader sees the analysts' views and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ProgrammingError

from storage.database import Database, open_database, upgrade
from storage.tables import Base
from storage.views import ANALYST_VIEWS, AUDIT_VIEW, READER_ROLE


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    yield database
    database.engine.dispose()


def as_reader(database: Database, statement: str) -> object:
    with database.connect() as connection, connection.begin():
        connection.execute(text(f"SET LOCAL ROLE {READER_ROLE}"))
        return connection.execute(text(statement)).all()


@pytest.mark.parametrize("view", ANALYST_VIEWS)
def test_the_reader_may_read_each_view(database: Database, view: str) -> None:
    assert as_reader(database, f"SELECT * FROM {view}") == []


@pytest.mark.parametrize("table", [*Base.metadata.tables, "event_labels", AUDIT_VIEW, "alembic_version"])
def test_the_reader_may_not_read_a_table(database: Database, table: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        as_reader(database, f"SELECT * FROM {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM feedback RETURNING 1",
        "UPDATE alerts SET status = 'closed' RETURNING 1",
        "INSERT INTO stream_controls VALUES (1, 0, 'model', 0, 'x') RETURNING 1",
    ],
)
def test_the_reader_may_not_change_anything(database: Database, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        as_reader(database, statement)


def test_an_owner_who_may_not_create_roles_gets_the_schema_without_the_role(postgres_url: str) -> None:
    url = make_url(postgres_url)
    owner = f"owner_of_{url.database}"
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        try:
            admin.execute(f"DROP ROLE IF EXISTS {READER_ROLE}")
        except errors.DependentObjectsStillExist:
            pytest.skip(f"this server's {READER_ROLE} is used by another database")
        admin.execute(f"CREATE ROLE {owner} LOGIN PASSWORD 'secret'")
        try:
            admin.execute(f"ALTER DATABASE {url.database} OWNER TO {owner}")
            restricted = url.set(username=owner, password="secret").render_as_string(hide_password=False)
            upgrade(restricted)
            assert admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [READER_ROLE]).fetchone() is None
            assert admin.execute("SELECT count(*) FROM v_alerts").fetchone() == (0,)
        finally:
            admin.execute(f"DROP OWNED BY {owner} CASCADE")
            admin.execute(f"ALTER DATABASE {url.database} OWNER TO CURRENT_USER")
            admin.execute(f"DROP ROLE {owner}")
