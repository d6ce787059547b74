"""Visits laid out in time: a Poisson process of visits, whoever looks and whenever, as a history or live.

What happens is fixed by the seed, the run, the start and the slates; until(now) gives out what is due, with the times
at which it was. Who comes next depends on moods, so visits are drawn step by step. Time and slates come from the
caller; a shopper without a slate, and some with one, search by themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.engagements import PURCHASE, REWARDS, rewards
from ops.simulate.cards import RUN_NAME, BadSimulation
from ops.simulate.ids import stable_number
from ops.simulate.labels import LabelDelay, chance
from ops.simulate.payments import Int32s, Int64s
from ops.simulate.shoppers.catalogue import ABSENT, AVAILABLE, Catalogue
from ops.simulate.shoppers.engagements import Doings, ItemStates, LateRewards, SimulatedEngagements
from ops.simulate.shoppers.memory import NOTHING
from ops.simulate.shoppers.people import VISITS_A_DAY, draw_people
from ops.simulate.shoppers.visits import MOST_POSITIONS, Actions, Shoppers

#: Live: milliseconds.
REWARD_DELAY = LabelDelay(5_000, 20_000)
SECOND, DAY_SECONDS = 1_000, 86_400
HIGHEST_RATE = 100_000.0
MOST_USERS, MOST_ITEMS = 1_000_000, 100_000
#: Visits of shoppers who have a slate and search nevertheless.
SEARCH_SHARE = 0.25
#: Purchases after a slate that are made elsewhere: known by a reward in the topic `feedback` only, and late.
ELSEWHERE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Slate:
    """What a service shows to one shopper."""

    recommendation_id: str
    policy: str
    item_ids: Sequence[str]


#: The present slates of users (by id), None for one who has none.
Slates = Callable[[Sequence[str]], Sequence[Slate | None]]


@dataclass(frozen=True, slots=True)
class TrafficConfig:
    """start: epoch milliseconds; rate: visits a second on average; run: part of every event_id; step: milliseconds
    for which visits are drawn at once; reward_delay: of purchases that are made elsewhere."""

    start: int
    users: int = 2_000
    rate: float = 20.0
    seed: int = 0
    run: str = "1"
    step: int = SECOND
    reward_delay: LabelDelay = REWARD_DELAY

    @property
    def pace(self) -> float:
        return pace(self.users, self.rate)


@dataclass(slots=True)
class Earnings:
    """Of one policy, as the shoppers know them: slates that were looked at, and all they earned."""

    slates: int = 0
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class TrafficBatch:
    """What is due: items first, then engagements, then rewards, each in the order of time."""

    items: ItemStates
    engagements: SimulatedEngagements
    rewards: LateRewards


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Visits to come, in the order of time; number: of each in its run."""

    at: Int64s
    user: Int64s
    number: Int64s

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> "_Arrivals":
        return _Arrivals(self.at[rows], self.user[rows], self.number[rows])


@dataclass(slots=True)
class Waiting:
    """What is decided and not yet due."""

    doings: Doings = field(default_factory=Doings.none)
    rewards: LateRewards = field(default_factory=LateRewards.none)

    def take_due(self, now: int) -> tuple[Doings, LateRewards]:
        """What happens by `now` (epoch milliseconds); it waits no longer."""
        due = int(np.searchsorted(self.doings.occurred_at, now, side="right"))
        given = int(np.searchsorted(self.rewards.given_at, now, side="right"))
        result = self.doings.take(slice(0, due)), self.rewards.take(slice(0, given))
        self.doings, self.rewards = self.doings.take(slice(due, None)), self.rewards.take(slice(given, None))
        return result


class Traffic:
    """Raises BadSimulation for a config that makes no sense."""

    def __init__(self, config: TrafficConfig, catalogue: Catalogue, slates: Slates | None = None) -> None:
        check_traffic(config)
        self.config = config
        self.catalogue = catalogue
        self.people = draw_people(config.users, config.seed)
        #: That have begun.
        self.visits = 0
        #: By policy.
        self.earnings: dict[str, Earnings] = {}
        self._luck = f"shop-{config.seed}-{config.run}-"
        self.shoppers = Shoppers(catalogue, self.people, luck=self._luck, pace=config.pace)
        self._slates = slates
        self._row_of = {item_id: row for row, item_id in enumerate(catalogue.item_ids)}
        self._next_step = config.start
        self._drawn = 0
        none = np.zeros(0, np.int64)
        self._arrivals = _Arrivals(none, none, none)
        self._waiting = Waiting()
        self._states = np.full(len(catalogue), ABSENT, np.int8)
        self._changed = np.zeros(len(catalogue), bool)
        self._given = 0

    def until(self, now: int) -> TrafficBatch:
        """What is due by `now` (epoch milliseconds) and was not given yet."""
        self._carry_out(min(now, self._next_step - 1))
        while self._next_step <= now:
            self._begin_step()
            self._carry_out(min(now, self._next_step - 1))
        doings, late = self._waiting.take_due(now)
        number = np.arange(self._given, self._given + len(doings))
        self._given += len(doings)
        changed = np.flatnonzero(self._changed).astype(np.int32)
        self._changed[:] = False
        return TrafficBatch(
            ItemStates(changed, self._states[changed] == AVAILABLE),
            SimulatedEngagements(doings, number, self._luck, self.people.user_ids, self.catalogue.item_ids),
            late,
        )

    def _begin_step(self) -> None:
        """Draws the step's visits: the busy and the happy come more often."""
        start, config = self._next_step, self.config
        self._next_step += config.step
        states = self.catalogue.states(start)
        self._changed |= states != self._states
        self._states = states
        self.shoppers.refresh_stock(start)
        purpose = [config.seed, 9, stable_number(config.run), (start - config.start) // config.step]
        generator = np.random.default_rng(purpose)
        count = int(generator.poisson(config.rate * config.step / SECOND))
        weight = np.cumsum(self.people.activity * np.exp(self.shoppers.memory.mood))
        user = np.searchsorted(weight, generator.random(count) * weight[-1], side="right")
        at = np.sort(start + generator.integers(0, config.step, count))
        number = np.arange(self._drawn, self._drawn + count)
        self._drawn += count
        self._arrivals = _Arrivals(at, np.minimum(user, config.users - 1), number)

    def _carry_out(self, until: int) -> None:
        """The visits that begin by then. Each wave holds a shopper once, as the next visit depends on the last."""
        count = int(np.searchsorted(self._arrivals.at, until, side="right"))
        due, self._arrivals = self._arrivals.take(slice(0, count)), self._arrivals.take(slice(count, None))
        self.visits += count
        wave = repetitions(due.user)
        for each in range(int(wave.max()) + 1 if count else 0):
            self._wave(due.take(wave == each))

    def _wave(self, visits: _Arrivals) -> None:
        slates: Sequence[Slate | None] = [None] * len(visits.at)
        if self._slates is not None:
            slates = self._slates([self.people.user_ids[user] for user in visits.user.tolist()])
        searches = chance(f"{self._luck}search", visits.number) < SEARCH_SHARE
        searches |= np.array([slate is None for slate in slates], bool)
        self._note(visits.take(searches), None)
        looking = np.flatnonzero(~searches)
        self._note(visits.take(looking), [slate for row in looking.tolist() if (slate := slates[row]) is not None])

    def _note(self, visits: _Arrivals, slates: Sequence[Slate] | None) -> None:
        """Carries visits out, and keeps what they lead to until it is due. None: searches."""
        if not len(visits.at):
            return
        rows = None if slates is None else self._rows(slates)
        actions = self.shoppers.visit(visits.user, rows, visits.at, visits.number)
        ids = np.array([None] * len(visits.at) if slates is None else [s.recommendation_id for s in slates], object)
        doings = Doings(
            occurred_at=visits.at[actions.visit] + np.floor(actions.after / self.config.pace).astype(np.int64),
            visit=visits.number[actions.visit],
            user=visits.user[actions.visit].astype(np.int32),
            item=actions.item,
            action=actions.action,
            value=actions.value,
            recommendation_id=ids[actions.visit],
        )
        elsewhere = np.zeros(len(actions), bool)
        if slates is not None:
            self._count(slates, actions)
            place = visits.number[actions.visit] * MOST_POSITIONS + actions.position
            elsewhere = (actions.action == PURCHASE) & (chance(f"{self._luck}elsewhere", place) < ELSEWHERE_SHARE)
            late = self._late_rewards(doings.take(elsewhere), place[elsewhere])
            self._waiting.rewards = self._waiting.rewards.merged_with(late)
        self._waiting.doings = Doings.concatenate([self._waiting.doings, doings.take(~elsewhere)]).in_time_order()

    def _rows(self, slates: Sequence[Slate]) -> Int32s:
        """int32[n, K]; an item that is not in the catalogue, which another programme may have sent, is nothing."""
        width = min(max(1, *(len(slate.item_ids) for slate in slates)), MOST_POSITIONS)
        rows = np.full((len(slates), width), NOTHING, np.int32)
        for place, slate in enumerate(slates):
            known = [self._row_of.get(item_id, NOTHING) for item_id in slate.item_ids[:width]]
            rows[place, : len(known)] = known
        return rows

    def _count(self, slates: Sequence[Slate], actions: Actions) -> None:
        earned = np.bincount(actions.visit, rewards(actions.action, actions.value), len(slates))
        for slate, reward in zip(slates, earned.tolist(), strict=True):
            own = self.earnings.setdefault(slate.policy, Earnings())
            own.slates += 1
            own.reward += reward

    def _late_rewards(self, doings: Doings, number: Int64s) -> LateRewards:
        delay = self.config.reward_delay
        after = chance(f"{self._luck}delay", number) * (delay.longest - delay.shortest + 1)
        return LateRewards(
            given_at=doings.occurred_at + delay.shortest + np.floor(after).astype(np.int64),
            user=doings.user,
            item=doings.item,
            value=np.full(len(doings), REWARDS["purchase"]),
            recommendation_id=doings.recommendation_id,
            number=number,
        )


def repetitions(users: Int64s) -> Int64s:
    """int64[n]: how often each one's value occurred before."""
    order = np.argsort(users, kind="stable")
    is_first = np.ones(len(users), bool)
    is_first[1:] = np.diff(users[order]) != 0
    begins = np.maximum.accumulate(np.where(is_first, np.arange(len(users)), 0)) if len(users) else order
    before = np.empty(len(users), np.int64)
    before[order] = np.arange(len(users)) - begins
    return before


def pace(users: int, rate: float) -> float:
    """Days of life that pass in one day, so that so many shoppers make so many visits a second; at least one."""
    return max(1.0, rate * DAY_SECONDS / (users * VISITS_A_DAY))


def check_traffic(config: TrafficConfig) -> None:
    if not 1 <= config.users <= MOST_USERS:
        raise BadSimulation(f"users must be between 1 and {MOST_USERS}, not {config.users}")
    if not 0 < config.rate <= HIGHEST_RATE:
        raise BadSimulation(
            f"the rate must be above 0 and at most {HIGHEST_RATE:.0f} visits a second, not {config.rate}"
        )
    if config.seed < 0:
        raise BadSimulation(f"the seed must not be negative, not {config.seed}")
    if not RUN_NAME.fullmatch(config.run):
        raise BadSimulation(
            f"the run's name must be 1 to 60 letters, digits, dots, dashes or underscores, not {config.run!r}"
        )
