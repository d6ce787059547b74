"""Roles of PostgreSQL: each may do what it is for and nothing else, on a schema that is old, new or upgraded later."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from storage.audit import AuditEntry, record_audit
from storage.database import Database, DatabaseRefused, open_database, upgrade
from storage.database_roles import CHANGING, MIGRATOR_ROLE, ROLES, WRITER_ROLE, make_roles
from storage.day_partitions import PARTITIONED, ensure_days, partitions_of
from storage.erasure import Subject, remove_dead_letters, remove_rows
from storage.retention import remove_days
from storage.tables import Base
from storage.views import ANALYST_VIEWS, READER_ROLE
from tests.roles import as_role, roles_of
from tests.storage.days import ONE_DAY, day_of_schema


@pytest.fixture
def users(postgres_url: str) -> Iterator[dict[str, str]]:
    """Role -> the URL of a user who has it and nothing else; the schema is upgraded, the roles are made."""
    upgrade(postgres_url)
    with roles_of(postgres_url) as urls:
        yield urls


@pytest.fixture
def database_of(users: dict[str, str]) -> Iterator[Callable[[str], Database]]:
    opened = []

    def open_as(role: str) -> Database:
        opened.append(open_database(users[role]))
        return opened[-1]

    yield open_as
    for one in opened:
        one.engine.dispose()


def run(database: Database, statement: str) -> Any:
    with database.begin() as connection:
        return connection.execute(text(statement))


CHANGES = [
    "INSERT INTO feedback (feedback_id) VALUES ('f')",
    "UPDATE alerts SET status = 'closed'",
    "DELETE FROM predictions",
    "TRUNCATE transactions",
    "DROP VIEW v_alerts",
    "CREATE TABLE mine (number int)",
    "SELECT headgate_make_days('transactions', '2099-01-01', '2099-01-02', 1)",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_a_reader_can_change_nothing(database_of: Callable[[str], Database], statement: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"permission denied|must be owner"):
        run(database_of(READER_ROLE), statement)


def test_a_reader_sees_every_view_and_no_table(database_of: Callable[[str], Database]) -> None:
    reader = database_of(READER_ROLE)
    for view in ANALYST_VIEWS:
        run(reader, f"SELECT * FROM {view}")
    for table in Base.metadata.tables:
        with pytest.raises(DatabaseRefused, match="permission denied"):
            run(reader, f"SELECT * FROM {table}")


STRUCTURE = [
    "DROP TABLE transactions",
    "DROP TABLE transactions_before",
    "ALTER TABLE alerts ADD COLUMN mine text",
    "TRUNCATE predictions",
    "CREATE TABLE mine (number int)",
    "ALTER TABLE transactions DETACH PARTITION transactions_before",
    "CREATE TEMPORARY TABLE mine (number int)",
    "SET LOCAL ROLE headgate_migrator",
    "UPDATE alembic_version SET version_num = '0001'",
    "ALTER FUNCTION headgate_make_days(text, date, date, integer) RESET ALL",
]


def destroy(database: Database, statement: str) -> None:
    """The attack: a worker that was taken over goes for the schema, or for what was stored."""
    run(database, statement)


@pytest.mark.parametrize("statement", STRUCTURE)
def test_a_writer_cannot_touch_the_schema(database_of: Callable[[str], Database], statement: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"permission denied|must be owner"):
        destroy(database_of(WRITER_ROLE), statement)


HISTORY = sorted({*Base.metadata.tables} - {table for table, rights in CHANGING.items() if "UPDATE" in rights})


@pytest.mark.parametrize("table", HISTORY)
def test_a_writer_cannot_change_what_was_stored(
    database_of: Callable[[str], Database], users: dict[str, str], table: str
) -> None:
    column = next(iter(Base.metadata.tables[table].columns)).name
    with pytest.raises(DatabaseRefused, match="permission denied"):
        destroy(database_of(WRITER_ROLE), f"UPDATE {table} SET {column} = {column}")
    if table not in CHANGING:
        with pytest.raises(DatabaseRefused, match="permission denied"):
            destroy(database_of(WRITER_ROLE), f"DELETE FROM {table}")


def test_a_writer_adds_to_the_log_of_who_did_what(database_of: Callable[[str], Database]) -> None:
    writer = database_of(WRITER_ROLE)
    entry = AuditEntry(
        "analyst:anna", "model.promote", "model:fraud:3", {"why": "better"}, datetime(2026, 1, 1, tzinfo=UTC)
    )
    with writer.begin() as connection:
        record_audit(connection, entry)
    assert run(writer, "SELECT count(*) FROM audit_log").scalar() == 1


def test_only_the_migrator_erases_a_person(database_of: Callable[[str], Database]) -> None:
    subject = Subject("account", ["anna"], [1], [2])
    with database_of(MIGRATOR_ROLE).begin() as connection:
        assert set(remove_rows(connection, subject)[0].values()) == {0}
        assert remove_dead_letters(connection, subject.names) == 0
    with pytest.raises(DatabaseRefused, match="permission denied"), database_of(WRITER_ROLE).begin() as connection:
        remove_rows(connection, subject)


def test_without_the_roles_a_taken_over_worker_rewrites_what_was_stored(postgres_url: str) -> None:
    """The same attacks as one user for everything, as it was before there were roles."""
    upgrade(postgres_url)
    database = open_database(postgres_url)
    try:
        destroy(database, "UPDATE alerts SET alert_id = alert_id")
        destroy(database, "ALTER TABLE alerts ADD COLUMN mine text")
        destroy(database, "DROP TABLE transactions CASCADE")
    finally:
        database.engine.dispose()


def test_a_writer_makes_days_and_cannot_drop_them_and_a_migrator_can(database_of: Callable[[str], Database]) -> None:
    writer, migrator = database_of(WRITER_ROLE), database_of(MIGRATOR_ROLE)
    today = day_of_schema(writer)
    made = ensure_days(writer, today)
    assert {name.rpartition("_")[0] for name in made} == set(PARTITIONED)
    with writer.begin() as connection:
        owners = connection.execute(
            text("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname = ANY(:made)"), {"made": made}
        )
        assert owners.scalars().all() == [MIGRATOR_ROLE]
    for name in made:  # new days have the rights of their tables, and no more
        run(writer, f"SELECT * FROM {name}")
        with pytest.raises(DatabaseRefused, match="permission denied"):
            run(writer, f"DELETE FROM {name}")
        with pytest.raises(DatabaseRefused, match="must be owner"):
            run(writer, f"DROP TABLE {name}")
    with pytest.raises(DatabaseRefused, match="must be owner"):
        list(remove_days(writer, "transactions", today + 3 * ONE_DAY))
    gone = list(remove_days(migrator, "transactions", today + 3 * ONE_DAY))
    assert f"transactions_{today + ONE_DAY:%Y%m%d}" in {one.partition for one in gone}


@pytest.mark.parametrize(
    "arguments",
    [
        "'alerts', '2099-01-01', '2099-01-02', 1",
        "'pg_catalog.pg_class', '2099-01-01', '2099-01-02', 1",
        "'transactions; DROP TABLE alerts', '2099-01-01', '2099-01-02', 1",
    ],
)
def test_the_function_that_makes_days_makes_nothing_else(
    database_of: Callable[[str], Database], arguments: str
) -> None:
    with pytest.raises(Exception, match="has no days"):
        run(database_of(WRITER_ROLE), f"SELECT headgate_make_days({arguments})")


def test_the_function_that_makes_days_looks_at_no_path_of_its_caller(
    postgres_url: str, database_of: Callable[[str], Database]
) -> None:
    """A caller's own to_char, ahead in its search path, would otherwise run with the migrator's rights."""
    writer_url = database_of(WRITER_ROLE).engine.url
    with as_role(postgres_url) as admin:
        run(admin, "CREATE SCHEMA trap")
        run(admin, f"GRANT ALL ON SCHEMA trap TO {WRITER_ROLE}")
    engine = create_engine(writer_url, poolclass=NullPool, connect_args={"options": "-c search_path=trap,public"})
    trapped = Database(engine)
    with trapped.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION trap.to_char(date, text) RETURNS text LANGUAGE plpgsql AS "
                "$$ BEGIN EXECUTE 'DROP TABLE public.alerts CASCADE'; RETURN 'x'; END $$"
            )
        )
        connection.execute(text("SET LOCAL search_path = trap, pg_catalog, public"))
        made = connection.execute(
            text("SELECT headgate_make_days('transactions', '2099-01-01', '2099-01-02', 10)")
        ).scalar()
    assert made == "transactions_20990101"
    run(trapped, "SELECT count(*) FROM public.alerts")


def test_roles_may_be_made_before_the_schema_and_a_migrator_upgrades_it(postgres_url: str) -> None:
    with roles_of(postgres_url) as users:
        upgrade(users[MIGRATOR_ROLE])
        writer = open_database(users[WRITER_ROLE])
        try:
            with writer.reading() as connection:
                owners = connection.execute(
                    text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
                )
                assert owners.scalars().all() == [MIGRATOR_ROLE]
            with pytest.raises(DatabaseRefused, match="permission denied"):
                run(writer, "UPDATE alembic_version SET version_num = '0001'")
            assert ensure_days(writer, day_of_schema(writer)) != []
        finally:
            writer.engine.dispose()


def test_what_a_later_migration_makes_is_the_writers_too(users: dict[str, str]) -> None:
    """A table that a migration would make, by the migrator, and not known to this version."""
    with as_role(users[MIGRATOR_ROLE]) as migrator, migrator.begin() as connection:
        connection.execute(text(f"SET LOCAL ROLE {MIGRATOR_ROLE}"))
        connection.execute(text("CREATE TABLE later (number int)"))
    writer = open_database(users[WRITER_ROLE])
    run(writer, "INSERT INTO later VALUES (1)")
    assert run(writer, "SELECT number FROM later").scalar() == 1
    writer.engine.dispose()


def test_made_again_the_roles_lose_what_somebody_granted_besides(postgres_url: str, users: dict[str, str]) -> None:
    admin = open_database(postgres_url)
    run(admin, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {READER_ROLE}, {WRITER_ROLE}")
    run(admin, f"ALTER ROLE {WRITER_ROLE} CREATEDB")
    with admin.begin() as connection:
        make_roles(connection)
    with as_role(users[READER_ROLE]) as reader, pytest.raises(DatabaseRefused):
        run(reader, "DELETE FROM feedback")
    with as_role(users[WRITER_ROLE]) as writer, pytest.raises(DatabaseRefused):
        run(writer, "TRUNCATE alerts")
    powers = run(admin, f"SELECT rolcreatedb OR rolcanlogin FROM pg_roles WHERE rolname = '{WRITER_ROLE}'").scalar()
    assert powers is False
    admin.engine.dispose()


def test_a_user_without_a_role_cannot_even_connect(postgres_url: str, users: dict[str, str]) -> None:
    stranger = f"stranger_of_{make_url(postgres_url).database}"
    admin = open_database(postgres_url)
    run(admin, f"CREATE ROLE {stranger} LOGIN PASSWORD 'word'")
    try:
        url = make_url(postgres_url).set(username=stranger, password="word").render_as_string(False)
        with as_role(url) as database, pytest.raises(Exception, match="permission denied for database"):
            run(database, "SELECT 1")
    finally:
        run(admin, f"DROP ROLE {stranger}")
        admin.engine.dispose()


def test_the_owner_of_a_database_who_is_no_superuser_makes_the_roles_too(postgres_url: str) -> None:
    admin, url = open_database(postgres_url), make_url(postgres_url)
    owner = f"owner_of_{url.database}"
    run(admin, f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'word'")
    run(admin, f"ALTER DATABASE {url.database} OWNER TO {owner}")
    own_url = url.set(username=owner, password="word").render_as_string(False)
    try:
        for role in ROLES:  # on a server of its own they would be his from the start
            run(admin, f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        if int(run(admin, "SHOW server_version_num").scalar()) >= 160_000:
            run(admin, f"GRANT {', '.join(ROLES)} TO {owner} WITH ADMIN OPTION")
        upgrade(own_url)
        with as_role(own_url) as database, database.begin() as connection:
            make_roles(connection)
        upgrade(own_url)
        tables = run(admin, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").scalars().all()
        assert tables == [MIGRATOR_ROLE]
    finally:
        run(admin, f"ALTER DATABASE {url.database} OWNER TO CURRENT_USER")
        run(admin, f"DROP OWNED BY {owner}")
        run(admin, f"DROP ROLE {owner}")
        admin.engine.dispose()


def test_a_writer_who_upgrades_is_told_so_in_one_line(users: dict[str, str]) -> None:
    with pytest.raises(DatabaseRefused, match="permission denied to set role") as caught:
        upgrade(users[WRITER_ROLE])
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value)


def test_the_function_knows_the_tables_by_day(database_of: Callable[[str], Database]) -> None:
    writer = database_of(WRITER_ROLE)
    for table in PARTITIONED:
        assert run(writer, f"SELECT headgate_make_days('{table}', '2099-01-01', '2099-01-02', 0)").scalar()
    with writer.begin() as connection:
        assert partitions_of(connection, "duplicates")[-2].first == date(2099, 1, 1)
