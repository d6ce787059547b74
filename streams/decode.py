"""Bytes of `transactions` and `feedback` to columns; what cannot be read becomes a dead letter and harms nothing
beside it.

Pure functions: records in, columns and dead letters out. What every record goes through is in streams/records.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from models.columns import concatenated
from streams import contract
from streams.pseudonyms import Pseudonyms
from streams.records import (
    DeadRecord,
    DecodeLimits,
    Int64s,
    Record,
    Refusal,
    check_time,
    dead_record,
    epoch_milliseconds,
    read,
    read_together,
    text_key,
    times_are_possible,
)


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

    @staticmethod
    def joined(parts: Sequence["DecodedTransactions"]) -> "DecodedTransactions":
        """Those of several partitions, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return DecodedTransactions(**concatenated(DecodedTransactions, parts, TRANSACTION_ARRAYS))


TRANSACTION_ARRAYS = dict.fromkeys(("offset", "recorded_at", "occurred_at", "amount_e4"), np.int64)


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


def decode_transactions(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions:
    """All together where nothing is wrong with any record, else one by one; the result is the same."""
    together = _decode_together(records, limits)
    decoded = _decode_one_by_one(records, limits) if together is None else together
    return decoded if limits.pseudonyms is None else _pseudonymous(decoded, limits.pseudonyms)


def _pseudonymous(decoded: DecodedTransactions, pseudonyms: Pseudonyms) -> DecodedTransactions:
    """Without clear ids and texts. Nobody knows what unknown fields hold, so none is kept."""
    return replace(
        decoded,
        account_id=pseudonyms.of_all(decoded.account_id),
        memo=pseudonyms.of_memos(decoded.memo),
        extra=[None] * len(decoded),
    )


def _decode_together(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions | None:
    """None where any record does not plainly pass all checks, so that it has to be looked at by itself."""
    messages = read_together(records, limits, _decode_transaction)
    if messages is None:
        return None
    decoded = _transaction_columns(records, messages, [None] * len(messages), [])
    if [record.key for record in records] != list(map(str.encode, decoded.account_id)):
        return None
    return decoded if times_are_possible(decoded.occurred_at, decoded.recorded_at, limits) else None


def _decode_one_by_one(records: Sequence[Record], limits: DecodeLimits) -> DecodedTransactions:
    messages: list[contract.Transaction] = []
    kept: list[Record] = []
    extra: list[bytes | None] = []
    dead: list[DeadRecord] = []
    for record in records:
        try:
            message, more = read(record, limits, _decode_transaction, contract.Transaction)
            if record.key != message.account_id.encode():
                raise Refusal("wrong_key", f"the record's key {record.key!r} is not its account_id")
            check_time(message.occurred_at, record.timestamp, limits)
        except Refusal as refusal:
            dead.append(dead_record(record, refusal, limits))
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
            message, more = read(record, limits, _decode_feedback, contract.Feedback)
            _check_feedback(message)
            entity = text_key(record.key, "the account_id or user_id")
            check_time(message.given_at, record.timestamp, limits)
        except Refusal as refusal:
            dead.append(dead_record(record, refusal, limits))
            continue
        messages.append(message)
        kept.append(record)
        entities.append(entity if limits.pseudonyms is None else limits.pseudonyms.of_subject(entity))
        extra.append(more if limits.pseudonyms is None else None)
    return DecodedFeedback(
        offset=np.array([r.offset for r in kept], np.int64),
        recorded_at=np.array([r.timestamp for r in kept], np.int64),
        given_at=np.array([epoch_milliseconds(m.given_at) for m in messages], np.int64),
        entity_id=entities,
        messages=messages,
        extra=extra,
        dead=dead,
    )


def base_currency_amounts(
    amount_e4: Int64s, currency: Sequence[str], rates: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """Amounts in the base currency; a currency without a rate counts one to one."""
    amounts = amount_e4 / contract.AMOUNT_SCALE
    if rates:
        amounts *= np.fromiter((rates.get(c, 1.0) for c in currency), np.float64, len(currency))
    return amounts


def _check_feedback(message: contract.Feedback) -> None:
    if message.kind == "label":
        if message.label is None or (message.event_id is None and message.alert_id is None):
            raise Refusal("invalid_field", "a label needs `label` and one of `event_id` and `alert_id`")
    elif message.recommendation_id is None or message.item_id is None or message.value is None:
        raise Refusal("invalid_field", "a reward needs `recommendation_id`, `item_id` and `value`")
