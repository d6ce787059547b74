"""What goes in as columns comes out as rows, on both databases, whatever the values."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from storage import tables
from storage.bulk import SharedTexts, encode_parts, encode_rows, write_rows
from storage.database import Database
from tests.storage.rows import TODAY

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1)
MILLISECOND = timedelta(milliseconds=1)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
texts_or_none = st.none() | texts
moments = st.integers((datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // MILLISECOND, 253_402_300_799_999)
days = st.integers((date(1, 1, 1) - EPOCH_DAY).days, (date(9999, 12, 31) - EPOCH_DAY).days)
int64 = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, width=64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
json_objects = st.none() | st.dictionaries(texts, json_values, max_size=3)
per_example_rollback = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def undone(database: Database) -> Iterator[Connection]:
    """A transaction of which nothing stays."""
    with database.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def written(database: Database, model: type[tables.Base], columns: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """What the table holds after a write, ordered by offset; rolled back."""
    encoded = encode_rows(database.dialect, model, columns, rows)
    table = model.__table__
    with undone(database) as connection:
        write_rows(connection, [encoded])
        return [dict(row._mapping) for row in connection.execute(select(table).order_by(table.c.source_offset))]


def moment(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def encoded_json(value: Any) -> bytes | None:
    return None if value is None else json.dumps(value, ensure_ascii=False).encode()


transactions = st.lists(
    st.fixed_dictionaries(
        {
            "day": days,
            "event_id": texts,
            "account_id": texts,
            "merchant_id": texts,
            "occurred_at": moments,
            "recorded_at": moments,
            "amount_e4": int64,
            "currency": texts,
            "channel": texts_or_none,
            "country": texts_or_none,
            "category": texts_or_none,
            "memo": texts_or_none,
            "extra": json_objects,
        }
    ),
    min_size=1,
    max_size=5,
)


@per_example_rollback
@given(transactions)
def test_transactions_come_back_as_they_were_written(database: Database, given_rows: list[dict[str, Any]]) -> None:
    columns: dict[str, Any] = {name: [row[name] for row in given_rows] for name in given_rows[0]}
    for name in ("day", "occurred_at", "recorded_at", "amount_e4"):
        columns[name] = np.array(columns[name], np.int64)
    columns["extra"] = [encoded_json(value) for value in columns["extra"]]
    columns |= {"topic_generation": 32_767, "source_partition": 2**31 - 1}
    columns["source_offset"] = np.arange(len(given_rows)) + (2**63 - 10)
    expected = [
        {
            **row,
            "day": EPOCH_DAY + timedelta(days=row["day"]),
            "occurred_at": moment(row["occurred_at"]),
            "recorded_at": moment(row["recorded_at"]),
            "topic_generation": 32_767,
            "source_partition": 2**31 - 1,
            "source_offset": 2**63 - 10 + offset,
        }
        for offset, row in enumerate(given_rows)
    ]
    assert written(database, tables.Transaction, columns, len(given_rows)) == expected


@per_example_rollback
@given(st.lists(st.tuples(floats, floats, st.booleans(), texts_or_none), min_size=1, max_size=5))
def test_floats_and_booleans_come_back_exactly(
    database: Database, given_rows: list[tuple[float, float, bool, str | None]]
) -> None:
    score, threshold, flagged, alert_id = (list(values) for values in zip(*given_rows, strict=True))
    columns = {
        **log_key(len(given_rows)),
        "event_id": "e",
        "account_id": "a",
        "occurred_at": 0,
        "scored_at": np.zeros(len(given_rows), np.int64),
        "score": np.array(score),
        "threshold": np.array(threshold),
        "flagged": np.array(flagged),
        "score_kind": "surprise",
        "model": "detector:1",
        "alert_id": alert_id,
    }
    found = written(database, tables.Prediction, columns, len(given_rows))
    assert [(row["score"], row["threshold"], row["flagged"], row["alert_id"]) for row in found] == given_rows
    assert all(row["model"] == "detector:1" and row["occurred_at"] == EPOCH for row in found)


@pytest.mark.parametrize("constant", ["", "x" * 1_023, "\u00e4" * 512, "x" * 10_000])
def test_texts_of_any_length_come_back_whether_one_for_all_rows_or_one_each(database: Database, constant: str) -> None:
    lengths = (0, 1_023, 1_024, 1_025, 10_000)
    columns = {
        **log_key(len(lengths)),
        "event_id": ["x" * length for length in lengths],
        "entity_id": constant,
        "occurred_at": 0,
        "recorded_at": 0,
    }
    found = written(database, tables.Duplicate, columns, len(lengths))
    assert [len(row["event_id"]) for row in found] == list(lengths)
    assert {row["entity_id"] for row in found} == {constant}


def test_texts_that_two_tables_share_come_back_from_both(database: Database) -> None:
    shared = SharedTexts(["a", "\u00e4", ""])
    first = written(database, tables.Duplicate, duplicates(3) | {"event_id": shared, "entity_id": shared}, 3)
    second = written(database, tables.Duplicate, duplicates(3) | {"event_id": shared}, 3)
    assert [row["event_id"] for row in first] == [row["entity_id"] for row in first] == list(shared)
    assert [row["event_id"] for row in second] == list(shared)


def test_rows_of_one_table_go_into_one_copy_whether_or_not_they_hold_any_value(database: Database) -> None:
    """A partition without memos in this batch must not cost a statement of its own."""
    with_value, without = (
        encode_rows(database.dialect, tables.DeadLetter, {"record_key": keys, "payload": [b"p", None]}, 2)
        for keys in ([b"k", None], [None, None])
    )
    assert with_value.columns == without.columns


@per_example_rollback
@given(st.lists(st.tuples(st.none() | st.binary(), st.none() | st.binary()), min_size=1, max_size=5))
def test_bytes_come_back_as_they_were_written(
    database: Database, given_rows: list[tuple[bytes | None, bytes | None]]
) -> None:
    columns = {
        **log_key(len(given_rows)),
        "topic": "transactions",
        "recorded_at": np.zeros(len(given_rows), np.int64),
        "error_code": ["invalid_json"] * len(given_rows),
        "error_message": "not JSON",
        "record_key": [key for key, _ in given_rows],
        "payload": [payload for _, payload in given_rows],
        "payload_bytes": 7,
        "sha256": None,
    }
    found = written(database, tables.DeadLetter, columns, len(given_rows))
    assert [(row["record_key"], row["payload"]) for row in found] == given_rows
    assert [row["replayed_at"] for row in found] == [None] * len(given_rows)


@per_example_rollback
@given(st.lists(st.none() | floats, min_size=1, max_size=5))
def test_numbers_that_may_be_null_come_back(database: Database, values: list[float | None]) -> None:
    columns = {
        **log_key(len(values)),
        "feedback_id": "f",
        "given_at": 0,
        "recorded_at": 0,
        "kind": "reward",
        "value": values,
        "entity_id": "u",
        "status": "pending",
    }
    assert [row["value"] for row in written(database, tables.Feedback, columns, len(values))] == values


@pytest.mark.parametrize("values", [[1, None, 2**62], [None, None], [-(2**63), 2**63 - 1], [0]])
def test_integers_that_may_be_null_come_back(database: Database, values: list[int | None]) -> None:
    columns = {
        **log_key(len(values)),
        "feedback_id": "f",
        "given_at": 0,
        "recorded_at": 0,
        "kind": "label",
        "entity_id": "u",
        "status": "joined",
        "label_version": values,
    }
    assert [row["label_version"] for row in written(database, tables.Feedback, columns, len(values))] == values


def test_the_same_bytes_can_be_sent_again_after_a_rollback(database: Database) -> None:
    encoded = [
        encode_rows(database.dialect, tables.Duplicate, {**duplicates(3), "source_partition": partition}, 3)
        for partition in (0, 1)
    ]
    with undone(database) as connection:
        write_rows(connection, encoded)
        assert stored_rows(connection) == 6
    with database.begin() as connection:
        assert stored_rows(connection) == 0
        write_rows(connection, encoded)
    with database.begin() as connection:
        assert stored_rows(connection) == 6


def test_no_rows_write_nothing(database: Database) -> None:
    empty = encode_rows(database.dialect, tables.Duplicate, duplicates(0), 0)
    with database.begin() as connection:
        write_rows(connection, [empty])
        write_rows(connection, [])
        assert stored_rows(connection) == 0


def test_several_tables_go_into_one_transaction(database: Database) -> None:
    letters = {
        **log_key(2),
        "topic": "t",
        "recorded_at": 0,
        "error_code": "c",
        "error_message": "m",
        "payload_bytes": 0,
    }
    encoded = [
        encode_rows(database.dialect, tables.Duplicate, duplicates(3), 3),
        encode_rows(database.dialect, tables.DeadLetter, letters, 2),
    ]
    with database.begin() as connection:
        write_rows(connection, encoded)
        assert stored_rows(connection) == 3
        assert connection.execute(select(func.count()).select_from(tables.DeadLetter)).scalar() == 2


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_number_too_large_for_its_column_is_refused_before_it_is_sent(dialect: str) -> None:
    columns = {**duplicates(2), "source_partition": np.array([0, 2**31])}
    with pytest.raises(OverflowError, match="source_partition"):
        encode_rows(dialect, tables.Duplicate, columns, 2)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_column_of_another_length_is_refused(dialect: str) -> None:
    columns = {**duplicates(3), "event_id": ["only one"]}
    with pytest.raises(ValueError, match="event_id"):
        encode_rows(dialect, tables.Duplicate, columns, 3)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_fractions_are_refused_for_a_column_of_integers(dialect: str) -> None:
    columns = {**duplicates(2), "source_offset": np.array([0.5, 1.5])}
    with pytest.raises(TypeError, match="source_offset"):
        encode_rows(dialect, tables.Duplicate, columns, 2)


def test_a_number_that_is_not_finite_is_kept_by_postgresql_as_it_is() -> None:
    """Nothing upstream lets one through; should one come, COPY must not change it."""
    columns = {**log_key(1), "value": np.array([math.inf])}
    payload = encode_rows("postgresql", tables.Feedback, columns, 1).payload
    assert np.array([math.inf], ">f8").tobytes() in payload


def log_key(rows: int) -> dict[str, Any]:
    day = (TODAY - EPOCH_DAY).days
    return {"day": day, "topic_generation": 1, "source_partition": 0, "source_offset": np.arange(rows)}


def duplicates(rows: int) -> dict[str, Any]:
    moments = np.arange(rows, dtype=np.int64)
    return {
        **log_key(rows),
        "event_id": [f"e{row}" for row in range(rows)],
        "entity_id": "a1",
        "occurred_at": moments,
        "recorded_at": moments,
    }


def stored_rows(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(tables.Duplicate)).scalar() or 0)


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
@settings(max_examples=40)
@given(parts=st.lists(st.lists(st.tuples(int64, texts_or_none), max_size=4), min_size=1, max_size=4))
def test_rows_encoded_together_are_those_encoded_part_by_part(
    dialect: str, parts: list[list[tuple[int, str | None]]]
) -> None:
    def columns(rows: list[tuple[int, str | None]]) -> dict[str, Any]:
        return {
            "source_offset": np.array([number for number, _ in rows], np.int64),
            "memo": [memo for _, memo in rows],
            "currency": "EUR",
            "topic_generation": 3,
        }

    together = encode_parts(
        dialect, tables.Transaction, columns([row for part in parts for row in part]), [len(part) for part in parts]
    )
    assert together == [encode_rows(dialect, tables.Transaction, columns(part), len(part)) for part in parts]
