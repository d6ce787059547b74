"""What must hold whatever comes: a record has one outcome, harms no neighbour, and what goes on can be stored."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from models.pictures import THUMBNAIL_BYTES, PictureRefused, thumbnail
from storage.progress import Claim
from streams.contract import MAX_TEXT_LENGTH
from streams.decode import decode_feedback, decode_transactions
from streams.decode_engagements import decode_engagements
from streams.decode_items import decode_items
from streams.records import MOST_EXTRA_DEPTH, DecodeLimits, Record
from streams.rows import RowEncoder
from tests.fuzz.hostile import AT, SOUND

DECODERS: dict[str, Callable[..., Any]] = {
    "transactions": decode_transactions,
    "engagements": decode_engagements,
    "items": decode_items,
    "feedback": decode_feedback,
}
#: As docs/contract.md has them.
CODES = {
    *("null_value", "too_large", "invalid_utf8", "invalid_json", "too_deep", "invalid_field", "nul_character"),
    *("wrong_key", "bad_timestamp", "in_the_future"),
}
LIMITS = DecodeLimits()
CLAIM = Claim("topic", 1, 0, epoch=1, next_offset=0)
ENCODERS = [RowEncoder(dialect) for dialect in ("postgresql", "sqlite")]


class HostileRecord(msgspec.Struct, frozen=True):
    value: bytes | None
    key: bytes | None
    offset: int = 7
    timestamp: int = AT


def outcome(topic: str, value: bytes | None, key: bytes | None, timestamp: int) -> str:
    """ "applied" or the code of the dead letter; AssertionError where a law does not hold."""
    decode, record = DECODERS[topic], HostileRecord(value, key, 7, timestamp)
    alone = decode([record], LIMITS)
    assert len(alone) + len(alone.dead) == 1
    beside = decode([sound(topic, 6), record, sound(topic, 8)], LIMITS)
    assert len(beside) == len(alone) + 2
    assert beside.dead == alone.dead
    for encoder in ENCODERS:
        encoder.dead_letters(CLAIM, alone.dead)
    for letter in alone.dead:
        assert letter.code in CODES
        assert (letter.value, letter.key, letter.offset) == (value, key, 7)
        assert letter.message
        return str(letter.code)
    assert_storable(alone)
    return "applied"


def sound(topic: str, offset: int) -> Record:
    return HostileRecord(json.dumps(SOUND[topic]).encode(), b"a1", offset)


def assert_storable(decoded: Any) -> None:
    """Texts without what SQL cannot store, within their limits; finite numbers; unknown fields as JSON."""
    for field in dataclasses.fields(decoded):
        column = getattr(decoded, field.name)
        if field.name == "extra":
            for extra in filter(None, column):
                assert_storable_json(json.loads(extra, parse_constant=_no_number))
        elif field.name == "messages":
            for message in column:
                assert_storable_texts(msgspec.structs.astuple(message))
        elif isinstance(column, np.ndarray):
            assert field.name == "value" or np.isfinite(column).all()
            assert column.dtype != np.int64 or (column >= 0).all()
        elif field.name not in ("dead", "broken"):
            assert_storable_texts(column)


def assert_storable_texts(values: Iterable[Any], longest: float = MAX_TEXT_LENGTH) -> None:
    for value in values:
        if isinstance(value, str):
            value.encode()
            assert "\0" not in value
            assert len(value) <= longest
        if isinstance(value, float):
            assert math.isfinite(value)


def assert_storable_json(found: Any, depth: int = 0) -> None:
    """depth: of what it lies in. Texts may be as long as the record."""
    assert depth <= MOST_EXTRA_DEPTH
    if isinstance(found, dict):
        assert_storable_texts(found, math.inf)
        for value in found.values():
            assert_storable_json(value, depth + 1)
    elif isinstance(found, list):
        for value in found:
            assert_storable_json(value, depth + 1)
    else:
        assert_storable_texts([found], math.inf)


def picture_outcome(data: bytes) -> str:
    """ "thumbnail" or the reason of the refusal."""
    try:
        made = thumbnail(data)
    except PictureRefused as refused:
        return refused.reason
    assert len(made) == THUMBNAIL_BYTES
    return "thumbnail"


def _no_number(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
