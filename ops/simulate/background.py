"""The honest payments of a population over a span of time: who pays when, where and how much.

Times follow the accounts' habits by hour of the day (UTC); given the number of payments they are those of a Poisson
process. Honest life has its own surprises (a new sofa, a trip abroad, a first visit to a shop), so that a fraud is
never recognised by one of them alone.
"""

import math
from functools import lru_cache

import numpy as np

from ops.simulate.payments import (
    ATM,
    BUSINESS_MEMOS,
    CARD_PRESENT,
    HONEST,
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
from ops.simulate.population import CASH, COUNTRY_SHARE, FAVOURITES, ONLINE_SHARE, PAYEE, Population

HOUR = 3_600_000
#: How often the first, second, ... favourite is chosen, cumulated.
FAVOURITE_CHOICE = np.cumsum(1.0 / np.arange(1, FAVOURITES + 1)) / np.sum(1.0 / np.arange(1, FAVOURITES + 1))
#: Large honest purchases: how many payments, and how many times the usual amount.
LARGE_SHARE, LARGE_LOG_FACTORS = 0.01, (math.log(3.0), math.log(10.0))
LEAST_CENTS, CASH_STEP_CENTS = 50, 1_000


class Habits:
    """Accounts by hour of the day, in proportion to their intensity in that hour."""

    def __init__(self, population: Population) -> None:
        self._population = population
        rate_by_habit = np.bincount(population.habit, population.rate, minlength=len(population.profiles))
        self.by_hour: Floats = rate_by_habit @ population.profiles
        self._cumulated = lru_cache(maxsize=24)(self._cumulate)

    def _cumulate(self, hour: int) -> Floats:
        return np.cumsum(self._population.rate * self._population.profiles[self._population.habit, hour])

    def accounts(self, generator: np.random.Generator, hour: int, count: int) -> Int32s:
        cumulated = self._cumulated(hour)
        chosen = np.searchsorted(cumulated, generator.random(count) * cumulated[-1], side="right")
        accounts: Int32s = np.minimum(chosen, len(cumulated) - 1).astype(np.int32)
        return accounts


def honest_payments(
    population: Population, habits: Habits, generator: np.random.Generator, start: int, end: int, count: int
) -> Payments:
    """`count` payments within [start, end), epoch milliseconds, in no particular order."""
    occurred_at, hour = times_within(habits, generator, start, end, count)
    account = np.empty(count, np.int32)
    for each in np.unique(hour).tolist():
        rows = np.flatnonzero(hour == each)
        account[rows] = habits.accounts(generator, each, len(rows))
    merchant = usual_or_other_merchants(population, generator, account)
    factor = np.ones(count)
    large = np.flatnonzero(generator.random(count) < LARGE_SHARE)
    factor[large] = np.exp(generator.uniform(*LARGE_LOG_FACTORS, len(large)))
    channel = channels(population, generator, merchant)
    return Payments(
        occurred_at=occurred_at,
        account=account,
        merchant=merchant,
        cents=usual_cents(population, generator, account, merchant, factor),
        channel=channel,
        memo=memos(generator, channel),
        scenario=np.full(count, HONEST, np.int8),
    )


def times_within(
    habits: Habits, generator: np.random.Generator, start: int, end: int, count: int
) -> tuple[Int64s, Int8s]:
    """Times in order of their hours, and each one's hour of the day; busy hours have more."""
    edges = np.unique(np.clip(np.arange(start // HOUR, -(-end // HOUR) + 1) * HOUR, start, end))
    begin, length = edges[:-1], np.diff(edges)
    of_day = (begin // HOUR) % 24
    weight = length * habits.by_hour[of_day]
    counts = generator.multinomial(count, weight / weight.sum())
    slot = np.repeat(np.arange(len(begin)), counts)
    occurred_at = begin[slot] + np.floor(generator.random(count) * length[slot]).astype(np.int64)
    return occurred_at, of_day[slot].astype(np.int8)


def usual_or_other_merchants(population: Population, generator: np.random.Generator, account: Int32s) -> Int32s:
    """A favourite; or another merchant at home; or one abroad."""
    place = np.searchsorted(FAVOURITE_CHOICE, generator.random(len(account)), side="right")
    merchant = population.favourites[account, np.minimum(place, FAVOURITES - 1)]
    other = np.flatnonzero(generator.random(len(account)) < population.elsewhere[account])
    country = population.home[account[other]].astype(np.int64)
    travels = np.flatnonzero(generator.random(len(other)) < population.abroad[account[other]])
    country[travels] = countries(generator, len(travels))
    merchant[other] = merchants_in(population, generator, country)
    return merchant


def countries(generator: np.random.Generator, count: int) -> Int64s:
    return generator.choice(len(COUNTRY_SHARE), count, p=COUNTRY_SHARE / COUNTRY_SHARE.sum())


def merchants_in(population: Population, generator: np.random.Generator, country: Int64s) -> Int32s:
    """Any merchant of each country; of the whole world where a country has none."""
    first, stop = population.places[country], population.places[country + 1]
    first, stop = np.where(stop > first, first, 0), np.where(stop > first, stop, len(population.price))
    return (first + np.floor(generator.random(len(country)) * (stop - first)).astype(np.int64)).astype(np.int32)


def usual_cents(
    population: Population, generator: np.random.Generator, account: Int32s, merchant: Int32s, factor: Floats
) -> Int64s:
    """What the account would spend at the merchant, times a factor. Cash comes in whole ten-euro notes."""
    noise = np.exp(generator.standard_normal(len(account)) * population.spread[account])
    euros = population.price[merchant] * population.level[account] * noise * factor
    cents = np.maximum(np.rint(euros * 100), LEAST_CENTS).astype(np.int64)
    cash = population.merchant_category[merchant] == CASH
    in_notes = np.maximum((cents + CASH_STEP_CENTS // 2) // CASH_STEP_CENTS, 1) * CASH_STEP_CENTS
    return np.where(cash, in_notes, cents)


def channels(population: Population, generator: np.random.Generator, merchant: Int32s) -> Int8s:
    category = population.merchant_category[merchant]
    online = generator.random(len(merchant)) < ONLINE_SHARE[category]
    channel = np.where(online, ONLINE, CARD_PRESENT).astype(np.int8)
    channel[category == CASH] = ATM
    channel[category == PAYEE] = TRANSFER
    return channel


def memos(generator: np.random.Generator, channel: Int8s) -> Int16s:
    """Transfers carry a text, mostly a private one; nothing else does."""
    memo = np.full(len(channel), NO_MEMO, np.int16)
    rows = np.flatnonzero(channel == TRANSFER)
    private = generator.random(len(rows)) < 0.7
    low, high = np.where(private, 0, BUSINESS_MEMOS), np.where(private, BUSINESS_MEMOS, len(MEMOS))
    memo[rows] = generator.integers(low, high)
    return memo
