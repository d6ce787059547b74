"""Pseudonyms: with a key set, no clear id, memo or record comes out of decoding, and equal people stay equal."""

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.feature_schema import MEMO_BUCKETS, MEMO_CHARACTERS, MEMO_PARTS
from models.text_encoder import TextParts
from models.text_reading import signs_of
from streams.contract import MAX_ID_LENGTH
from streams.decode import decode_feedback, decode_transactions
from streams.decode_engagements import decode_engagements
from streams.decode_items import decode_items
from streams.pseudonyms import Pseudonyms, parse_keys
from streams.records import DecodeLimits
from tests.streams.test_decode import NOW, KafkaRecord, feedback, transaction

CANARY, CARD, MEMO = "canary-account-4711", "4929123456781234", "canaryword for Grandmother"
FIRST = base64.b64encode(bytes(range(32))).decode()
SECOND = base64.b64encode(bytes(range(100, 140))).decode()
OLD, ROTATED = f"k1={FIRST}", f"k2={SECOND},k1={FIRST}"
IDS = st.text(min_size=1, max_size=MAX_ID_LENGTH).filter(lambda text: text.isprintable())


def pseudonyms(keys: str = OLD) -> Pseudonyms:
    made = Pseudonyms.of_keys(keys)
    assert made is not None
    return made


LIMITS = DecodeLimits(record_size=2_000, pseudonyms=pseudonyms())


def record(value: Any, key: str | None = CANARY) -> KafkaRecord:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return KafkaRecord(content, None if key is None else key.encode())


def canaries_in(found: object) -> list[str]:
    text = repr(found).lower()
    return [canary for canary in (CANARY, CARD, "canaryword", "grandmother") if canary.lower() in text]


GOOD = transaction(account_id=CANARY, memo=f"{MEMO} {CARD}", counterparty=CARD)
ENGAGEMENT = {"event_id": "e", "occurred_at": NOW, "user_id": CANARY, "item_id": "i", "action": "click", "card": CARD}
BROKEN: list[tuple[Callable[..., Any], KafkaRecord]] = [
    (decode_transactions, record(transaction(account_id=CANARY, amount=CARD))),
    (decode_transactions, record(transaction(account_id=CANARY), key=f"{CANARY}x")),
    (decode_transactions, record(b'{"account_id": "' + CANARY.encode())),
    (decode_transactions, record(transaction(account_id=CANARY, memo=MEMO * 100))),
    (decode_transactions, record(transaction(account_id=CANARY, occurred_at=CARD))),
    (decode_transactions, record(transaction(account_id=CANARY, memo=f"\0{MEMO}"))),
    (decode_engagements, record({**ENGAGEMENT, "action": CANARY})),
    (decode_engagements, record({**ENGAGEMENT, "user_id": "other"})),
    (decode_feedback, record({"feedback_id": "f", "given_at": NOW, "kind": CANARY})),
    (decode_feedback, record(b"{}" + CARD.encode())),
    (decode_items, record({"item_id": CANARY, "price": CARD})),
    (decode_items, record({"item_id": "other", "title": MEMO})),
]


def test_no_clear_id_or_text_of_a_good_record_is_decoded() -> None:
    decoded = decode_transactions([record(GOOD)], LIMITS), decode_engagements([record(ENGAGEMENT)], LIMITS)
    assert [len(one) for one in decoded] == [1, 1]
    assert canaries_in(decoded) == []
    assert decoded[0].account_id == decoded[1].user_id == [pseudonyms().of(CANARY)]


def test_without_pseudonyms_the_same_record_shows_every_canary() -> None:
    assert len(canaries_in(decode_transactions([record(GOOD)], replace(LIMITS, pseudonyms=None)))) == 4


@pytest.mark.parametrize(("decode", "broken"), BROKEN)
def test_nothing_of_a_broken_record_is_kept(decode: Callable[..., Any], broken: KafkaRecord) -> None:
    decoded = decode([broken], LIMITS)
    (dead,) = decoded.dead
    assert canaries_in(decoded) == []
    assert (dead.key, dead.value, dead.size) == (None, None, len(broken.value or b""))
    assert canaries_in(decode([broken], replace(LIMITS, pseudonyms=None)).dead) != []


def test_a_refusal_still_names_the_field() -> None:
    (dead,) = decode_transactions([record(transaction(account_id=CANARY, amount=CARD))], LIMITS).dead
    assert dead.code == "invalid_field"
    assert dead.message.startswith("$.amount is refused")


@given(IDS, IDS)
def test_pseudonyms_are_equal_exactly_where_ids_are(one: str, other: str) -> None:
    ours = pseudonyms()
    assert ours.of(one) == pseudonyms().of(one)
    assert (ours.of(one) == ours.of(other)) == (one == other)
    assert len(ours.of(one).encode()) == len("k1.") + 22


@given(IDS)
def test_a_rotated_key_makes_other_pseudonyms_and_still_knows_the_old_ones(entity: str) -> None:
    before, after = pseudonyms(OLD), pseudonyms(ROTATED)
    assert after.of(entity) != before.of(entity)
    assert after.under_every_key(entity) == [after.of(entity), before.of(entity)]
    assert after.of_subject(before.of(entity)) == before.of(entity), "an alert from before the rotation is named by it"


def test_feedback_is_about_a_pseudonym_whether_it_names_it_or_the_clear_id() -> None:
    ours = pseudonyms()
    records = [KafkaRecord(feedback(), key.encode()) for key in (CANARY, ours.of(CANARY), "k9." + "A" * 22)]
    found = decode_feedback(records, LIMITS).entity_id
    assert found == [ours.of(CANARY), ours.of(CANARY), ours.of("k9." + "A" * 22)]


def test_equal_words_of_memos_stay_equal_and_numbers_are_no_more_than_numbers() -> None:
    one, other, nothing = pseudonyms().of_memos(["Rent May 2024", "rent JUNE 17", None])
    words, others = (one or "").split(), (other or "").split()
    assert nothing is None
    assert words[0] == others[0]
    assert words[1] != others[1]
    assert words[2] == others[2] == "0"


@given(st.lists(st.text(max_size=80), max_size=4))
def test_a_memo_shows_the_same_signs_and_as_many_words_as_before(memos: list[str]) -> None:
    for memo, kept in zip(memos, pseudonyms().of_memos(memos), strict=True):
        assert signs_of(kept or "") == signs_of(memo[:MEMO_CHARACTERS])


def test_the_detector_reads_of_two_memos_with_a_word_in_common_what_they_have_in_common() -> None:
    parts = TextParts(MEMO_BUCKETS, MEMO_PARTS).of(pseudonyms().of_memos(["rent may", "rent june", "gym"]))
    assert parts is not None
    first, second, third = (set(row[row > 0].tolist()) for row in np.asarray(parts))
    assert len(first & second) > len(first & third)


def test_a_memory_that_is_full_makes_the_same_pseudonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.pseudonyms.REMEMBERED", 2)
    ours, names = pseudonyms(), [f"account-{number}" for number in range(10)]
    assert [ours.of(name) for name in names * 2] == pseudonyms().of_all(names) * 2
    assert [ours.of_memos([name]) for name in names] == [pseudonyms().of_memos([name]) for name in names]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("secretvalue", "entry 1 must be id=key"),
        (f"K1={FIRST}", "entry 1 must be id=key"),
        (f"{OLD},k2=c2hvcnQ=", "entry 2 is weak"),
        (f"k1={base64.b64encode(b'a' * 64).decode()}", "entry 1 is weak"),
        (f"k1={base64.b64encode(bytes(range(100, 116))).decode()}", "entry 1 is weak"),
        ("k1=notbase64!", "entry 1 is no base64"),
        (f"{OLD},k1={SECOND}", "entry 2 is there twice"),
        (f"{OLD},k2={FIRST}", "entry 2 is there twice"),
    ],
)
def test_keys_that_would_protect_nobody_are_refused_without_being_shown(keys: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        parse_keys(keys)
    assert all(part.partition("=")[2] not in str(refused.value) for part in keys.split(",") if "=" in part)


def test_no_key_is_shown_by_what_holds_it() -> None:
    (key,) = parse_keys(OLD)
    assert asdict(key)["secret"] == bytes(range(32))
    assert repr(key.secret) not in repr(key)
    assert FIRST not in repr(key) + repr(LIMITS)


def test_no_keys_are_no_pseudonyms() -> None:
    assert Pseudonyms.of_keys(" ") is None
