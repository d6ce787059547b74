"""Decoding: what is valid becomes columns, what is not becomes one dead letter with its reason."""

import json
import math
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import records
from streams.decode import decode_feedback, decode_transactions
from streams.records import DecodeLimits

NOW = 1_700_000_000_000


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    key: bytes | None = b"account-1"
    offset: int = 7
    timestamp: int = NOW


def transaction(**changes: Any) -> dict[str, Any]:
    fields = {
        "event_id": "event-1",
        "occurred_at": NOW,
        "account_id": "account-1",
        "merchant_id": "merchant-1",
        "amount": 12.34,
    }
    return fields | changes


def decode(*values: bytes | None, **record: Any) -> Any:
    return decode_transactions([KafkaRecord(value, **record) for value in values], DecodeLimits())


def only_dead_letter(value: bytes | None, **record: Any) -> str:
    decoded = decode(value, **record)
    assert len(decoded) == 0
    (dead,) = decoded.dead
    assert (dead.offset, dead.value) == (7, value)
    assert dead.message
    return str(dead.code)


def encoded(**changes: Any) -> bytes:
    return json.dumps(transaction(**changes)).encode()


def test_a_valid_transaction_becomes_one_row_of_columns() -> None:
    decoded = decode(encoded(memo="rent", country="DE"))
    assert decoded.event_id == ["event-1"]
    assert decoded.amount_e4.tolist() == [123_400]
    assert decoded.occurred_at.tolist() == [NOW]
    assert (decoded.currency, decoded.memo, decoded.country) == (["EUR"], ["rent"], ["DE"])
    assert (decoded.channel, decoded.extra, decoded.dead) == ([None], [None], [])


def test_times_are_read_from_rfc_3339_and_from_epoch_milliseconds() -> None:
    decoded = decode(encoded(occurred_at="2023-11-14T23:13:20.123+01:00"))
    assert decoded.occurred_at.tolist() == [NOW + 123]


def test_unknown_fields_are_kept_as_extra() -> None:
    decoded = decode(encoded(terminal={"id": 5}, tip=1.5))
    assert msgspec.json.decode(decoded.extra[0]) == {"terminal": {"id": 5}, "tip": 1.5}
    assert decoded.amount_e4.tolist() == [123_400]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "null_value"),
        (b"", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"not json", "invalid_json"),
        (b"[1]", "invalid_field"),
        (b'{"odd":' + b"[" * 100_000, "too_deep"),
        (encoded().replace(b"event-1", b"\xff\xfe"), "invalid_utf8"),
        (encoded().replace(b"12.34", b"NaN"), "invalid_json"),
        (encoded().replace(b"12.34", b"Infinity"), "invalid_json"),
        (encoded().replace(b"12.34", b"1e999"), "invalid_field"),
        (encoded(amount=-0.01), "invalid_field"),
        (encoded(amount="12"), "invalid_field"),
        (encoded(amount=1e12), "invalid_field"),
        (encoded(amount=True), "invalid_field"),
        (encoded(event_id=""), "invalid_field"),
        (encoded(event_id="x" * 201), "invalid_field"),
        (encoded(merchant_id=None), "invalid_field"),
        (encoded(occurred_at="2023-11-14T23:13:20"), "invalid_field"),
        (encoded(occurred_at=10**30), "invalid_field"),
        (encoded(occurred_at="1960-01-01T00:00:00Z"), "bad_timestamp"),
        (encoded(occurred_at=NOW + 300_001), "in_the_future"),
        (encoded(account_id="account-2"), "wrong_key"),
        (encoded(merchant_id="a\0b"), "nul_character"),
        (encoded(odd="a\0b"), "nul_character"),
        (encoded(odd={"a\0b": [1]}), "nul_character"),
        (encoded(odd=1).replace(b"odd", b"\\ud800"), "invalid_json"),
        (encoded(memo="x" * 1_000_000), "too_large"),
        (json.dumps({"event_id": "a"}).encode(), "invalid_field"),
    ],
)
def test_a_bad_record_is_one_dead_letter_with_a_reason(value: bytes | None, code: str) -> None:
    assert only_dead_letter(value) == code


@pytest.mark.parametrize("depth", [100, 400, 600, 900])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_deeply_nested_nul_is_a_dead_letter_and_never_an_error(depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    nested = opening * depth + '"\\u0000"' + closing * depth
    value = encoded(odd=1).replace(b'"odd": 1', f'"odd": {nested}'.encode())
    assert only_dead_letter(value) in ("nul_character", "too_deep")


def deep(levels: int, kind: str) -> bytes:
    opening, closing = ("[", "]") if kind == "list" else ('{"a":', "}")
    nested = opening * (levels - 1) + "1" + closing * (levels - 1)
    return encoded(odd=0).replace(b'"odd": 0', f'"odd": {nested}'.encode())


#: The attack: unknown fields that cost much wherever they are read later.
COSTLY = {
    "deep lists": deep(records.MOST_EXTRA_DEPTH + 1, "list"),
    "deep objects": deep(records.MOST_EXTRA_DEPTH + 1, "object"),
    "many names": encoded(**{f"name-{number}": number for number in range(5_001)}),
    "a long list": encoded(odd=[0] * 10_001),
    "many short lists": encoded(odd=[[0]] * 5_001),
}


@pytest.mark.parametrize("value", COSTLY.values(), ids=COSTLY)
def test_unknown_fields_are_bounded_in_depth_and_number(value: bytes) -> None:
    assert only_dead_letter(value) in ("too_deep", "invalid_field")


@pytest.mark.parametrize("value", COSTLY.values(), ids=COSTLY)
def test_without_the_bound_deep_and_many_unknown_fields_go_through(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_check_extra", lambda _fields: None)
    assert len(decode(value)) == 1


@pytest.mark.parametrize("kind", ["list", "object"])
def test_unknown_fields_just_within_the_bounds_are_kept(kind: str) -> None:
    assert len(decode(deep(records.MOST_EXTRA_DEPTH, kind))) == 1
    assert len(decode(encoded(odd=[0] * 9_998))) == 1
    assert len(decode(encoded(**{f"name-{number}": number for number in range(5_000)}))) == 1


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    """With unknown fields or without, alone or beside others: the same."""
    twice = encoded().replace(b'"amount": 12.34', b'"amount": 1, "amount": 2')
    more = twice.replace(b"}", b', "odd": 1, "odd": 3}')
    for value in (twice, more):
        assert decode(value).amount_e4.tolist() == [20_000]
        assert decode(encoded(), value).amount_e4.tolist() == [123_400, 20_000]
    assert decode(more).extra == [b'{"odd":3}']
    assert only_dead_letter(encoded().replace(b"{", b'{"account_id": "account-1", ', 1), key=b"other") == "wrong_key"


def test_a_time_after_the_year_9999_is_a_dead_letter_whatever_the_record_s_own_time() -> None:
    last = 253_402_300_799_999
    late = encoded(occurred_at="9999-12-31T23:59:59.999-00:04")
    assert only_dead_letter(late, timestamp=last) == "bad_timestamp"
    assert len(decode(encoded(occurred_at=last), timestamp=last)) == 1


def test_the_key_counts_for_the_size_limit() -> None:
    assert only_dead_letter(encoded(), key=b"k" * 1_000_000) == "too_large"


def test_a_backslash_before_u0000_is_text_and_no_nul() -> None:
    assert decode(encoded(memo="\\u0000")).memo == ["\\u0000"]


def test_a_missing_key_and_a_record_without_a_time_are_dead_letters() -> None:
    assert only_dead_letter(encoded(), key=None) == "wrong_key"
    assert only_dead_letter(encoded(), timestamp=-1) == "bad_timestamp"


def test_a_bad_record_leaves_the_rest_of_the_batch_unharmed() -> None:
    decoded = decode(encoded(event_id="a"), b"\xff", None, encoded(event_id="b"))
    assert decoded.event_id == ["a", "b"]
    assert [dead.code for dead in decoded.dead] == ["invalid_json", "null_value"]


@given(st.binary(max_size=300))
def test_any_bytes_have_exactly_one_outcome(value: bytes) -> None:
    decoded = decode(value)
    assert len(decoded) + len(decoded.dead) == 1


@given(
    amount=st.floats(min_value=0, max_value=1e11),
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200),
)
def test_every_valid_transaction_survives_with_its_amount_exact_to_ten_thousandths(amount: float, text: str) -> None:
    decoded = decode(encoded(amount=amount, memo=text, merchant_id="m" + text[:100]))
    assert decoded.memo == [text]
    assert decoded.merchant_id == ["m" + text[:100]]
    assert math.isclose(decoded.amount_e4[0] / 10_000, amount, abs_tol=5.1e-5)


def feedback(**changes: Any) -> bytes:
    fields = {"feedback_id": "f", "given_at": NOW, "kind": "label", "event_id": "e", "label": "fraud"}
    return json.dumps({k: v for k, v in (fields | changes).items() if v is not None}).encode()


def reward(**changes: Any) -> bytes:
    return feedback(**{"kind": "reward", "label": None, "recommendation_id": "r", "item_id": "i", "value": 1} | changes)


def test_a_reward_becomes_a_row() -> None:
    decoded = decode_feedback([KafkaRecord(reward(value=-2.5))], DecodeLimits())
    assert (decoded.messages[0].value, decoded.dead) == (-2.5, [])


def test_a_label_becomes_a_row_under_its_key() -> None:
    decoded = decode_feedback([KafkaRecord(feedback(source="analyst"))], DecodeLimits())
    assert (decoded.entity_id, decoded.messages[0].label) == (["account-1"], "fraud")


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (feedback(label=None), b"a"),
        (feedback(event_id=None), b"a"),
        (feedback(label="perhaps"), b"a"),
        (feedback(kind="reward"), b"a"),
        (reward(value=None), b"a"),
        (reward(item_id=None), b"a"),
        (reward(value=5).replace(b"5}", b"NaN}"), b"a"),
        (reward(value=5).replace(b"5}", b"-Infinity}"), b"a"),
        (reward(value=5).replace(b"5}", b"1e999}"), b"a"),
        (reward(value=1.1e12), b"a"),
        (reward(value="5"), b"a"),
        (feedback(), None),
        (feedback(), b"\xff"),
    ],
)
def test_feedback_without_what_its_kind_needs_is_a_dead_letter(value: bytes, key: bytes | None) -> None:
    decoded = decode_feedback([KafkaRecord(value, key=key)], DecodeLimits())
    assert len(decoded) == 0
    assert len(decoded.dead) == 1
