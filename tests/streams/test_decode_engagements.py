"""Engagements: what is valid becomes columns, together or one by one; what is not, one dead letter with its reason."""

import json
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engagements import ACTIONS
from streams import contract, decode_engagements
from streams.decode_engagements import DecodedEngagements
from streams.events import engagements_of
from streams.records import DecodeLimits

NOW = 1_700_000_000_000
LIMITS = DecodeLimits(record_size=1_000)


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    key: bytes | None = b"user-1"
    offset: int = 7
    timestamp: int = NOW


def good(**changes: Any) -> bytes:
    known = {"event_id": "e", "occurred_at": NOW, "user_id": "user-1", "item_id": "i", "action": "click"}
    return json.dumps(known | changes).encode()


def decode(*records: KafkaRecord) -> DecodedEngagements:
    return decode_engagements.decode_engagements(records, LIMITS)


def test_the_contract_s_actions_are_those_that_models_know() -> None:
    assert get_args(contract.Action) == ACTIONS


def test_an_engagement_becomes_a_row_of_columns_that_models_take() -> None:
    dwell = good(action="dwell", value=12.5, recommendation_id="r", occurred_at="2023-11-14T23:13:20.123+01:00", app=1)
    decoded = decode(KafkaRecord(good()), KafkaRecord(dwell, offset=9))
    assert (decoded.action, decoded.recommendation_id, decoded.dead) == (["click", "dwell"], [None, "r"], [])
    assert decoded.extra == [None, b'{"app":1}']
    engagements = engagements_of(decoded, np.full(2, 3, np.int32))
    assert [ACTIONS[action] for action in engagements.action] == ["click", "dwell"]
    assert np.isnan(engagements.value[0])
    assert engagements.value[1] == 12.5
    assert engagements.occurred_at.tolist() == [NOW, NOW + 123]
    assert (engagements.partition.tolist(), engagements.offset.tolist()) == ([3, 3], [7, 9])
    assert engagements.day.tolist() == [NOW // 86_400_000] * 2
    assert (engagements.user_id, engagements.item_id) == (["user-1"] * 2, ["i"] * 2)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "null_value"),
        (b"\xff", "invalid_json"),
        (good(user_id="user-2"), "wrong_key"),
        (good(action="stare"), "invalid_field"),
        (good(action=None), "invalid_field"),
        (good(item_id=""), "invalid_field"),
        (good(recommendation_id="x" * 201), "invalid_field"),
        (good(value="much"), "invalid_field"),
        (good(value=1.1e12), "invalid_field"),
        (good(value=7).replace(b"7}", b"1e999}"), "invalid_field"),
        (good(value=7).replace(b"7}", b"NaN}"), "invalid_json"),
        (good(value=7).replace(b"7}", b"-Infinity}"), "invalid_json"),
        (good(occurred_at=NOW + 300_001), "in_the_future"),
        (good(item_id="a\0b"), "nul_character"),
        (good(more="x" * 1_000), "too_large"),
    ],
)
def test_a_bad_engagement_is_one_dead_letter_and_harms_nothing_beside_it(value: bytes | None, code: str) -> None:
    decoded = decode(KafkaRecord(good()), KafkaRecord(value, offset=8), KafkaRecord(good(), offset=9))
    assert decoded.offset.tolist() == [7, 9]
    assert [(dead.offset, dead.code) for dead in decoded.dead] == [(8, code)]


RECORDS = (
    KafkaRecord(good()),
    KafkaRecord(good(action="purchase", value=-3, recommendation_id="\u00fc", user_id="b"), key=b"b"),
    KafkaRecord(good(value=0.0)),
    KafkaRecord(good(more=[1])),
    KafkaRecord(good(item_id="a\0b")),
    KafkaRecord(good(), key=b"b"),
    KafkaRecord(good(), key=None),
    KafkaRecord(None),
    KafkaRecord(good()[:-1]),
    KafkaRecord(good(value=1e13)),
    KafkaRecord(good(more="x" * 1_000)),
    KafkaRecord(good(occurred_at=NOW + LIMITS.future_tolerance + 1)),
    KafkaRecord(good(), timestamp=-1),
)


def columns(decoded: DecodedEngagements) -> dict[str, str]:
    """As text, so that a value that is missing equals another one."""
    return {field.name: str(list(getattr(decoded, field.name))) for field in fields(DecodedEngagements)}


@given(st.lists(st.sampled_from(RECORDS), max_size=6))
def test_the_quick_way_for_all_together_is_never_seen_in_the_result(chosen: list[KafkaRecord]) -> None:
    records = [replace(record, offset=place) for place, record in enumerate(chosen)]
    assert columns(decode(*records)) == columns(decode_engagements._decode_one_by_one(records, LIMITS))


def test_good_records_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decode_engagements, "_decode_one_by_one")
    assert len(decode(*RECORDS[:3])) == 3


@given(st.binary(max_size=300))
def test_any_bytes_have_exactly_one_outcome(value: bytes) -> None:
    decoded = decode(KafkaRecord(value))
    assert len(decoded) + len(decoded.dead) == 1
