"""Shoppers who look at the slates that the recommender makes for them, through the code that runs live, and the log of
it: engagements, slates with exact propensities, and what these earned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.chance import uniforms
from models.engagements import Engagements
from models.item_table import ItemTable
from models.logged_slates import LoggedSlates
from models.policy_history import PolicyHistory
from models.recommending import Recommender, Slates
from ops.bench.cold_start.world import World

MINUTE = 60_000
BEGIN = 1_800_000_000_000
#: What shoppers find by themselves before they are shown anything, and how much they prefer what they like.
FOUND, CHOOSINESS = 3, 1.5


@dataclass(frozen=True, slots=True)
class _Shown:
    """m slates with the rows of the engagements that they answer, and clicks bool[m, K] once they were looked at."""

    slates: Slates
    cause: npt.NDArray[np.int64]
    user: npt.NDArray[np.int64]
    made_at: npt.NDArray[np.int64]
    clicked: npt.NDArray[np.bool_]


@dataclass
class Visits:
    """Shoppers of a world before a recommender. luck: names the draws of what is clicked."""

    world: World
    recommender: Recommender
    luck: int
    now: int = BEGIN
    events: list[Engagements] = field(default_factory=list)
    seen: list[_Shown] = field(default_factory=list)
    _count: int = 0
    _waiting: _Shown | None = None
    _names: int = 0

    def find_something(self, times: int = FOUND) -> None:
        """Every shopper clicks on items with a history, without any slate; the last click is answered by one."""
        world = self.world
        old = world.attraction[:, : world.config.items]
        for _ in range(times):
            luck = self._uniform(old.shape)
            found = (CHOOSINESS * old - np.log(-np.log(luck))).argmax(1)
            self._tell(np.arange(len(found)), found, np.full(len(found), "click"), [None] * len(found))

    def look(self) -> float:
        """Everyone looks at his slate; clicks per slate."""
        shown = self._waiting
        if shown is None:
            return 0.0
        rows, places = np.nonzero(shown.slates.picks >= 0)
        item = shown.slates.candidates[rows, shown.slates.picks[rows, places]]
        user = shown.user[rows]
        likely = 1 / (1 + np.exp(-self.world.attraction[user, item]))
        clicked = self._uniform((len(self.world.attraction), len(self.world.items)))[user, item] < likely
        shown.clicked[rows, places] = clicked
        self.seen.append(shown)
        names = [f"slate-{self._names}-{row}" for row in rows.tolist()]
        self._names += 1
        self._tell(user, item, np.where(clicked, "click", "impression"), names)
        return float(shown.clicked.sum(1).mean())

    def continued(self, recommender: Recommender) -> "Visits":
        """The same shoppers at the same moment before another recommender; nothing is in the log yet."""
        return Visits(self.world, recommender, self.luck, now=self.now, _count=self._count)

    def history(self, items: ItemTable) -> PolicyHistory:
        """What a policy learns from; items: the catalogue's."""
        engagements = Engagements.concatenate(self.events)
        row_of = {item.item_id: row for row, item in enumerate(self.world.items)}
        item = np.fromiter(map(row_of.__getitem__, engagements.item_id), np.int32, len(engagements))
        width = max(shown.slates.candidates.shape[1] for shown in self.seen)
        logged = LoggedSlates.concatenate([_logged(shown, width) for shown in self.seen])
        return PolicyHistory(engagements, item, logged, np.concatenate([one.cause for one in self.seen]), items)

    def _tell(
        self,
        user: npt.NDArray[np.int64],
        item: npt.NDArray[Any],
        action: npt.NDArray[np.str_],
        slate: Sequence[str | None],
    ) -> None:
        """One engagement after the other, ten minutes later than the ones before."""
        self.now += 10 * MINUTE
        order = np.argsort(user, kind="stable")
        events = Engagements.from_columns(
            {
                "event_id": [f"event-{self._count + row}" for row in range(len(user))],
                "occurred_at": np.full(len(user), self.now),
                "user_id": [f"user-{one}" for one in user[order].tolist()],
                "item_id": [self.world.items[one].item_id for one in item[order].tolist()],
                "action": action[order].tolist(),
                "recommendation_id": [slate[row] for row in order.tolist()],
                "offset": np.arange(self._count, self._count + len(user)),
            }
        )
        answer = self.recommender.respond(events, lambda rows: (events.offset[rows] + 1).astype(np.uint64))
        self.events.append(events)
        if answer.slates is not None:
            rows = answer.slates.rows
            self._waiting = _Shown(
                answer.slates,
                rows + self._count,
                user[order][rows],
                events.occurred_at[rows],
                np.zeros(answer.slates.picks.shape, np.bool_),
            )
        self._count += len(user)

    def _uniform(self, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Draws that do not depend on what the recommender does: each is of a time, a shopper and an item."""
        seeds = np.arange(shape[0], dtype=np.uint64) + np.uint64(self.now + self.luck * 1_000_003)
        return uniforms(seeds, shape[1])


def _logged(shown: _Shown, width: int) -> LoggedSlates:
    slates = shown.slates
    missing = ((0, 0), (0, width - slates.candidates.shape[1]))
    return LoggedSlates(
        user=shown.user,
        made_at=shown.made_at,
        policy=slates.policy,
        candidates=np.pad(slates.candidates, missing, constant_values=-1),
        log_weights=np.pad(slates.log_weights, missing, constant_values=-np.inf),
        picks=slates.picks,
        reward=shown.clicked.astype(np.float64),
        matured=np.ones(len(slates), np.bool_),
    )
