"""Decoded transactions as the detector takes them."""

from collections.abc import Mapping

import numpy as np

from models.events import Events
from streams.decode import DecodedTransactions, base_currency_amounts
from streams.records import MILLISECONDS_A_DAY


def events_of(decoded: DecodedTransactions, partition: int, rates: Mapping[str, float]) -> Events:
    """One partition's; rates: currency -> base currency."""
    return Events(
        partition=np.full(len(decoded), partition, np.int32),
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
