"""Engagements as columns: what users did with items, live, replayed or from a file, and what that is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.columns import concatenated, taken

#: As in the contract. An engagement's `action` is a place in here.
ACTIONS = ("impression", "click", "like", "dislike", "skip", "dwell", "purchase")
ACTION_NUMBERS: Mapping[str, int] = {name: number for number, name in enumerate(ACTIONS)}
IMPRESSION, CLICK, LIKE, DISLIKE, SKIP, DWELL, PURCHASE = range(len(ACTIONS))
#: The reward of one engagement with a recommended item. Dwelling earns by the second, up to a minute.
REWARDS: Mapping[str, float] = {
    "impression": 0.0,
    "click": 1.0,
    "like": 2.0,
    "dislike": -2.0,
    "skip": -0.1,
    "dwell": 1.0 / 60,
    "purchase": 5.0,
}
LONGEST_DWELL = 60.0
_REWARDS = np.array([REWARDS[name] for name in ACTIONS])


@dataclass(frozen=True, slots=True)
class Engagements:
    """n engagements in log order. partition int32[n], offset int64[n] (place in that partition's log), day int32[n]
    (days since 1970 of the record's own timestamp), occurred_at int64[n] (epoch milliseconds), action int8[n],
    value float64[n] (seconds, rating or price; NaN for none); texts are lists of n."""

    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    day: npt.NDArray[np.int32]
    event_id: Sequence[str]
    occurred_at: npt.NDArray[np.int64]
    user_id: Sequence[str]
    item_id: Sequence[str]
    action: npt.NDArray[np.int8]
    value: npt.NDArray[np.float64]
    recommendation_id: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.event_id)

    def take(self, rows: npt.NDArray[Any]) -> "Engagements":
        """The given rows (an index array), in its order."""
        return Engagements(**taken(self, rows, ARRAYS))

    @staticmethod
    def concatenate(parts: Sequence["Engagements"]) -> "Engagements":
        if len(parts) == 1:
            return parts[0]
        return Engagements(**concatenated(Engagements, parts, ARRAYS))

    @staticmethod
    def from_columns(columns: Mapping[str, Any]) -> "Engagements":
        """From whatever a file or a test has; action as names; position, day, value and recommendation are filled in
        where missing."""
        count = len(columns["event_id"])
        occurred_at = np.asarray(columns["occurred_at"], np.int64)
        return Engagements(
            partition=np.asarray(columns.get("partition", np.zeros(count)), np.int32),
            offset=np.asarray(columns.get("offset", np.arange(count)), np.int64),
            day=np.asarray(columns.get("day", occurred_at // 86_400_000), np.int32),
            event_id=list(columns["event_id"]),
            occurred_at=occurred_at,
            user_id=list(columns["user_id"]),
            item_id=list(columns["item_id"]),
            action=np.array([ACTION_NUMBERS[name] for name in columns["action"]], np.int8),
            value=np.asarray(columns.get("value", np.full(count, np.nan)), np.float64),
            recommendation_id=list(columns.get("recommendation_id", [None] * count)),
        )


ARRAYS: dict[str, Any] = {
    "partition": np.int32,
    "offset": np.int64,
    "day": np.int32,
    "occurred_at": np.int64,
    "action": np.int8,
    "value": np.float64,
}


def rewards(action: npt.NDArray[np.int8], value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64[n]: what each engagement is worth as an answer to a recommendation."""
    worth: npt.NDArray[np.float64] = _REWARDS[action]
    seconds = np.clip(np.nan_to_num(value), 0, LONGEST_DWELL)
    return np.where(action == DWELL, worth * seconds, worth)
