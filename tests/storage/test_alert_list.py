"""Counts of alerts: what they are, and that they are read from indexes alone."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from storage.alert_list import open_alert_count, opened_by_day
from storage.database import Database, open_database, upgrade
from tests.storage.rows import NOON, TODAY, RowMaker

YESTERDAY, TOMORROW = TODAY - timedelta(days=1), TODAY + timedelta(days=1)


def plan_of(connection: Connection, ask: Callable[[Connection], object]) -> str:
    """Of the one statement with which it asks, where PostgreSQL prefers indexes however few rows there are."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        asked.append((statement, values))

    event.listen(connection.engine, "before_cursor_execute", note)
    try:
        ask(connection)
    finally:
        event.remove(connection.engine, "before_cursor_execute", note)
    ((statement, values),) = asked
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
    return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values))


def test_an_alert_counts_on_the_utc_day_of_its_first_event(database: Database, rows: RowMaker) -> None:
    midnight = NOON - timedelta(hours=12)
    rows.alert("late", ["e1"], occurred_at=midnight - timedelta(microseconds=1))
    rows.alert("early", ["e2"], occurred_at=midnight)
    rows.alert("early", ["e2", "e3"], revision=2, occurred_at=midnight + timedelta(days=1))

    with database.reading() as connection:
        assert opened_by_day(connection, [YESTERDAY, TODAY, TOMORROW]) == {YESTERDAY: 1, TODAY: 1, TOMORROW: 0}


def test_an_alert_is_open_until_a_revision_closes_it(database: Database, rows: RowMaker) -> None:
    rows.alert("a", ["e1"])
    rows.alert("a", ["e1", "e2"], revision=2)
    rows.alert("b", ["e3"])
    rows.alert("b", ["e3"], revision=2, status="closed", closed_by="label")

    with database.reading() as connection:
        assert open_alert_count(connection) == 1


@pytest.mark.service
def test_counting_reads_indexes_and_no_alerts(postgres_url: str) -> None:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    try:
        with database.begin() as connection:
            by_day = plan_of(connection, lambda connection: opened_by_day(connection, [TODAY]))
            still_open = plan_of(connection, open_alert_count)
    finally:
        database.engine.dispose()

    assert "Index Only Scan using ix_alerts_opened" in by_day
    assert "Index Only Scan using ix_alerts_opened" in still_open
    assert "Index Only Scan using ix_alerts_closed" in still_open
