"""Who did what: written with what it tells of, never changed, listed with the latest first."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy
from sqlalchemy import text

from storage.audit import AuditEntry, audit_entries, record_audit
from storage.database import Database
from tests.storage.rows import NOON

ENTRY = AuditEntry("analyst:alice", "verdict.label", "alert:A1", {"label": "fraud", "events": ["e1", None, 2.5]}, NOON)
#: What the database says, PostgreSQL and SQLite each in its own class.
REFUSED = (sqlalchemy.exc.DBAPIError,)


def record(database: Database, *entries: AuditEntry) -> None:
    with database.begin() as connection:
        for entry in entries:
            record_audit(connection, entry)


def listed(database: Database, **wanted: str) -> list[AuditEntry]:
    with database.reading() as connection:
        return [entry for _, entry in audit_entries(connection, limit=100, **wanted)]


def test_an_entry_is_read_as_it_was_recorded(database: Database) -> None:
    record(database, ENTRY)
    assert listed(database) == [ENTRY]
    with database.reading() as connection:
        (row,) = connection.execute(text("SELECT who, action, subject FROM v_audit")).all()
    assert tuple(row) == ("analyst:alice", "verdict.label", "alert:A1")


def test_the_latest_come_first_page_by_page_and_by_who_and_what(database: Database) -> None:
    others = [replace(ENTRY, who=f"cli:user-{number}", at=NOON + timedelta(minutes=number)) for number in range(3)]
    replay = replace(ENTRY, action="dead_letter.replay")
    record(database, ENTRY, *others, replay)
    with database.reading() as connection:
        first = audit_entries(connection, limit=2)
        rest = audit_entries(connection, limit=9, before=first[-1][0])
    assert [entry for _, entry in [*first, *rest]] == [replay, *reversed(others), ENTRY]
    assert listed(database, who="cli:user-1") == [others[1]]
    assert listed(database, action="dead_letter.replay") == [replay]
    assert listed(database, who="nobody") == []


def test_what_is_rolled_back_was_not_done(database: Database) -> None:
    def fail() -> None:
        with database.begin() as connection:
            record_audit(connection, ENTRY)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert listed(database) == []


def rewrite(database: Database) -> None:
    """The attack: somebody with Headgate's own user hides what was done."""
    statements = ["UPDATE audit_log SET who = 'cli:another'", "DELETE FROM audit_log"]
    statements += ["TRUNCATE audit_log"] if database.dialect == "postgresql" else []
    for statement in statements:
        with pytest.raises(REFUSED, match="audit_log is only added to"), database.begin() as connection:
            connection.exec_driver_sql(statement)


def test_no_entry_is_changed_or_removed(database: Database) -> None:
    record(database, ENTRY)
    rewrite(database)
    assert listed(database) == [ENTRY]


def test_without_the_triggers_entries_are_changed_and_removed(database: Database) -> None:
    record(database, ENTRY)
    drops = {
        "postgresql": ["DROP TRIGGER audit_log_is_only_added_to ON audit_log"],
        "sqlite": ["DROP TRIGGER audit_log_refuses_update", "DROP TRIGGER audit_log_refuses_delete"],
    }
    with database.begin() as connection:
        for drop in drops[database.dialect]:
            connection.exec_driver_sql(drop)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        rewrite(database)
    assert listed(database) == [replace(ENTRY, who="cli:another")]
