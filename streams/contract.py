"""Wire messages: the one definition behind decoding, encoding and the documented contract.

Names here are public and stable (docs/contract.md). This module knows nothing of Kafka, SQL or models;
it only says which fields a message has, of which type, within which limits.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

MAX_ID_LENGTH = 200
MAX_TEXT_LENGTH = 10_000
#: Amounts are stored as integer ten-thousandths; below this limit a float64 holds each of them exactly.
MAX_AMOUNT = 1e11
AMOUNT_SCALE = 10_000
#: Sums of values and of their squares stay finite.
MAX_VALUE = 1e12

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
ShortText = Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)]
LongText = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]
#: The last millisecond of the year 9999, beyond which dates have no common notation.
MAX_EPOCH_MILLISECONDS = 253_402_300_799_999
#: RFC 3339 with a time zone, or integer epoch milliseconds.
Time = Annotated[datetime, msgspec.Meta(tz=True)] | Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH_MILLISECONDS)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
Value = Annotated[float, msgspec.Meta(ge=-MAX_VALUE, le=MAX_VALUE)]
#: As models.engagements.ACTIONS has them (a test compares).
Action = Literal["impression", "click", "like", "dislike", "skip", "dwell", "purchase"]


class Transaction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One record of the `transactions` topic; its Kafka key is the account_id."""

    event_id: Id
    occurred_at: Time
    account_id: Id
    merchant_id: Id
    amount: Amount
    currency: ShortText = "EUR"
    channel: ShortText | None = None
    country: ShortText | None = None
    category: ShortText | None = None
    memo: LongText | None = None


class Engagement(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One record of the `engagements` topic; its Kafka key is the user_id."""

    event_id: Id
    occurred_at: Time
    user_id: Id
    item_id: Id
    action: Action
    value: Value | None = None
    recommendation_id: Id | None = None


class Item(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One record of the compacted `items` topic; its Kafka key is the item_id, and a null value deletes the item."""

    item_id: Id
    title: LongText | None = None
    text: LongText | None = None
    category: ShortText | None = None
    price: Amount | None = None
    image: str | None = None
    available: bool = True


class Feedback(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One record of the `feedback` topic; its Kafka key is the subject's account_id or user_id."""

    feedback_id: Id
    given_at: Time
    kind: Literal["label", "reward"]
    event_id: Id | None = None
    alert_id: Id | None = None
    recommendation_id: Id | None = None
    label: Literal["fraud", "legitimate"] | None = None
    item_id: Id | None = None
    value: Value | None = None
    source: ShortText | None = None


class Reason(msgspec.Struct, frozen=True):
    """Why a score is high: one feature, its value against the usual one, and what it added to the logit."""

    feature: str
    value: float
    usual: float
    contribution: float
    text: str


class TimelineEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recent transaction of the alerted account, as stored."""

    event_id: str
    occurred_at: datetime
    amount: Decimal
    currency: str
    merchant_id: str
    score: float
    flagged: bool
    channel: str | None = None
    country: str | None = None
    category: str | None = None


class Alert(msgspec.Struct, frozen=True):
    """One revision of an alert on the `alerts` topic, in Redis and (column by column) in SQL."""

    alert_id: str
    revision: int
    status: Literal["open", "closed"]
    event_ids: list[str]
    account_id: str
    occurred_at: datetime
    scored_at: datetime
    score: float
    score_kind: Literal["probability", "surprise"]
    threshold: float
    severity: Literal["low", "medium", "high", "critical"]
    model: str
    reasons: list[Reason]
    timeline: list[TimelineEntry]


class RecommendedItem(msgspec.Struct, frozen=True):
    """One position of a slate, counted from 1. propensity: the probability with which the item was chosen there among
    what was left."""

    item_id: str
    position: int
    propensity: float
    score: float


class Recommendation(msgspec.Struct, frozen=True):
    """A user's slate on the `recommendations` topic and in Redis; cause is the event_id it answers."""

    recommendation_id: str
    user_id: str
    made_at: datetime
    policy: str
    items: list[RecommendedItem]
    cause: str


class Prediction(msgspec.Struct, frozen=True):
    """One record of the optional `predictions` topic."""

    event_id: str
    score: float
    flagged: bool
    model: str


class ModelUpdate(msgspec.Struct, frozen=True):
    """One message of the compacted `model-updates` topic; its Kafka key is the model's name."""

    name: str
    version: int
    promoted_at: datetime
    why: str | None


encode = msgspec.json.Encoder(decimal_format="number").encode
