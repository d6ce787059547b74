"""Decoded transactions and engagements as the models take them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.engagements import ACTION_NUMBERS, Engagements
from models.events import Events
from streams.decode import DecodedTransactions, base_currency_amounts
from streams.decode_engagements import DecodedEngagements
from streams.records import MILLISECONDS_A_DAY


def events_of(decoded: DecodedTransactions, partition: npt.NDArray[np.int32], rates: Mapping[str, float]) -> Events:
    """partition int32[n]: of each; rates: currency -> base currency."""
    return Events(
        partition=partition,
        offset=decoded.offset,
        day=(decoded.recorded_at // MILLISECONDS_A_DAY).astype(np.int32),
        event_id=decoded.event_id,
        occurred_at=decoded.occurred_at,
        account_id=decoded.account_id,
        merchant_id=decoded.merchant_id,
        amount=base_currency_amounts(decoded.amount_e4, decoded.currency, rates),
        channel=decoded.channel,
        country=decoded.country,
        category=decoded.category,
        memo=decoded.memo,
    )


def engagements_of(decoded: DecodedEngagements, partition: npt.NDArray[np.int32]) -> Engagements:
    """partition int32[n]: of each."""
    return Engagements(
        partition=partition,
        offset=decoded.offset,
        day=(decoded.recorded_at // MILLISECONDS_A_DAY).astype(np.int32),
        event_id=decoded.event_id,
        occurred_at=decoded.occurred_at,
        user_id=decoded.user_id,
        item_id=decoded.item_id,
        action=np.array([ACTION_NUMBERS[name] for name in decoded.action], np.int8),
        value=decoded.value,
        recommendation_id=decoded.recommendation_id,
    )
