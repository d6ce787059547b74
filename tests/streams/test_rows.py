"""What is encoded for a database is what is read back from it, on PostgreSQL and on SQLite."""

import json
from collections.abc import Sized
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from models.explain import Reason
from storage.alert_history import open_alerts
from storage.bulk import EncodedRows, write_rows
from storage.database import Database
from storage.outbox import alerts_after, dead_letters_after
from storage.progress import Claim
from streams.alert_rows import WriteAlerts
from streams.alerts import AlertRevision
from streams.decode import DecodedTransactions, decode_feedback, decode_transactions
from streams.records import DecodeLimits
from streams.recovery import alert_revision
from streams.rows import KEPT_BYTES, RowEncoder, ScoredRows, Shares
from streams.sinks import alert_message

AT = 1_773_489_600_123  # 2026-03-14 12:00:00.123 UTC
CLAIM = Claim("transactions", 4, 2, epoch=1, next_offset=0)


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    offset: int = 7
    key: bytes | None = b"a1"
    timestamp: int = AT + 1_000


def own(decoded: Sized) -> Shares:
    """All rows belong to one claim."""
    return Shares([CLAIM], [len(decoded)])


def write(database: Database, encoded: list[EncodedRows]) -> None:
    with database.begin() as connection:
        write_rows(connection, encoded)


def read(database: Database, table: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY source_offset")
        return [dict(row._mapping) for row in rows]


def moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def json_of(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


FULL = {
    "event_id": "e1",
    "occurred_at": AT,
    "account_id": "a1",
    "merchant_id": "Müller & Söhne 🏦",
    "amount": 12_345_678.9012,
    "currency": "CHF",
    "channel": "online",
    "country": "DE",
    "category": "5411",
    "memo": "line\nbreak\ttab \\ backslash 'quote' \"double\" \x01",
    "terminal": {"id": 5, "tags": ["a", None, True]},
}
BARE = {"event_id": "e2", "occurred_at": 0, "account_id": "a1", "merchant_id": "m", "amount": 0}


def scored_rows(count: int, **changes: Any) -> ScoredRows:
    values = {
        "score": np.linspace(0.123456789012345, 1.0, count),
        "unexplained": np.linspace(0.987654321098765, 0.0, count),
        "flagged": np.arange(count) % 2 == 1,
        "threshold": 0.5,
        "score_kind": "probability",
        "model": "fraud:7",
        "scored_at": AT + 5_000,
        "alert_id": [None if row % 2 == 0 else f"alert-{row}" for row in range(count)],
    }
    return ScoredRows(**values | changes)


def test_transactions_and_predictions_read_back_as_they_were(database: Database) -> None:
    records = [KafkaRecord(json.dumps(FULL).encode()), KafkaRecord(json.dumps(BARE).encode(), offset=2**40)]
    decoded = decode_transactions(records, DecodeLimits())
    scored = scored_rows(2)
    write(database, RowEncoder(database.dialect).transactions(own(decoded), decoded, np.zeros(2, np.bool_), scored)[0])
    full, bare = read(database, "transactions")
    texts = ("event_id", "account_id", "merchant_id", "currency", "channel", "country", "category", "memo")
    assert {name: full[name] for name in texts} == {name: FULL[name] for name in texts}
    assert (full["amount_e4"], json_of(full["extra"])) == (123_456_789_012, {"terminal": FULL["terminal"]})
    assert (moment(full["occurred_at"]).timestamp(), moment(full["recorded_at"]).timestamp()) == (
        AT / 1000,
        AT / 1000 + 1,
    )
    assert (full["topic_generation"], full["source_partition"], full["source_offset"]) == (4, 2, 7)
    assert str(full["day"]) == "2026-03-14"
    assert moment(bare["occurred_at"]) == datetime(1970, 1, 1, tzinfo=UTC)
    assert (bare["source_offset"], bare["currency"], bare["amount_e4"]) == (2**40, "EUR", 0)
    assert [bare[name] for name in ("channel", "country", "category", "memo", "extra")] == [None] * 5

    first, second = read(database, "predictions")
    assert [first["score"], second["score"]] == scored.score.tolist()
    assert [first["unexplained"], second["unexplained"]] == scored.unexplained.tolist()
    assert (bool(first["flagged"]), bool(second["flagged"])) == (False, True)
    assert (first["alert_id"], second["alert_id"]) == (None, "alert-1")
    assert (first["model"], first["score_kind"], first["threshold"]) == ("fraud:7", "probability", 0.5)
    assert moment(first["scored_at"]).timestamp() == AT / 1000 + 5
    keys = ("day", "topic_generation", "source_partition", "source_offset", "event_id", "account_id", "occurred_at")
    assert [{name: row[name] for name in keys} for row in (first, second)] == [
        {name: row[name] for name in keys} for row in (full, bare)
    ]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_a_batch_is_encoded_claim_by_claim_and_each_share_is_what_it_would_be_alone(dialect: str) -> None:
    other = Claim("transactions", 4, 5, epoch=3, next_offset=0)
    record = json.dumps(FULL).encode()
    parts = [
        decode_transactions([KafkaRecord(record, offset) for offset in offsets], DecodeLimits())
        for offsets in ((7, 8), (), (3, 4, 5))
    ]
    claims = [CLAIM, Claim("transactions", 4, 3, epoch=1, next_offset=0), other]
    repeated = np.array([False, True, False, True, False])
    shares = Shares(claims, [len(part) for part in parts])
    rows, together = RowEncoder(dialect), DecodedTransactions.joined(parts)
    said = scored_rows(5)
    found = rows.transactions(shares, together, repeated, said)
    alone = [
        rows.transactions(
            Shares([claim], [len(part)]),
            part,
            repeated[some],
            scored_rows(
                len(part),
                score=said.score[some],
                unexplained=said.unexplained[some],
                flagged=said.flagged[some],
                alert_id=list(said.alert_id[some]),
            ),
        )[0]
        for claim, part, some in zip(claims, parts, (slice(0, 2), slice(2, 2), slice(2, 5)), strict=True)
    ]
    assert found == alone
    assert [len(own) for own in found] == [3, 0, 3]


def test_a_repeated_transaction_is_a_row_of_duplicates_and_of_nothing_else(database: Database) -> None:
    record = json.dumps(FULL).encode()
    decoded = decode_transactions([KafkaRecord(record, offset) for offset in (7, 8, 9)], DecodeLimits())
    repeated = np.array([False, True, True])
    scored = scored_rows(3, score=np.array([0.25, np.nan, np.nan]), unexplained=np.array([0.75, np.nan, np.nan]))
    write(database, RowEncoder(database.dialect).transactions(own(decoded), decoded, repeated, scored)[0])
    assert [row["source_offset"] for row in read(database, "transactions")] == [7]
    assert [(row["source_offset"], row["score"]) for row in read(database, "predictions")] == [(7, 0.25)]
    rows = read(database, "duplicates")
    assert [(row["source_offset"], row["event_id"], row["entity_id"]) for row in rows] == [
        (8, "e1", "a1"),
        (9, "e1", "a1"),
    ]
    assert moment(rows[0]["occurred_at"]).timestamp() == AT / 1000


def test_dead_letters_keep_every_byte_up_to_the_limit(database: Database) -> None:
    everything = bytes(range(256))
    records = [
        KafkaRecord(everything, 1, key=b"\x00\xff"),
        KafkaRecord(None, 2, key=None),
        KafkaRecord(b"", 3),
        KafkaRecord(b'{"a": "\\ud800"}', 4),
    ]
    dead = decode_transactions(records, DecodeLimits()).dead
    write(database, RowEncoder(database.dialect).dead_letters(CLAIM, dead))
    with database.reading() as connection:
        rows = dead_letters_after(connection, 4, 2, 0, 10)
    assert [(row.source_offset, row.record_key, row.payload) for row in rows] == [
        (record.offset, record.key, record.value) for record in records
    ]
    assert [row.payload_bytes for row in rows] == [256, 0, 0, 15]
    assert [row.sha256 for row in rows] == [
        None if record.value is None else sha256(record.value).hexdigest() for record in records
    ]
    assert all(row.error_message for row in rows)


def test_an_oversized_dead_letter_keeps_64_kilobytes_and_the_hash_of_the_whole(database: Database) -> None:
    value = b'{"memo": "' + np.random.default_rng(1).bytes(1_200_000)
    dead = decode_transactions([KafkaRecord(value)], DecodeLimits()).dead
    write(database, RowEncoder(database.dialect).dead_letters(CLAIM, dead))
    (row,) = read(database, "dead_letters")
    assert bytes(row["payload"]) == value[:65_536]
    assert KEPT_BYTES == 65_536
    assert (row["payload_bytes"], row["sha256"]) == (len(value), sha256(value).hexdigest())
    assert (row["error_code"], bytes(row["record_key"])) == ("too_large", b"a1")


def test_a_message_that_quotes_what_sql_cannot_store_is_stored_all_the_same(database: Database) -> None:
    record = KafkaRecord(json.dumps(FULL).encode(), key=b"\x00" * 3_000)
    dead = decode_transactions([record], DecodeLimits()).dead
    write(database, RowEncoder(database.dialect).dead_letters(CLAIM, dead))
    (row,) = read(database, "dead_letters")
    assert row["error_code"] == "wrong_key"
    assert len(row["error_message"]) <= 1_000


def test_feedback_reads_back_as_it_was_and_starts_as_pending(database: Database) -> None:
    label = {"feedback_id": "f1", "given_at": AT, "kind": "label", "alert_id": "A", "label": "fraud", "source": "bank"}
    reward = {"feedback_id": "f2", "given_at": AT, "kind": "reward", "recommendation_id": "r", "item_id": "i"}
    records = [
        KafkaRecord(json.dumps(label | {"note": "ü"}).encode(), 1),
        KafkaRecord(json.dumps(reward | {"value": -2.5}).encode(), 2),
        KafkaRecord(json.dumps(label).encode(), 3),
    ]
    decoded = decode_feedback(records, DecodeLimits())
    write(database, RowEncoder(database.dialect).feedback(CLAIM, decoded, np.array([False, False, True])))
    first, second = read(database, "feedback")
    assert {name: first[name] for name in ("feedback_id", "kind", "alert_id", "label", "source")} == {
        name: label[name] for name in ("feedback_id", "kind", "alert_id", "label", "source")
    }
    assert (first["status"], first["joined_at"], json_of(first["extra"])) == ("pending", None, {"note": "ü"})
    assert moment(first["given_at"]).timestamp() == AT / 1000
    assert (second["value"], second["item_id"], second["label"], second["extra"]) == (-2.5, "i", None, None)
    assert [(row["source_offset"], row["event_id"]) for row in read(database, "duplicates")] == [(3, "f1")]


def revision(number: int = 1, **changes: Any) -> AlertRevision:
    values: dict[str, Any] = {
        "alert_id": "A",
        "revision": number,
        "sequence": number - 1,
        "offset": 7,
        "status": "open",
        "closed_by": None,
        "event_ids": ("e1", "e2"),
        "account_id": "a1",
        "occurred_at": AT,
        "scored_at": AT + 5_000,
        "score": 0.123456789012345,
        "score_kind": "probability",
        "threshold": 0.5,
        "severity": "high",
        "amount_at_risk": 1234.5678,
        "model": "fraud:7",
        "reasons": (Reason("amount", 9.0, 1.0, 2.5, "nine times the usual"),),
        "positions": (),
    }
    return AlertRevision(**values | changes)


def test_an_alert_s_revision_comes_back_from_sql_as_the_book_knew_it(database: Database) -> None:
    stored = revision()
    finish = WriteAlerts(CLAIM, [stored])
    with database.begin() as connection:
        finish(connection)
    with database.begin() as connection:
        assert finish(connection) == {}  # repeatable; what was there already is for the relay to read
    with database.reading() as connection:
        (row,) = open_alerts(connection, 4, 2)
    assert alert_revision(row) == revision(positions=None)


def test_a_closing_in_the_batch_that_opened_its_alert_has_its_timeline(database: Database) -> None:
    record = KafkaRecord(json.dumps(FULL).encode())
    rows = RowEncoder(database.dialect)
    decoded = decode_transactions([record], DecodeLimits())
    write(database, rows.transactions(own(decoded), decoded, np.zeros(1, np.bool_), scored_rows(1))[0])
    day = (AT + 1_000) // 86_400_000
    opened, closed = (
        revision(positions=((day, 7), (day, 6))),
        revision(2, status="closed", closed_by="time", positions=None),
    )
    finish = WriteAlerts(CLAIM, [opened, closed])
    with database.begin() as connection:
        written = finish(connection)["alerts"]
    with database.reading() as connection:
        first, second = alerts_after(connection, 4, 2, 0, 10)
    assert first.timeline == second.timeline
    assert [entry["event_id"] for entry in first.timeline] == ["e1"]  # the position without a row is left out
    assert (written.begin, written.end) == (opened.sequence, closed.sequence + 1)
    assert list(written.rows) == [first, second]
    assert [alert_message(row) for row in written.rows] == [alert_message(row) for row in (first, second)]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_nothing_is_encoded_of_nothing(dialect: str) -> None:
    rows = RowEncoder(dialect)
    nothing = decode_transactions([], DecodeLimits())
    assert rows.transactions(own(nothing), nothing, np.zeros(0, np.bool_), scored_rows(0)) == [[]]
    assert rows.dead_letters(CLAIM, []) == []
