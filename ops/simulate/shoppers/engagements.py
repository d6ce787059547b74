"""What shoppers did, as columns in the order of time: engagements, and rewards that become known late.

Codes instead of texts until somebody needs these: items and users are places in the catalogue and among the people.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engagements import ACTIONS
from ops.simulate.ids import numbered_texts
from ops.simulate.payments import Floats, Int8s, Int32s, Int64s

#: recommendation_id of each, None where nothing was recommended.
RecommendationIds = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Doings:
    """n actions. occurred_at: epoch milliseconds; visit: its number; value: seconds of a dwell, price of a purchase,
    else NaN."""

    occurred_at: Int64s
    visit: Int64s
    user: Int32s
    item: Int32s
    action: Int8s
    value: Floats
    recommendation_id: RecommendationIds

    def __len__(self) -> int:
        return len(self.occurred_at)

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> "Doings":
        return Doings(*(getattr(self, field.name)[rows] for field in fields(self)))

    def in_time_order(self) -> "Doings":
        """What happens at one time is in the order of visits, then as it was."""
        return self.take(np.lexsort((self.visit, self.occurred_at)))

    @staticmethod
    def none() -> "Doings":
        whole, small = np.zeros(0, np.int64), np.zeros(0, np.int32)
        return Doings(whole, whole, small, small, np.zeros(0, np.int8), np.zeros(0), np.zeros(0, object))

    @staticmethod
    def concatenate(parts: Sequence["Doings"]) -> "Doings":
        if len(parts) == 1:
            return parts[0]
        return Doings(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Doings)))


@dataclass(frozen=True, slots=True)
class SimulatedEngagements:
    """n engagements in the order of their time; number: of each in its run, which names its event."""

    doings: Doings
    number: Int64s
    id_prefix: str
    user_ids: Sequence[str]
    item_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.doings)

    def event_ids(self) -> list[str]:
        return numbered_texts(self.id_prefix, self.number)

    def rows(self, chosen: slice) -> "SimulatedEngagements":
        return SimulatedEngagements(
            self.doings.take(chosen), self.number[chosen], self.id_prefix, self.user_ids, self.item_ids
        )

    def columns(self) -> dict[str, Any]:
        """The contract's fields; numbers as arrays (occurred_at in epoch milliseconds, value NaN for none), texts as
        lists."""
        return {
            "event_id": self.event_ids(),
            "occurred_at": self.doings.occurred_at,
            "user_id": chosen(self.user_ids, self.doings.user),
            "item_id": chosen(self.item_ids, self.doings.item),
            "action": chosen(ACTIONS, self.doings.action),
            "value": self.doings.value,
            "recommendation_id": self.doings.recommendation_id.tolist(),
        }


@dataclass(frozen=True, slots=True)
class LateRewards:
    """m rewards in the order in which they are given (given_at in epoch milliseconds): what slates earned elsewhere.
    As engagements, except that value is the reward, and number names the feedback."""

    given_at: Int64s
    user: Int32s
    item: Int32s
    value: Floats
    recommendation_id: RecommendationIds
    number: Int64s

    def __len__(self) -> int:
        return len(self.given_at)

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> "LateRewards":
        return LateRewards(*(getattr(self, field.name)[rows] for field in fields(self)))

    def merged_with(self, other: "LateRewards") -> "LateRewards":
        both = LateRewards(
            *(np.concatenate([getattr(self, field.name), getattr(other, field.name)]) for field in fields(self))
        )
        return both.take(np.lexsort((both.number, both.given_at)))

    @staticmethod
    def none() -> "LateRewards":
        whole, small = np.zeros(0, np.int64), np.zeros(0, np.int32)
        return LateRewards(whole, small, small, np.zeros(0), np.zeros(0, object), whole)


@dataclass(frozen=True, slots=True)
class ItemStates:
    """Items (places in the catalogue) that are new or changed, and whether each is in stock now."""

    item: Int32s
    available: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item)


def chosen(names: Sequence[str], codes: Int32s | Int8s) -> list[str]:
    """names[code] of each: as fast for a few codes out of many names as for many."""
    return [names[code] for code in codes.tolist()]
