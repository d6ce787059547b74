"""Transactions as columns: what features, training and scoring take, whether live, replayed or from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.columns import concatenated, taken

MILLISECONDS_A_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Events:
    """n events in log order. partition int32[n], offset int64[n] (place in that partition's log), day int32[n]
    (days since 1970 of the record's own timestamp), occurred_at int64[n] (epoch milliseconds), amount float64[n]
    (base currency); texts are lists of n."""

    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    day: npt.NDArray[np.int32]
    event_id: Sequence[str]
    occurred_at: npt.NDArray[np.int64]
    account_id: Sequence[str]
    merchant_id: Sequence[str]
    amount: npt.NDArray[np.float64]
    channel: Sequence[str | None]
    country: Sequence[str | None]
    category: Sequence[str | None]
    memo: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.event_id)

    def take(self, rows: npt.NDArray[Any]) -> "Events":
        """The given rows (an index array), in its order."""
        return Events(**taken(self, rows, ARRAYS))

    @staticmethod
    def concatenate(parts: Sequence["Events"]) -> "Events":
        if len(parts) == 1:
            return parts[0]
        return Events(**concatenated(Events, parts, ARRAYS))

    @staticmethod
    def from_columns(columns: Mapping[str, Any]) -> "Events":
        """From whatever a file or a test has; position, day and optional texts are filled in where missing."""
        count = len(columns["event_id"])
        occurred_at = np.asarray(columns["occurred_at"], np.int64)
        nothing = [None] * count
        return Events(
            partition=np.asarray(columns.get("partition", np.zeros(count)), np.int32),
            offset=np.asarray(columns.get("offset", np.arange(count)), np.int64),
            day=np.asarray(columns.get("day", occurred_at // MILLISECONDS_A_DAY), np.int32),
            event_id=list(columns["event_id"]),
            occurred_at=occurred_at,
            account_id=list(columns["account_id"]),
            merchant_id=list(columns["merchant_id"]),
            amount=np.asarray(columns["amount"], np.float64),
            channel=list(columns.get("channel", nothing)),
            country=list(columns.get("country", nothing)),
            category=list(columns.get("category", nothing)),
            memo=list(columns.get("memo", nothing)),
        )


ARRAYS: dict[str, Any] = {
    "partition": np.int32,
    "offset": np.int64,
    "day": np.int32,
    "occurred_at": np.int64,
    "amount": np.float64,
}
