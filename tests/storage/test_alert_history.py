"""Alerts and verdicts as the flow reads and writes them."""

import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from storage import tables
from storage.alert_history import (
    EPOCH_DAY,
    STORED_AT,
    StoredTransaction,
    judged_alerts,
    judged_since,
    known_feedback,
    next_alert_sequence,
    open_alerts,
    previous_timelines,
    stored_transactions_at,
    write_alerts,
)
from storage.database import Database
from tests.storage.rows import NOON, TODAY, RowMaker

DAY = (TODAY - EPOCH_DAY).days
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def revision(alert_id: str, number: int, timeline: list[Any], **values: Any) -> dict[str, Any]:
    return {
        **{"alert_id": alert_id, "revision": number, "topic_generation": 1, "source_partition": 0},
        **{"sequence": number, "source_offset": 9, "status": "open", "closed_by": None, "event_ids": ["e1"]},
        **{"account_id": "a1", "occurred_at": NOON, "scored_at": NOON, "score": 0.9, "score_kind": "probability"},
        **{"threshold": 0.5, "severity": "high", "amount_at_risk": 1.0, "model": "detector:1", "reasons": []},
        **{"timeline": timeline},
        **values,
    }


def test_open_alerts_are_those_whose_latest_revision_is_open(database: Database, rows: RowMaker) -> None:
    rows.alert("A", ["e1"], revision=1)
    latest = rows.alert("A", ["e1", "e2"], revision=2, score=0.95)
    rows.alert("closed", ["e3"], revision=1)
    rows.alert("closed", ["e3"], revision=2, status="closed")
    rows.alert("elsewhere", ["e4"], source_partition=1)
    rows.alert("before", ["e5"], topic_generation=2)
    with database.reading() as connection:
        (found,) = open_alerts(connection, 1, 0)
        assert open_alerts(connection, 3, 0) == []
    assert {field.name: getattr(found, field.name) for field in fields(found)} == {
        field.name: latest.get(field.name) for field in fields(found)
    }


def test_the_next_sequence_follows_the_partitions_newest(database: Database, rows: RowMaker) -> None:
    rows.alert("A", [], sequence=4)
    rows.alert("B", [], sequence=11)
    rows.alert("C", [], sequence=90, source_partition=1)
    with database.reading() as connection:
        found = [next_alert_sequence(connection, 1, partition) for partition in (0, 1, 2)]
        assert found == [12, 91, 0]
        assert next_alert_sequence(connection, 2, 0) == 0


def test_transactions_are_found_at_their_positions(database: Database, rows: RowMaker) -> None:
    rows.scored("e1", source_offset=1, flagged=True, score=0.75)
    rows.scored("e2", source_offset=2, day=TODAY - timedelta(days=1), memo="rent", country="NL")
    rows.scored("elsewhere", source_offset=3, source_partition=1)
    rows.scored("before", source_offset=4, topic_generation=2)
    rows.transaction("unscored", source_offset=5)
    wanted = [(DAY, 1), (DAY - 1, 2), (DAY, 2), (DAY, 3), (DAY, 4), (DAY, 5), (DAY, 99)]
    with database.reading() as connection:
        assert stored_transactions_at(connection, 1, 0, []) == {}
        found = stored_transactions_at(connection, 1, 0, wanted)
    first = StoredTransaction("e1", NOON, 125_000, "EUR", "m1", None, None, None, 0.75, True)
    second = StoredTransaction("e2", NOON, 125_000, "EUR", "m1", None, "NL", None, 0.25, False)
    assert found == {(DAY, 1): first, (DAY - 1, 2): second}


def test_a_revision_that_is_stored_already_stays_as_it_is(database: Database) -> None:
    with database.begin() as connection:
        assert write_alerts(connection, [revision("A", 1, [{"event_id": "e1"}])]) == 1
    with database.begin() as connection:
        again = revision("A", 1, [], status="closed")
        assert write_alerts(connection, [again, revision("A", 2, [{"event_id": "e2"}])]) == 1
    with database.reading() as connection:
        statuses = connection.execute(
            select(tables.Alert.revision, tables.Alert.status).order_by(tables.Alert.revision)
        )
        assert [tuple(row) for row in statuses] == [(1, "open"), (2, "open")]
        assert previous_timelines(connection, []) == {}
        assert previous_timelines(connection, ["A", "unknown"]) == {"A": [{"event_id": "e2"}]}


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                **dict.fromkeys(("account_id", "severity", "model"), texts),
                **dict.fromkeys(("score", "threshold", "amount_at_risk"), numbers),
                "closed_by": st.none() | texts,
                "source_offset": st.none() | st.integers(0, 2**63 - 1),
                "occurred_at": st.integers(0, 4_102_444_800_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms)),
                "event_ids": st.lists(texts, max_size=3),
                "reasons": st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2),
            }
        ),
        min_size=1,
        max_size=4,
    )
)
def test_revisions_come_back_as_they_were_written(database: Database, given_rows: list[dict[str, Any]]) -> None:
    written = [revision("A", number, [{"n": number}], **values) for number, values in enumerate(given_rows)]
    with database.connect() as connection, connection.begin() as transaction:
        assert write_alerts(connection, written) == len(written)
        found = connection.execute(select(tables.Alert.__table__).order_by(tables.Alert.revision))
        assert [dict(row._mapping) for row in found] == written
        transaction.rollback()


def test_an_alert_is_judged_by_a_label_on_it_or_on_one_of_its_events(database: Database, rows: RowMaker) -> None:
    rows.alert("on the alert", ["e1"])
    rows.alert("on an event", ["e2", "e3"])
    rows.alert("pending", ["e4"])
    rows.alert("rewarded", ["e5"])
    rows.alert("not asked for", ["e6"])
    rows.label("f1", alert_id="on the alert")
    rows.label("f2", event_id="e3")
    rows.label("f3", event_id="e4", status="pending")
    rows.label("f4", None, kind="reward", event_id="e5", value=1.0)
    rows.label("f5", event_id="e6")
    with database.reading() as connection:
        assert judged_alerts(connection, []) == set()
        asked = ["on the alert", "on an event", "pending", "rewarded"]
        assert judged_alerts(connection, asked) == {"on the alert", "on an event"}


def test_more_alerts_may_be_asked_for_than_one_statement_takes(database: Database, rows: RowMaker) -> None:
    rows.alert("A", ["e1"])
    rows.label("f1", event_id="e1")
    with database.reading() as connection:
        assert judged_alerts(connection, [f"other {n}" for n in range(1_200)] + ["A"]) == {"A"}
        assert known_feedback(connection, [f"other {n}" for n in range(1_200)] + ["f1"]) == {"f1"}


def test_verdicts_since_a_moment_include_that_moment(database: Database, rows: RowMaker) -> None:
    rows.label("f1", event_id="early", joined_at=NOON - timedelta(milliseconds=1))
    rows.label("f2", event_id="e2", joined_at=NOON)
    rows.label("f3", alert_id="A", joined_at=NOON + timedelta(hours=1))
    rows.label("f4", event_id="pending", status="pending")
    with database.reading() as connection:
        assert judged_since(connection, NOON) == ({"A"}, {"e2"})


def test_sqlite_looks_each_row_of_a_timeline_up_by_its_whole_key() -> None:
    statement = STORED_AT["sqlite"].format(columns="t.day", days="'2026-03-14'")
    with closing(sqlite3.connect(":memory:")) as connection:
        for table in ("transactions", "predictions"):
            columns = "day, topic_generation, source_partition, source_offset"
            connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({columns}))")
        values = {"wanted": "[]", "generation": 1, "partition": 0}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert plan[0].startswith("SCAN json_each")
    assert all("source_offset=?" in step for step in plan[1:]), plan
