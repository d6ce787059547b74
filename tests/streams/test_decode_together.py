"""A chunk decodes as its records do one by one: the quick way for all together is never seen in the result."""

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import decode
from streams.contract import MAX_EPOCH_MILLISECONDS
from streams.decode import DecodedTransactions, decode_transactions
from streams.records import DecodeLimits

NOW = 1_700_000_000_000
LIMITS = DecodeLimits(record_size=1_000)


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    key: bytes | None = b"a"
    offset: int = 0
    timestamp: int = NOW


def good(**changes: Any) -> bytes:
    known = {"event_id": "e", "occurred_at": NOW, "account_id": "a", "merchant_id": "m", "amount": 1.5}
    return json.dumps(known | changes).encode()


RECORDS = (
    KafkaRecord(good()),
    KafkaRecord(good(occurred_at="2023-11-14T22:13:20+00:00", memo="\u00fc", channel="online")),
    KafkaRecord(good(amount=0, currency="USD", country="DE", category="fuel")),
    KafkaRecord(good(account_id="b"), key=b"b"),
    KafkaRecord(good(more=[1, {"x": None}])),
    KafkaRecord(good(memo="\\u0000 is text here")),
    KafkaRecord(good(memo="a\0b")),
    KafkaRecord(good(), key=b"b"),
    KafkaRecord(good(), key=None),
    KafkaRecord(None),
    KafkaRecord(b""),
    KafkaRecord(b"\xff"),
    KafkaRecord(b"[" * 900),
    KafkaRecord(good()[:-1]),
    KafkaRecord(good() + b"," + good()),
    KafkaRecord(good(memo="x" * 1_000)),
    KafkaRecord(good(memo="x" * 800), key=b"a" * 200),
    KafkaRecord(good(amount=-1)),
    KafkaRecord(good(occurred_at=NOW + LIMITS.future_tolerance)),
    KafkaRecord(good(occurred_at=NOW + LIMITS.future_tolerance + 1)),
    KafkaRecord(good(occurred_at="1969-12-31T23:59:59+00:00")),
    KafkaRecord(good(occurred_at="9999-12-31T23:59:59.999-00:04"), timestamp=MAX_EPOCH_MILLISECONDS),
    KafkaRecord(good(), timestamp=-1),
    KafkaRecord(good(), timestamp=MAX_EPOCH_MILLISECONDS + 1),
)
LISTS = [field.name for field in fields(DecodedTransactions)]


def columns(decoded: DecodedTransactions) -> dict[str, list[Any]]:
    return {name: list(getattr(decoded, name)) for name in LISTS}


@given(st.lists(st.sampled_from(RECORDS), max_size=6))
def test_a_chunk_decodes_as_its_records_one_by_one(chosen: list[KafkaRecord]) -> None:
    records = [replace(record, offset=place) for place, record in enumerate(chosen)]

    together = columns(decode_transactions(records, LIMITS))

    alone = [columns(decode_transactions([record], LIMITS)) for record in records]
    assert together == {name: [value for one in alone for value in one[name]] for name in LISTS}


@pytest.mark.parametrize("record", RECORDS)
def test_the_quick_way_gives_the_same_as_the_careful_one(record: KafkaRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = columns(decode_transactions([record], LIMITS))

    monkeypatch.setattr(decode, "_decode_together", lambda records, limits: None)

    assert columns(decode_transactions([record], LIMITS)) == quick


def test_good_records_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decode, "_decode_one_by_one")

    assert len(decode_transactions(RECORDS[:4], LIMITS)) == 4
