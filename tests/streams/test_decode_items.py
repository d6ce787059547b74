"""Items: a broken title, text or image is left out and counted; what else is broken is a dead letter."""

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.pictures import MAX_IMAGE_BYTES, thumbnail
from streams import decode_items
from streams.decode_items import DecodedItems
from streams.records import DecodeLimits
from tests.pictures import BLUE_JPEG, RED_PNG, claimed_png

NOW = 1_700_000_000_000


@dataclass(frozen=True)
class KafkaRecord:
    value: bytes | None
    key: bytes | None = b"item-1"
    offset: int = 7
    timestamp: int = NOW


def item(**changes: Any) -> bytes:
    known = {"item_id": "item-1", "title": "Boots", "text": "Warm.", "category": "shoes", "price": 99.5}
    return json.dumps(known | changes).encode()


def image(content: bytes) -> str:
    return b64encode(content).decode()


def decode(*records: KafkaRecord, limits: DecodeLimits | None = None) -> DecodedItems:
    return decode_items.decode_items(records, limits or DecodeLimits())


def test_an_item_becomes_a_row_of_columns() -> None:
    decoded = decode(
        KafkaRecord(item(image=image(RED_PNG), colour="red")),
        KafkaRecord(item(image=image(BLUE_JPEG), available=False, price=None, text=None)),
        KafkaRecord(b'{"item_id":"item-1"}'),
    )
    assert decoded.item_id == ["item-1"] * 3
    assert decoded.title == ["Boots", "Boots", None]
    assert decoded.text == ["Warm.", None, None]
    assert decoded.category == ["shoes", "shoes", None]
    assert decoded.price == [99.5, None, None]
    assert decoded.image == [RED_PNG, BLUE_JPEG, None]
    assert decoded.thumbnail == [thumbnail(RED_PNG), thumbnail(BLUE_JPEG), None]
    assert decoded.available.tolist() == [True, False, True]
    assert decoded.deleted.tolist() == [False] * 3
    assert decoded.extra == [b'{"colour":"red"}', None, None]
    assert (decoded.broken, decoded.dead) == ({}, [])


def test_a_null_value_deletes_the_item_that_the_key_names() -> None:
    decoded = decode(KafkaRecord(None, key="ü".encode()))
    assert (decoded.item_id, decoded.deleted.tolist(), decoded.available.tolist()) == (["ü"], [True], [False])
    assert (decoded.title, decoded.dead) == ([None], [])


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        (item(title=7), {"title"}),
        (item(title="x" * 10_001), {"title"}),
        (item(title="a\0b"), {"title"}),
        (item(text=["a"]), {"text"}),
        (item().replace(b"Warm.", b"\xff\xfe"), {"text"}),
        (item(text={"a": 1}, title=False), {"title", "text"}),
        (item(image="no base64!"), {"image"}),
        (item(image=image(b"GIF89a")), {"image_format"}),
        (item(image=image(b"<svg/>")), {"image_format"}),
        (item(image=""), {"image_format"}),
        (item(image=image(RED_PNG[:60])), {"image_broken"}),
        (item(image=image(claimed_png(10_000, 5_000, b""))), {"image_costly"}),
        (item(image=7), {"image"}),
        (item(image=image(RED_PNG)[:-1]), {"image"}),
        (item(image="\ud83d\ude00"), {"image"}),
        (item(image="a\0b", title="a\0b", colour="red"), {"image", "title"}),
    ],
)
def test_an_item_with_a_broken_part_goes_on_without_it_and_is_counted(value: bytes, lost: set[str]) -> None:
    decoded = decode(KafkaRecord(item()), KafkaRecord(value, offset=8))
    assert decoded.offset.tolist() == [7, 8]
    assert decoded.broken == dict.fromkeys(lost, 1)
    assert (decoded.title[1] is None, decoded.text[1] is None) == ("title" in lost, "text" in lost)
    assert decoded.thumbnail[1] is None
    assert (decoded.image[1], decoded.category[1], decoded.price[1]) == (None, "shoes", 99.5)
    assert decoded.dead == []


def test_an_unknown_field_survives_the_loss_of_a_broken_part() -> None:
    assert decode(KafkaRecord(item(title=7, colour="red"))).extra == [b'{"colour":"red"}']


def test_an_image_above_its_limit_is_broken_and_one_at_it_is_not() -> None:
    limits = DecodeLimits(record_size=10 * MAX_IMAGE_BYTES)
    largest = RED_PNG + bytes(MAX_IMAGE_BYTES - len(RED_PNG))
    assert decode(KafkaRecord(item(image=image(largest))), limits=limits).image == [largest]
    decoded = decode(KafkaRecord(item(image=image(largest + b"x"))), limits=limits)
    assert (decoded.image, decoded.broken) == ([None], {"image": 1})


@pytest.mark.parametrize(
    ("value", "key", "code"),
    [
        (item(item_id="item-2"), b"item-1", "wrong_key"),
        (item(), None, "wrong_key"),
        (None, None, "wrong_key"),
        (None, b"", "wrong_key"),
        (None, b"\xff", "wrong_key"),
        (None, b"a\0b", "wrong_key"),
        (None, b"x" * 201, "wrong_key"),
        (b"not json", b"item-1", "invalid_json"),
        (b"[1]", b"item-1", "invalid_field"),
        (b"{}", b"item-1", "invalid_field"),
        (item(price=-1), b"item-1", "invalid_field"),
        (item(price=-1, title=7), b"item-1", "invalid_field"),
        (item(available="yes"), b"item-1", "invalid_field"),
        (item(category="a\0b"), b"item-1", "nul_character"),
        (item(colour="a\0b"), b"item-1", "nul_character"),
        (item().replace(b"shoes", b"\xff\xfe"), b"item-1", "invalid_utf8"),
        (item(text="x" * 1_000_000), b"item-1", "too_large"),
        (b'{"odd":' + b"[" * 100_000, b"item-1", "too_deep"),
    ],
)
def test_what_an_item_cannot_do_without_makes_a_dead_letter(value: bytes | None, key: bytes | None, code: str) -> None:
    decoded = decode(KafkaRecord(item()), KafkaRecord(value, key, offset=8))
    assert decoded.offset.tolist() == [7]
    assert [(dead.offset, dead.code, dead.value) for dead in decoded.dead] == [(8, code, value)]
    assert decoded.broken == {}


def test_a_record_without_a_time_is_a_dead_letter() -> None:
    assert [dead.code for dead in decode(KafkaRecord(None, timestamp=-1)).dead] == ["bad_timestamp"]


@given(st.binary(max_size=300) | st.binary(max_size=20).map(lambda middle: item().replace(b"Warm.", middle)))
def test_any_bytes_have_exactly_one_outcome(value: bytes) -> None:
    decoded = decode(KafkaRecord(value))
    assert len(decoded) + len(decoded.dead) == 1
