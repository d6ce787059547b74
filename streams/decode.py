"""Bytes from Kafka to columns; what cannot be read becomes a dead letter and harms nothing beside it.

Everything that would poison a batch further on (NUL characters, numbers out of range, times that cannot be)
is refused here, before it touches state. Pure functions: records in, columns and dead letters out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streams import contract

Message = TypeVar("Message", contract.Transaction, contract.Feedback)
MILLISECONDS_A_DAY = 86_400_000
#: The only way to write a NUL character in JSON: a raw one is no JSON.
ESCAPED_NUL = b"\\u0000"
Int64s = npt.NDArray[np.int64]


class Record(Protocol):
    """What decoding needs of a Kafka record (aiokafka's ConsumerRecord has it)."""

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
    """record_size in bytes of key and value; future_tolerance in milliseconds ahead of the Kafka record's timestamp."""

    record_size: int = 1_000_000
    future_tolerance: int = 300_000


@dataclass(frozen=True, slots=True)
class DeadRecord:
    """A record that could not be processed: where it was, what it was, and why."""

    offset: int
    recorded_at: int
    key: bytes | None
    value: bytes | None
    code: str
    message: str


class Refusal(Exception):
    """One record is refused; `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class DecodedTransactions:
    """n transactions of one partition in offset order, as columns; times in epoch milliseconds, amounts in
    ten-thousandths of their currency."""

    offset: Int64s
    recorded_at: Int64s
    occurred_at: Int64s
    amount_e4: Int64s
    event_id: list[str]
    account_id: list[str]
    merchant_id: list[str]
    currency: list[str]
    channel: list[str | None]
    country: list[str | None]
    category: list[str | None]
    memo: list[str | None]
    extra: list[bytes | None]
    dead: list[DeadRecord]

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass(frozen=True, slots=True)
class DecodedFeedback:
    """n messages of feedback of one partition in offset order."""

    offset: Int64s
    recorded_at: Int64s
    given_at: Int64s
    entity_id: list[str]
    messages: list[contract.Feedback]
    extra: list[bytes | None]
    dead: list[DeadRecord]

    def __len__(self) -> int:
        return len(self.messages)


_decode_transaction = msgspec.json.Decoder(contract.Transaction).decode
_decode_feedback = msgspec.json.Decoder(contract.Feedback).decode
_decode_any = msgspec.json.Decoder().decode


def decode_transactions(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions:
    """All together where nothing is wrong with any record, else one by one; the result is the same."""
    together = _decode_together(records, limits)
    return _decode_one_by_one(records, limits) if together is None else together


def _decode_together(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions | None:
    """None where any record does not plainly pass all checks, so that it has to be looked at by itself."""
    values: list[Any] = [record.value for record in records]
    keys: list[Any] = [record.key for record in records]
    try:
        largest = max(map(len, values), default=0) + max(map(len, keys), default=0)
        if largest > limits.record_size or ESCAPED_NUL in b"\n".join(values):
            return None
        messages = list(map(_decode_transaction, values))
    except (TypeError, UnicodeDecodeError, msgspec.DecodeError, RecursionError):  # TypeError: a value or key is None
        return None
    decoded = _transaction_columns(records, messages, [None] * len(messages), [])
    if keys != list(map(str.encode, decoded.account_id)):
        return None
    times, recorded_at = decoded.occurred_at, decoded.recorded_at
    possible = (recorded_at >= 0) & (recorded_at <= contract.MAX_EPOCH_MILLISECONDS)
    possible &= (times >= 0) & (times <= contract.MAX_EPOCH_MILLISECONDS)
    possible &= times <= recorded_at + limits.future_tolerance
    return decoded if possible.all() else None


def _decode_one_by_one(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions:
    messages: list[contract.Transaction] = []
    kept: list[Record] = []
    extra: list[bytes | None] = []
    dead: list[DeadRecord] = []
    for record in records:
        try:
            message, more = _read(record, limits, _decode_transaction, contract.Transaction)
            if record.key != message.account_id.encode():
                raise Refusal("wrong_key", f"the record's key {record.key!r} is not its account_id")
            _check_time(message.occurred_at, record.timestamp, limits)
        except Refusal as refusal:
            dead.append(_dead(record, refusal))
            continue
        messages.append(message)
        kept.append(record)
        extra.append(more)
    return _transaction_columns(kept, messages, extra, dead)


def _transaction_columns(
    records: Sequence[Record],
    messages: Sequence[contract.Transaction],
    extra: list[bytes | None],
    dead: list[DeadRecord],
) -> DecodedTransactions:
    """records: those of the messages, without the dead."""
    return DecodedTransactions(
        offset=np.array([record.offset for record in records], np.int64),
        recorded_at=np.array([record.timestamp for record in records], np.int64),
        occurred_at=np.array([epoch_milliseconds(m.occurred_at) for m in messages], np.int64),
        amount_e4=np.rint(np.array([m.amount for m in messages], np.float64) * contract.AMOUNT_SCALE).astype(np.int64),
        event_id=[m.event_id for m in messages],
        account_id=[m.account_id for m in messages],
        merchant_id=[m.merchant_id for m in messages],
        currency=[m.currency for m in messages],
        channel=[m.channel for m in messages],
        country=[m.country for m in messages],
        category=[m.category for m in messages],
        memo=[m.memo for m in messages],
        extra=extra,
        dead=dead,
    )


def decode_feedback(records: Sequence[Record], limits: DecodeLimits) -> DecodedFeedback:
    messages: list[contract.Feedback] = []
    kept: list[Record] = []
    entities: list[str] = []
    extra: list[bytes | None] = []
    dead: list[DeadRecord] = []
    for record in records:
        try:
            message, more = _read(record, limits, _decode_feedback, contract.Feedback)
            _check_feedback(message)
            entity = _text_key(record.key)
            _check_time(message.given_at, record.timestamp, limits)
        except Refusal as refusal:
            dead.append(_dead(record, refusal))
            continue
        messages.append(message)
        kept.append(record)
        entities.append(entity)
        extra.append(more)
    return DecodedFeedback(
        offset=np.array([r.offset for r in kept], np.int64),
        recorded_at=np.array([r.timestamp for r in kept], np.int64),
        given_at=np.array([epoch_milliseconds(m.given_at) for m in messages], np.int64),
        entity_id=entities,
        messages=messages,
        extra=extra,
        dead=dead,
    )


def epoch_milliseconds(time: datetime | int) -> int:
    return time if type(time) is int else round(time.timestamp() * 1000)  # type: ignore[union-attr]


def base_currency_amounts(
    amount_e4: Int64s, currency: Sequence[str], rates: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """Amounts in the base currency; a currency without a rate counts one to one."""
    amounts = amount_e4 / contract.AMOUNT_SCALE
    if rates:
        amounts *= np.fromiter((rates.get(c, 1.0) for c in currency), np.float64, len(currency))
    return amounts


def _read(
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
    if ESCAPED_NUL in value and _has_nul(_decode_any(value)):
        raise Refusal("nul_character", "a text holds a NUL character, which SQL cannot store")
    return message, extra


def _read_with_extra(value: bytes, kind: type[Message]) -> tuple[Message, bytes]:
    fields = _decode_any(value)
    known = {name: fields.pop(name) for name in kind.__struct_fields__ if name in fields}
    message = msgspec.convert(known, kind)
    try:
        return message, msgspec.json.encode(fields)
    except (OverflowError, ValueError) as error:
        raise Refusal("invalid_field", f"unknown fields cannot be stored: {error}") from None


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


def _check_time(time: datetime | int, recorded_at: int, limits: DecodeLimits) -> None:
    if not 0 <= recorded_at <= contract.MAX_EPOCH_MILLISECONDS:
        raise Refusal("bad_timestamp", f"the record's own timestamp {recorded_at} is no time")
    moment = epoch_milliseconds(time)
    if not 0 <= moment <= contract.MAX_EPOCH_MILLISECONDS:
        raise Refusal("bad_timestamp", f"{time} is not between the years 1970 and 9999 in UTC")
    if moment > recorded_at + limits.future_tolerance:
        ahead = (moment - recorded_at) / 1000
        raise Refusal("in_the_future", f"{time} is {ahead:.0f} s ahead of the record's own timestamp")


def _check_feedback(message: contract.Feedback) -> None:
    if message.kind == "label":
        if message.label is None or (message.event_id is None and message.alert_id is None):
            raise Refusal("invalid_field", "a label needs `label` and one of `event_id` and `alert_id`")
    elif message.recommendation_id is None or message.item_id is None or message.value is None:
        raise Refusal("invalid_field", "a reward needs `recommendation_id`, `item_id` and `value`")


def _text_key(key: bytes | None) -> str:
    if not key or len(key) > contract.MAX_ID_LENGTH * 4 or b"\0" in key:
        raise Refusal("wrong_key", "the record's key must be the account_id or user_id")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise Refusal("wrong_key", f"the record's key is not UTF-8: {error}") from None


def _dead(record: Record, refusal: Refusal) -> DeadRecord:
    recorded_at = min(max(record.timestamp, 0), contract.MAX_EPOCH_MILLISECONDS)
    return DeadRecord(record.offset, recorded_at, record.key, record.value, refusal.code, str(refusal))
