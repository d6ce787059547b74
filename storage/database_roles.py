"""Who may do what on PostgreSQL: three roles, which cannot log in themselves and are granted to the users that an
administrator makes. SQLite has none.

headgate_migrator owns the schema and what is in it: it upgrades the schema and drops days. headgate_writer reads and
adds rows, changes those that are no history, and adds days by the schema's function: workers, retraining, the console.
headgate_reader reads the analysts' views. None of them has a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from storage.tables import Base
from storage.views import ANALYST_VIEWS, READER_ROLE, VIEW_NAMES

MIGRATOR_ROLE, WRITER_ROLE = "headgate_migrator", "headgate_writer"
#: Role -> what it is for.
ROLES = {
    MIGRATOR_ROLE: "owns the schema: `headgate db upgrade`, `headgate prune` and `headgate erase`",
    WRITER_ROLE: "reads and adds rows: worker, retrain, dashboard and the other commands",
    READER_ROLE: "reads the views for analysts",
}
#: What is changed or removed in the course of things. The rows of every other table stay as they were stored, until
#: their days are dropped.
CHANGING = {
    "cold_states": ("DELETE",),
    "dead_letters": ("UPDATE",),
    "feedback": ("UPDATE",),
    "items": ("UPDATE",),
    "merchant_labels": ("UPDATE",),
    "models": ("UPDATE",),
    "relay_cursors": ("UPDATE",),
    "score_sketches": ("UPDATE", "DELETE"),
    "snapshots": ("UPDATE", "DELETE"),
    "stream_controls": ("UPDATE",),
    "stream_progress": ("UPDATE",),
    "training_runs": ("UPDATE",),
}
VERSION_TABLE = "alembic_version"
MAKE_DAYS = "headgate_make_days(text, date, date, integer)"
FUNCTIONS = (MAKE_DAYS, "refuse_change_of_audit_log()")
#: What a role that only groups rights must not have itself.
POWERS = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolcanlogin", "rolreplication", "rolbypassrls")
LOCK_TIMEOUT = "10s"


def make_roles(connection: Connection) -> None:
    """Makes the roles, or renews what they may do, with or without a schema there. Asks for an administrator: a
    superuser, or the database's owner if it may create roles."""
    run = connection.exec_driver_sql
    run(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    for role in ROLES:
        _make_role(connection, role)
    if run("SHOW is_superuser").scalar() != "on":
        run(f"GRANT {MIGRATOR_ROLE} TO CURRENT_USER")  # only a member may give it what it is to own
    database, schema = (_quoted(connection, of) for of in ("current_database()", "current_schema()"))
    run(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    run(f"GRANT CONNECT ON DATABASE {database} TO {', '.join(ROLES)}")
    if not _is_migrators(connection):
        run(f"ALTER SCHEMA {schema} OWNER TO {MIGRATOR_ROLE}")
    run(f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC")
    run(f"GRANT USAGE ON SCHEMA {schema} TO {WRITER_ROLE}, {READER_ROLE}")
    defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {MIGRATOR_ROLE} IN SCHEMA {schema} GRANT"
    run(f"{defaults} SELECT, INSERT ON TABLES TO {WRITER_ROLE}")  # days; an upgrade grants exactly what is needed
    _take_over(connection)
    _grant_rights(connection)


def needed_rights(table: str) -> tuple[str, ...]:
    """What whoever runs workers, retraining or the console has to be allowed."""
    return ("SELECT", "INSERT", *CHANGING.get(table, ()))


@contextmanager
def as_migrator(connection: Connection) -> Iterator[None]:
    """What is made within the block belongs to the migrator, where the schema does, and the roles' rights fit it
    afterwards. Elsewhere, and on SQLite, whoever upgrades is the owner."""
    if connection.dialect.name != "postgresql" or not _is_migrators(connection):
        yield
        return
    connection.exec_driver_sql(f"SET LOCAL ROLE {MIGRATOR_ROLE}")
    yield
    _grant_rights(connection)


def _make_role(connection: Connection, role: str) -> None:
    powers = connection.execute(text(f"SELECT {', '.join(POWERS)} FROM pg_roles WHERE rolname = :role"), {"role": role})
    found = powers.one_or_none()
    if found is None:
        connection.exec_driver_sql(f"CREATE ROLE {role} NOLOGIN")
    elif any(found):
        connection.exec_driver_sql(
            f"ALTER ROLE {role} NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        )


def _take_over(connection: Connection) -> None:
    """Everything of Headgate's that somebody else owns."""
    for name, owner in _relations(connection).items():
        if owner != MIGRATOR_ROLE:
            connection.exec_driver_sql(f"ALTER TABLE {name} OWNER TO {MIGRATOR_ROLE}")
    for name in FUNCTIONS:
        if _has_function(connection, name):
            connection.exec_driver_sql(f"ALTER FUNCTION {name} OWNER TO {MIGRATOR_ROLE}")


def _grant_rights(connection: Connection) -> None:
    """Exactly these, whatever was granted before."""
    run, there = connection.exec_driver_sql, _relations(connection)
    if there:
        run(f"REVOKE ALL ON {', '.join(there)} FROM PUBLIC, {WRITER_ROLE}, {READER_ROLE}")
        run(f"GRANT SELECT ON {', '.join(there)} TO {WRITER_ROLE}")
    tables = [name for name in there if name not in (*VIEW_NAMES, VERSION_TABLE)]
    if tables:
        run(f"GRANT INSERT ON {', '.join(tables)} TO {WRITER_ROLE}")
    for name in CHANGING.keys() & there.keys():
        run(f"GRANT {', '.join(CHANGING[name])} ON {name} TO {WRITER_ROLE}")
    for name in _sequences(connection):
        run(f"REVOKE ALL ON SEQUENCE {name} FROM PUBLIC, {READER_ROLE}")
        run(f"GRANT USAGE ON SEQUENCE {name} TO {WRITER_ROLE}")
    views = [name for name in ANALYST_VIEWS if name in there]
    if views:
        run(f"GRANT SELECT ON {', '.join(views)} TO {READER_ROLE}")
    if _has_function(connection, MAKE_DAYS):
        run(f"REVOKE ALL ON FUNCTION {MAKE_DAYS} FROM PUBLIC, {READER_ROLE}")
        run(f"GRANT EXECUTE ON FUNCTION {MAKE_DAYS} TO {WRITER_ROLE}")


def _relations(connection: Connection) -> dict[str, str]:
    """Headgate's tables, their partitions and views in the current schema, with their owners."""
    known = [*Base.metadata.tables, *VIEW_NAMES, VERSION_TABLE]
    rows = connection.execute(
        text(
            "SELECT relname, pg_get_userbyid(relowner) AS owner FROM pg_class "
            "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v') "
            "AND (relname = ANY(:known) OR oid IN (SELECT inhrelid FROM pg_inherits JOIN pg_class parent "
            "ON parent.oid = inhparent WHERE parent.relnamespace = current_schema()::regnamespace "
            "AND parent.relname = ANY(:known))) ORDER BY relname"
        ),
        {"known": known},
    )
    return {row.relname: row.owner for row in rows}


def _sequences(connection: Connection) -> list[str]:
    """Those that number the rows of Headgate's tables."""
    rows = connection.execute(
        text(
            "SELECT own.relname FROM pg_class own JOIN pg_depend ON objid = own.oid AND deptype IN ('a', 'i') "
            "JOIN pg_class numbered ON numbered.oid = refobjid WHERE own.relkind = 'S' "
            "AND own.relnamespace = current_schema()::regnamespace AND numbered.relname = ANY(:known) ORDER BY 1"
        ),
        {"known": list(Base.metadata.tables)},
    )
    return [row.relname for row in rows]


def _has_function(connection: Connection, name: str) -> bool:
    return bool(connection.execute(text("SELECT to_regprocedure(:name) IS NOT NULL"), {"name": name}).scalar_one())


def _is_migrators(connection: Connection) -> bool:
    """Whether the migrator owns the schema."""
    owner = text("SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = current_schema()")
    return bool(connection.execute(owner).scalar() == MIGRATOR_ROLE)


def _quoted(connection: Connection, function: str) -> str:
    return str(connection.exec_driver_sql(f"SELECT quote_ident({function})").scalar_one())
