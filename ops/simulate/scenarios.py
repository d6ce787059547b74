"""Fraud scenarios: each runs in episodes and adds payments that the account's owner never made (or should not have).

A scenario says how large and how long an episode is and what its payments look like; this file's functions turn a
number of episodes into payments. Amounts are factors on what the victim would spend at that place, so that one has to
know the account to see them, and some stay within the usual. Times scale: with time_scale 24 an episode of a day
passes in an hour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ops.simulate.background import channels, countries, memos, merchants_in, usual_cents
from ops.simulate.payments import (
    BUSINESS_MEMOS,
    CARD_PRESENT,
    MEMOS,
    NO_MEMO,
    ONLINE,
    TRANSFER,
    Floats,
    Int8s,
    Int16s,
    Int32s,
    Int64s,
    Payments,
)
from ops.simulate.population import ONLINE_SHARE, PAYEE, Population

DAY = 86_400_000
MINUTE_DAYS = 1 / 1440
REPORTING_LIMIT_CENTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Episodes:
    """k episodes: how many payments and over how many milliseconds each."""

    size: Int64s
    duration: Int64s

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class Steps:
    """n payments of k episodes, sorted by episode, then time: each one's episode and place in it; size: of each
    episode."""

    episode: Int64s
    place: Int64s
    size: Int64s

    @property
    def is_last(self) -> npt.NDArray[np.bool_]:
        last: npt.NDArray[np.bool_] = self.place == self.size[self.episode] - 1
        return last


@dataclass(frozen=True, slots=True)
class Deeds:
    """What n payments are, apart from their time; as in Payments."""

    account: Int32s
    merchant: Int32s
    cents: Int64s
    channel: Int8s
    memo: Int16s


@dataclass(frozen=True, slots=True)
class Scenario:
    """sizes: payments of an episode, from..to inclusive; days: how long it lasts, from..to."""

    name: str
    sizes: tuple[int, int]
    days: tuple[float, float]
    act: Callable[[Population, np.random.Generator, Steps], Deeds]

    @property
    def mean_size(self) -> float:
        return sum(self.sizes) / 2


def large_amounts(population: Population, generator: np.random.Generator, steps: Steps) -> Deeds:
    """One large payment out of nowhere."""
    account = victims(population, generator, len(steps.size))[steps.episode]
    merchant = elsewhere(population, generator, account, abroad=0.3)
    return card_deeds(population, generator, account, merchant, factors(generator, len(account), 3.0, 20.0))


def compromised_merchants(population: Population, generator: np.random.Generator, steps: Steps) -> Deeds:
    """For weeks, cards that were copied at a merchant are charged there again: many accounts, one place."""
    take_cards = np.flatnonzero(population.merchant_category != PAYEE)
    place = generator.choice(take_cards, len(steps.size)).astype(np.int32)
    account = victims(population, generator, len(steps.episode))
    factor = factors(generator, len(account), 1.0, 5.0)
    return card_deeds(population, generator, account, place[steps.episode], factor)


def stolen_credentials(population: Population, generator: np.random.Generator, steps: Steps) -> Deeds:
    """For days, someone else pays with the account: larger amounts, mostly online, at places and in countries new to
    it."""
    account = victims(population, generator, len(steps.size))[steps.episode]
    country = countries(generator, len(steps.size))[steps.episode]
    merchant = merchants_in(population, generator, country)
    return card_deeds(population, generator, account, merchant, factors(generator, len(account), 1.5, 6.0))


def structuring(population: Population, generator: np.random.Generator, steps: Steps) -> Deeds:
    """Large sums cut into transfers that each stay below the reporting limit, to a few payees: for compliance."""
    account = victims(population, generator, len(steps.size))[steps.episode]
    payees = np.flatnonzero(population.merchant_category == PAYEE)
    known_to_launderer = generator.choice(payees, (len(steps.size), 3))
    merchant = known_to_launderer[steps.episode, generator.integers(0, 3, len(account))].astype(np.int32)
    below = np.rint(generator.beta(1.2, 4.0, len(account)) * 0.2 * REPORTING_LIMIT_CENTS).astype(np.int64)
    rounded = np.where(generator.random(len(account)) < 0.5, below // 5_000 * 5_000, below)
    return Deeds(
        account=account,
        merchant=merchant,
        cents=REPORTING_LIMIT_CENTS - np.maximum(rounded, 100),
        channel=np.full(len(account), TRANSFER, np.int8),
        memo=generator.integers(BUSINESS_MEMOS, len(MEMOS), len(account)).astype(np.int16),
    )


def card_testing(population: Population, generator: np.random.Generator, steps: Steps) -> Deeds:
    """Within minutes, a few tiny payments online that try whether a card works, then a large one: the order tells."""
    account = victims(population, generator, len(steps.size))[steps.episode]
    merchant = online_shops(population, generator, elsewhere(population, generator, account, abroad=0.5))
    real = card_deeds(population, generator, account, merchant, factors(generator, len(account), 2.0, 10.0))
    tiny = generator.integers(50, 300, len(account))
    return Deeds(
        account=account,
        merchant=merchant,
        cents=np.where(steps.is_last, real.cents, tiny),
        channel=np.full(len(account), ONLINE, np.int8),
        memo=np.full(len(account), NO_MEMO, np.int16),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("large_amounts", (1, 1), (0.0, 0.0), large_amounts),
    Scenario("compromised_merchants", (20, 60), (7.0, 28.0), compromised_merchants),
    Scenario("stolen_credentials", (4, 12), (0.5, 5.0), stolen_credentials),
    Scenario("structuring", (6, 20), (3.0, 20.0), structuring),
    Scenario("card_testing", (3, 6), (5 * MINUTE_DAYS, 60 * MINUTE_DAYS), card_testing),
)
SCENARIO_NAMES = tuple(scenario.name for scenario in SCENARIOS)


def chosen_scenarios(names: Sequence[str]) -> tuple[Scenario, ...]:
    """In the order of SCENARIOS. The names must exist (cards.py checks)."""
    return tuple(scenario for scenario in SCENARIOS if scenario.name in names)


def plan_episodes(
    scenario: Scenario, generator: np.random.Generator, episodes: int, time_scale: float, longest: int | None = None
) -> Episodes:
    """longest: no episode lasts more milliseconds than this."""
    low, high = scenario.sizes
    duration = generator.uniform(*scenario.days, episodes) * (DAY / time_scale)
    if longest is not None:
        duration = np.minimum(duration, longest)
    return Episodes(generator.integers(low, high + 1, episodes), duration.astype(np.int64))


def carry_out(
    scenario: Scenario, population: Population, generator: np.random.Generator, episodes: Episodes, begin: Int64s
) -> Payments:
    """The payments of episodes that begin at the given times (epoch milliseconds), sorted by episode, then time.

    Within an episode they are spread evenly at random."""
    episode = np.repeat(np.arange(len(episodes)), episodes.size)
    place = np.arange(len(episode)) - np.repeat(np.cumsum(episodes.size) - episodes.size, episodes.size)
    within = np.floor(generator.random(len(episode)) * (episodes.duration[episode] + 1)).astype(np.int64)
    within = within[np.lexsort((within, episode))]
    deeds = scenario.act(population, generator, Steps(episode, place, episodes.size))
    return Payments(
        occurred_at=begin[episode] + within,
        account=deeds.account,
        merchant=deeds.merchant,
        cents=deeds.cents,
        channel=deeds.channel,
        memo=deeds.memo,
        scenario=np.full(len(episode), SCENARIO_NAMES.index(scenario.name), np.int8),
    )


def frauds_within(
    scenario: Scenario,
    population: Population,
    generator: np.random.Generator,
    start: int,
    end: int,
    count: int,
    time_scale: float,
) -> Payments:
    """Exactly `count` payments within [start, end), episodes starting anywhere in it; the last one may be cut short."""
    enough = -(-count // scenario.sizes[0])
    episodes = plan_episodes(scenario, generator, enough, time_scale, longest=end - start - 1)
    needed = int(np.searchsorted(np.cumsum(episodes.size), count)) + 1 if count else 0
    episodes = Episodes(episodes.size[:needed], episodes.duration[:needed])
    room = end - start - episodes.duration
    begin = start + np.floor(generator.random(needed) * room).astype(np.int64)
    return carry_out(scenario, population, generator, episodes, begin).take(slice(0, count))


def victims(population: Population, generator: np.random.Generator, count: int) -> Int32s:
    """Accounts, the busier the likelier."""
    return generator.choice(len(population.rate), count, p=population.rate / population.rate.sum()).astype(np.int32)


def elsewhere(population: Population, generator: np.random.Generator, account: Int32s, abroad: float) -> Int32s:
    """Any merchant at home or, for the given share, in another country."""
    country = population.home[account].astype(np.int64)
    away = np.flatnonzero(generator.random(len(account)) < abroad)
    country[away] = countries(generator, len(away))
    return merchants_in(population, generator, country)


def online_shops(population: Population, generator: np.random.Generator, merchant: Int32s) -> Int32s:
    """The same merchants; instead of one that never sells online, a shop anywhere that does."""
    sells_online = ONLINE_SHARE[population.merchant_category] > 0
    others = np.flatnonzero(~sells_online[merchant])
    chosen = merchant.copy()
    chosen[others] = generator.choice(np.flatnonzero(sells_online), len(others))
    return chosen


def factors(generator: np.random.Generator, count: int, low: float, high: float) -> Floats:
    """Evenly spread in their logarithm."""
    return np.exp(generator.uniform(np.log(low), np.log(high), count))


def card_deeds(
    population: Population, generator: np.random.Generator, account: Int32s, merchant: Int32s, factor: Floats
) -> Deeds:
    """Payments of as much as the account would make there times a factor; more often online than honest ones, though
    never where honest ones never are, or the channel alone would give them away."""
    channel = channels(population, generator, merchant)
    moves = (generator.random(len(merchant)) < 0.6) & (ONLINE_SHARE[population.merchant_category[merchant]] > 0)
    channel = np.where((channel == CARD_PRESENT) & moves, ONLINE, channel).astype(np.int8)
    cents = usual_cents(population, generator, account, merchant, factor)
    return Deeds(account, merchant, cents, channel, memos(generator, channel))
