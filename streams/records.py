"""What every topic's records go through: one record read as a message of the contract, or refused with a reason.

Everything that would poison a batch further on (NUL characters, numbers out of range, times that cannot be) is
refused here, before it touches state. Pure functions; which topic it is they do not know.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streams import contract
from streams.pseudonyms import Pseudonyms

Message = TypeVar("Message", bound=msgspec.Struct)
MILLISECONDS_A_DAY = 86_400_000
#: The only way to write a NUL character in JSON: a raw one is no JSON.
ESCAPED_NUL = b"\\u0000"
#: Of unknown fields: how deep they may be nested, and how many values and names they may hold in all.
MOST_EXTRA_DEPTH, MOST_EXTRA_VALUES = 32, 10_000
Int64s = npt.NDArray[np.int64]
#: Codes of refusals that quote nothing of a record but sizes, places and times.
SAYS_NOTHING_OF_PEOPLE = frozenset(
    {"null_value", "too_large", "too_deep", "invalid_json", "invalid_utf8", "nul_character", "in_the_future"}
)
#: A field of the contract as msgspec names it; of what is nested, and of unknown fields, it names none.
FIELD = re.compile(r"\$\.[a-z_]+")


class Record(Protocol):
    """What decoding needs of a Kafka record (streams/reading.py makes them)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """record_size in bytes of key and value; future_tolerance in milliseconds ahead of the Kafka record's timestamp;
    pseudonyms: what stands for people in what is kept, None where clear ids and texts are."""

    record_size: int = 1_000_000
    future_tolerance: int = 300_000
    pseudonyms: Pseudonyms | None = None


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that could not be processed: where it was, what it was, and why. digest: its value's sha256; with
    pseudonyms, which keep neither key nor value, that of key and value under a key of ours. size: the value's."""

    offset: int
    recorded_at: int
    key: bytes | None
    value: bytes | None
    code: str
    message: str
    size: int
    digest: str | None


class Refusal(Exception):
    """One record is refused; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


decode_any = msgspec.json.Decoder().decode


def read_together(
    records: Sequence[Record], limits: DecodeLimits, decode: Callable[[bytes], Message]
) -> list[Message] | None:
    """The messages of all records, none of which has unknown fields; None where any of them does not plainly pass, so
    that each has to be looked at by itself. Keys and times are for the caller to check."""
    values: list[Any] = [record.value for record in records]
    keys: list[Any] = [record.key for record in records]
    try:
        largest = max(map(len, values), default=0) + max(map(len, keys), default=0)
        if largest > limits.record_size or ESCAPED_NUL in b"\n".join(values):
            return None
        return list(map(decode, values))
    except (TypeError, UnicodeDecodeError, msgspec.DecodeError, RecursionError):  # TypeError: a value or key is None
        return None


def times_are_possible(times: Int64s, recorded_at: Int64s, limits: DecodeLimits) -> bool:
    """Whether check_time would let all of them pass."""
    possible = (recorded_at >= 0) & (recorded_at <= contract.MAX_EPOCH_MILLISECONDS)
    possible &= (times >= 0) & (times <= contract.MAX_EPOCH_MILLISECONDS)
    possible &= times <= recorded_at + limits.future_tolerance
    return bool(possible.all())


def read(
    record: Record, limits: DecodeLimits, decode: Callable[[bytes], Message], kind: type[Message]
) -> tuple[Message, bytes | None]:
    """The record's message and its unknown fields as JSON (None without any)."""
    value = record.value
    if value is None:
        raise Refusal("null_value", "the record has no value")
    size = len(value) + len(record.key or b"")
    if size > limits.record_size:
        raise Refusal("too_large", f"{size} bytes of key and value are above the limit of {limits.record_size}")
    extra: bytes | None = None
    try:
        try:
            message = decode(value)
        except msgspec.ValidationError as error:
            if "unknown field" not in str(error):
                raise
            message, extra = _read_with_extra(value, kind)
    except UnicodeDecodeError as error:
        raise Refusal("invalid_utf8", str(error)) from None
    except msgspec.ValidationError as error:
        raise Refusal("invalid_field", str(error)) from None
    except msgspec.DecodeError as error:
        raise Refusal("invalid_json", str(error)) from None
    except RecursionError:
        raise Refusal("too_deep", "the JSON is nested too deeply") from None
    if ESCAPED_NUL in value and _has_nul(decode_any(value)):
        raise Refusal("nul_character", "a text holds a NUL character, which SQL cannot store")
    return message, extra


def _read_with_extra(value: bytes, kind: type[Message]) -> tuple[Message, bytes]:
    fields = decode_any(value)
    known = {name: fields.pop(name) for name in kind.__struct_fields__ if name in fields}
    message = msgspec.convert(known, kind)
    _check_extra(fields)
    try:
        return message, msgspec.json.encode(fields)
    except (OverflowError, ValueError) as error:
        raise Refusal("invalid_field", f"unknown fields cannot be stored: {error}") from None


def _check_extra(fields: Mapping[str, Any]) -> None:
    """Level by level, so that neither a deep nor a broad one costs more than its bound; a stack's depth, which differs
    from worker to worker, decides nothing."""
    level: list[Any] = list(fields.values())
    depth, values = 1, 2 * len(fields)
    while level:
        if values > MOST_EXTRA_VALUES:
            raise Refusal("invalid_field", f"unknown fields hold more than {MOST_EXTRA_VALUES} values and names")
        if depth > MOST_EXTRA_DEPTH:
            raise Refusal("too_deep", f"unknown fields are nested more than {MOST_EXTRA_DEPTH} levels deep")
        objects = [value for value in level if isinstance(value, dict)]
        lists = [value for value in level if isinstance(value, list)]
        values += sum(2 * len(found) for found in objects) + sum(map(len, lists))
        if values <= MOST_EXTRA_VALUES:
            level = [value for found in objects for value in found.values()]
            level += [value for found in lists for value in found]
            depth += bool(objects or lists)


def _has_nul(value: Any) -> bool:
    """Without recursion: what a client nests deeply must not end the worker."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            if "\0" in found:
                return True
        elif isinstance(found, dict):
            waiting += found.keys()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found
    return False


def check_recorded_at(recorded_at: int) -> None:
    if not 0 <= recorded_at <= contract.MAX_EPOCH_MILLISECONDS:
        raise Refusal("bad_timestamp", f"the record's own timestamp {recorded_at} is no time")


def check_time(time: datetime | int, recorded_at: int, limits: DecodeLimits) -> None:
    check_recorded_at(recorded_at)
    moment = epoch_milliseconds(time)
    if not 0 <= moment <= contract.MAX_EPOCH_MILLISECONDS:
        raise Refusal("bad_timestamp", f"{time} is not between the years 1970 and 9999 in UTC")
    if moment > recorded_at + limits.future_tolerance:
        ahead = (moment - recorded_at) / 1000
        raise Refusal("in_the_future", f"{time} is {ahead:.0f} s ahead of the record's own timestamp")


def epoch_milliseconds(time: datetime | int) -> int:
    return time if type(time) is int else round(time.timestamp() * 1000)  # type: ignore[union-attr]


def text_key(key: bytes | None, meaning: str) -> str:
    """The key as an id; meaning: what it must be, for people."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError as error:
        raise Refusal("wrong_key", f"the record's key is not UTF-8: {error}") from None
    if not 0 < len(text) <= contract.MAX_ID_LENGTH or "\0" in text:
        raise Refusal("wrong_key", f"the record's key must be {meaning}")
    return text


def reasons(dead: Sequence[DeadRecord]) -> Mapping[str, int]:
    """Error code -> how many."""
    return Counter(letter.code for letter in dead)


def dead_record(record: Record, refusal: Refusal, limits: DecodeLimits) -> DeadRecord:
    recorded_at = min(max(record.timestamp, 0), contract.MAX_EPOCH_MILLISECONDS)
    place, size = (record.offset, recorded_at), len(record.value or b"")
    if limits.pseudonyms is not None:
        digest = limits.pseudonyms.of_record(whole(record.key, record.value))
        return DeadRecord(*place, None, None, refusal.code, _without_quotes(refusal), size, digest)
    digest_of_value = None if record.value is None else sha256(record.value).hexdigest()
    return DeadRecord(*place, record.key, record.value, refusal.code, str(refusal), size, digest_of_value)


def whole(key: bytes | None, value: bytes | None) -> bytes:
    """A record's content in one piece, equal for equal ones only."""
    parts = [b"-" if part is None else b"%d:%b" % (len(part), part) for part in (key, value)]
    return b"".join(parts)


def _without_quotes(refusal: Refusal) -> str:
    """What a refusal says, and nothing of the record: its fields' names, sizes and times at most."""
    if refusal.code in SAYS_NOTHING_OF_PEOPLE:
        return str(refusal)
    where = FIELD.search(str(refusal))
    return f"{'the record' if where is None else where[0]} is refused; what it holds is not kept, as pseudonyms are on"
