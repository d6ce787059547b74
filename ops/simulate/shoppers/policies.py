"""Slates by simple rules, to judge a recommender by: at random, by popularity, by what attracts, by what earns.

The last two look into shoppers' heads, which no service can: they say what there is to win, and what chasing clicks
would cost. measure() lets one rule serve everybody for some days.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from models.engagements import CLICK, rewards
from ops.simulate.cards import DEFAULT_START
from ops.simulate.payments import Floats, Int32s, Int64s
from ops.simulate.scenarios import DAY
from ops.simulate.shoppers import responses
from ops.simulate.shoppers.catalogue import AVAILABLE, draw_items
from ops.simulate.shoppers.memory import NOTHING
from ops.simulate.shoppers.people import VISITS_A_DAY, draw_people
from ops.simulate.shoppers.visits import Shoppers

#: Scores float64[n, M] of every item for n shoppers; earned float64[M]: the rewards of each item so far.
Scores = Callable[[Shoppers, Int64s, Floats, np.random.Generator], Floats]


def at_random(shoppers: Shoppers, users: Int64s, earned: Floats, generator: np.random.Generator) -> Floats:
    return generator.random((len(users), len(shoppers.catalogue)))


def by_popularity(shoppers: Shoppers, users: Int64s, earned: Floats, generator: np.random.Generator) -> Floats:
    """In proportion to what each item earned so far; the very best alone would soon be seen too often."""
    return np.log1p(np.maximum(earned, 0.0)) + generator.gumbel(size=(len(users), len(earned)))


def by_attraction(shoppers: Shoppers, users: Int64s, earned: Floats, generator: np.random.Generator) -> Floats:
    """What each shopper is likeliest to click now."""
    every = _everything(shoppers, users)
    affinity = shoppers.memory.affinity(shoppers.catalogue, users, every)
    return shoppers.memory.attraction(shoppers.catalogue, users, every, affinity)


def by_earnings(shoppers: Shoppers, users: Int64s, earned: Floats, generator: np.random.Generator) -> Floats:
    """What one more look of each shopper is likely to earn now."""
    catalogue, memory = shoppers.catalogue, shoppers.memory
    every = _everything(shoppers, users)
    affinity = memory.affinity(catalogue, users, every)
    attraction = memory.attraction(catalogue, users, every, affinity)
    satiation = memory.satiation[users[:, None], catalogue.category[every]]
    return responses.expected_reward(attraction, affinity, affinity + catalogue.quality[every], satiation)


def by_aversion(shoppers: Shoppers, users: Int64s, earned: Floats, generator: np.random.Generator) -> Floats:
    """What earns least."""
    return -by_earnings(shoppers, users, earned, generator)


RULES: Mapping[str, Scores] = {
    "random": at_random,
    "popular": by_popularity,
    "clickbait": by_attraction,
    "oracle": by_earnings,
}


@dataclass(frozen=True, slots=True)
class MeasureConfig:
    """slate: items of one; days: of visits, the first half of which only warms up."""

    users: int = 500
    items: int = 400
    slate: int = 6
    days: int = 20
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Earned:
    """Per slate, over all slates of the second half; error: standard error of the reward, by shopper."""

    slates: int
    reward: float
    error: float
    clicks: float


def measure(scores: Scores, config: MeasureConfig) -> Earned:
    """Everybody visits VISITS_A_DAY times a day, at once; the rule alone differs between two calls."""
    generator = np.random.default_rng([config.seed, 8])
    item_ids = [f"item-{number:06d}" for number in range(config.items)]
    catalogue = draw_items(np.random.default_rng([config.seed, 5]), item_ids, np.zeros(config.items, np.int64))
    shoppers = Shoppers(catalogue, draw_people(config.users, config.seed), luck=f"measure {config.seed}")
    users, by_item = np.arange(config.users), np.zeros(config.items)
    rounds = round(config.days * VISITS_A_DAY)
    earned, clicked = np.zeros((2, rounds, config.users))
    for each in range(rounds):
        at = np.full(config.users, DEFAULT_START + round(each * DAY / VISITS_A_DAY))
        slates = best_slates(scores(shoppers, users, by_item, generator), shoppers, int(at[0]), config.slate)
        done = shoppers.visit(users, slates, at, users + each * config.users)
        worth = rewards(done.action, done.value)
        earned[each] = np.bincount(done.visit, worth, config.users)
        clicked[each] = np.bincount(done.visit, done.action == CLICK, config.users)
        by_item += np.bincount(done.item, worth, config.items)
    by_user = earned[rounds // 2 :].mean(axis=0)
    error = by_user.std(ddof=1) / np.sqrt(config.users)
    slates_counted = (rounds - rounds // 2) * config.users
    return Earned(slates_counted, float(by_user.mean()), float(error), float(clicked[rounds // 2 :].mean()))


def best_slates(scores: Floats, shoppers: Shoppers, at: int, size: int) -> Int32s:
    """int32[n, size]: the best items that are there and in stock at `at` (epoch milliseconds), best first; -1 where
    there are fewer."""
    allowed = np.flatnonzero(shoppers.catalogue.states(at) == AVAILABLE)
    order = np.argsort(-scores[:, allowed], axis=1, kind="stable")[:, :size]
    slates = np.full((len(scores), size), NOTHING, np.int32)
    slates[:, : order.shape[1]] = allowed[order]
    return slates


def _everything(shoppers: Shoppers, users: Int64s) -> Int32s:
    return np.tile(np.arange(len(shoppers.catalogue), dtype=np.int32), (len(users), 1))
