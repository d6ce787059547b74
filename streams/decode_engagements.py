"""Bytes of `engagements` to columns; what cannot be read becomes a dead letter and harms nothing beside it.

Pure functions: records in, columns and dead letters out, as streams/decode.py has it for transactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from models.columns import concatenated
from streams import contract
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
    times_are_possible,
)


@dataclass(frozen=True, slots=True)
class DecodedEngagements:
    """n engagements of one partition in offset order, as columns; times in epoch milliseconds, value NaN for none."""

    offset: Int64s
    recorded_at: Int64s
    occurred_at: Int64s
    value: npt.NDArray[np.float64]
    event_id: list[str]
    user_id: list[str]
    item_id: list[str]
    action: list[str]
    recommendation_id: list[str | None]
    extra: list[bytes | None]
    dead: list[DeadRecord]

    def __len__(self) -> int:
        return len(self.event_id)

    @staticmethod
    def joined(parts: Sequence["DecodedEngagements"]) -> "DecodedEngagements":
        """Those of several partitions, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return DecodedEngagements(**concatenated(DecodedEngagements, parts, ENGAGEMENT_ARRAYS))


ENGAGEMENT_ARRAYS = {"offset": np.int64, "recorded_at": np.int64, "occurred_at": np.int64, "value": np.float64}


_decode_engagement = msgspec.json.Decoder(contract.Engagement).decode


def decode_engagements(records: Sequence[Record], limits: DecodeLimits) -> DecodedEngagements:
    """All together where nothing is wrong with any record, else one by one; the result is the same."""
    together = _decode_together(records, limits)
    decoded = _decode_one_by_one(records, limits) if together is None else together
    if limits.pseudonyms is None:
        return decoded
    return replace(decoded, user_id=limits.pseudonyms.of_all(decoded.user_id), extra=[None] * len(decoded))


def _decode_together(records: Sequence[Record], limits: DecodeLimits) -> DecodedEngagements | None:
    """None where any record does not plainly pass all checks, so that it has to be looked at by itself."""
    messages = read_together(records, limits, _decode_engagement)
    if messages is None:
        return None
    decoded = _columns(records, messages, [None] * len(messages), [])
    if [record.key for record in records] != list(map(str.encode, decoded.user_id)):
        return None
    return decoded if times_are_possible(decoded.occurred_at, decoded.recorded_at, limits) else None


def _decode_one_by_one(records: Sequence[Record], limits: DecodeLimits) -> DecodedEngagements:
    messages: list[contract.Engagement] = []
    kept: list[Record] = []
    extra: list[bytes | None] = []
    dead: list[DeadRecord] = []
    for record in records:
        try:
            message, more = read(record, limits, _decode_engagement, contract.Engagement)
            if record.key != message.user_id.encode():
                raise Refusal("wrong_key", f"the record's key {record.key!r} is not its user_id")
            check_time(message.occurred_at, record.timestamp, limits)
        except Refusal as refusal:
            dead.append(dead_record(record, refusal, limits))
            continue
        messages.append(message)
        kept.append(record)
        extra.append(more)
    return _columns(kept, messages, extra, dead)


def _columns(
    records: Sequence[Record],
    messages: Sequence[contract.Engagement],
    extra: list[bytes | None],
    dead: list[DeadRecord],
) -> DecodedEngagements:
    """records: those of the messages, without the dead."""
    return DecodedEngagements(
        offset=np.array([record.offset for record in records], np.int64),
        recorded_at=np.array([record.timestamp for record in records], np.int64),
        occurred_at=np.array([epoch_milliseconds(m.occurred_at) for m in messages], np.int64),
        value=np.array([m.value for m in messages], np.float64),  # None becomes NaN
        event_id=[m.event_id for m in messages],
        user_id=[m.user_id for m in messages],
        item_id=[m.item_id for m in messages],
        action=[m.action for m in messages],
        recommendation_id=[m.recommendation_id for m in messages],
        extra=extra,
        dead=dead,
    )
