"""Who pays whom, and how: accounts with habits and merchants with prices, drawn once from a seed.

The same seed and sizes give the same population, whatever is simulated with it afterwards: that is how live traffic
continues a history. An account has a home country, a level and a spread of amounts, a rate, a habit (when in the day
it pays), favourite merchants and how often it goes elsewhere or abroad. A merchant has a category, a country and a
price level. Knows nothing of time or fraud.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ops.simulate.payments import Floats, Int8s, Int32s, Int64s

FAVOURITES = 10
#: Kinds of day that people have; each account has one of them.
HABITS = 12
#: Payments a day: of the median account 1.2, of the mean one about 1.5; the spread is of the logarithm.
MEDIAN_RATE, RATE_SPREAD = 1.2, 0.7
BUSINESS_SHARE = 0.02
BUSINESS_LEVEL, BUSINESS_RATE = 15.0, 3.0


@dataclass(frozen=True, slots=True)
class Category:
    """share: of merchants and of favourites; median: a usual amount in euros; online: the share of payments online."""

    name: str
    share: float
    median: float
    online: float


CATEGORIES = (
    Category("groceries", 0.22, 28.0, 0.06),
    Category("restaurants", 0.15, 24.0, 0.10),
    Category("fuel", 0.07, 55.0, 0.0),
    Category("transport", 0.09, 9.0, 0.5),
    Category("fashion", 0.08, 60.0, 0.55),
    Category("electronics", 0.05, 140.0, 0.65),
    Category("health", 0.06, 22.0, 0.15),
    Category("home", 0.06, 70.0, 0.35),
    Category("entertainment", 0.06, 18.0, 0.6),
    Category("subscriptions", 0.05, 12.0, 1.0),
    Category("travel", 0.03, 260.0, 0.8),
    Category("cash", 0.04, 90.0, 0.0),
    Category("transfer", 0.04, 220.0, 0.0),
)
CATEGORY_NAMES = tuple(category.name for category in CATEGORIES)
CASH, PAYEE = CATEGORY_NAMES.index("cash"), CATEGORY_NAMES.index("transfer")
ONLINE_SHARE = np.array([category.online for category in CATEGORIES])

COUNTRIES = (
    *("DE", "FR", "IT", "ES", "NL", "PL", "BE", "AT", "SE", "PT", "IE", "DK", "FI", "CZ", "GR", "RO", "HU", "CH"),
    *("GB", "US", "TR", "CN", "BR", "NG", "IN"),
)
#: Share of accounts and merchants by country, falling with its place; accounts live in the first HOME_COUNTRIES.
COUNTRY_SHARE = 1.0 / np.arange(1, len(COUNTRIES) + 1)
HOME_COUNTRIES = 18


@dataclass(frozen=True, slots=True)
class Population:
    """A accounts and M merchants; merchants are sorted by country, then category, most popular first within both.

    rate: payments a day; level: factor on a merchant's prices; spread: standard deviation of the amount's logarithm;
    elsewhere: share of payments away from the favourites; abroad: share of those in another country; profiles
    [HABITS, 24]: relative intensity by hour of the day, each with mean 1; favourites [A, FAVOURITES];
    price: a usual amount in euros; places[country]..places[country + 1]: its merchants.
    """

    account_ids: tuple[str, ...]
    merchant_ids: tuple[str, ...]
    home: Int8s
    level: Floats
    spread: Floats
    rate: Floats
    habit: Int8s
    elsewhere: Floats
    abroad: Floats
    favourites: Int32s
    merchant_category: Int8s
    merchant_country: Int8s
    price: Floats
    places: Int64s
    profiles: Floats

    @property
    def payments_a_day(self) -> float:
        return float(self.rate.sum())


@lru_cache(maxsize=2)
def build_population(accounts: int, merchants: int, seed: int) -> Population:
    """accounts >= 1; merchants at least one per category (cards.py checks both). Kept, as live traffic that continues
    a history asks for the same again: nobody may change its arrays."""
    generator = np.random.default_rng([seed, 1])
    country, category, price = _merchants(generator, merchants)
    places = np.searchsorted(country, np.arange(len(COUNTRIES) + 1)).astype(np.int64)
    home_share = COUNTRY_SHARE[:HOME_COUNTRIES] / COUNTRY_SHARE[:HOME_COUNTRIES].sum()
    home = generator.choice(HOME_COUNTRIES, accounts, p=home_share).astype(np.int8)
    business = generator.random(accounts) < BUSINESS_SHARE
    level = generator.lognormal(0.0, 0.5, accounts) * np.where(business, BUSINESS_LEVEL, 1.0)
    rate = generator.lognormal(np.log(MEDIAN_RATE), RATE_SPREAD, accounts) * np.where(business, BUSINESS_RATE, 1.0)
    return Population(
        account_ids=tuple(f"acct-{number:07d}" for number in range(accounts)),
        merchant_ids=tuple(f"shop-{number:06d}" for number in generator.permutation(merchants).tolist()),
        home=home,
        level=level,
        spread=generator.uniform(0.25, 0.6, accounts),
        rate=rate,
        habit=generator.integers(0, HABITS, accounts).astype(np.int8),
        elsewhere=generator.beta(2.0, 14.0, accounts),
        abroad=generator.beta(1.0, 8.0, accounts),
        favourites=_favourites(generator, home, country, category),
        merchant_category=category,
        merchant_country=country,
        price=price,
        places=places,
        profiles=_profiles(generator),
    )


def _merchants(generator: np.random.Generator, count: int) -> tuple[Int8s, Int8s, Floats]:
    """country, category and price of each, sorted by country and category; every category is there."""
    share = np.array([category.share for category in CATEGORIES])
    category = generator.choice(len(CATEGORIES), count, p=share / share.sum())
    category[: len(CATEGORIES)] = np.arange(len(CATEGORIES))
    country = generator.choice(len(COUNTRIES), count, p=COUNTRY_SHARE / COUNTRY_SHARE.sum())
    order = np.lexsort((category, country))
    category, country = category[order], country[order]
    median = np.array([category.median for category in CATEGORIES])
    price = median[category] * generator.lognormal(0.0, 0.4, count)
    return country.astype(np.int8), category.astype(np.int8), price


def _favourites(
    generator: np.random.Generator, home: Int8s, merchant_country: Int8s, merchant_category: Int8s
) -> Int32s:
    """Merchants at home, of the categories that each account likes; where a country lacks one, from anywhere."""
    accounts = len(home)
    share = np.array([category.share for category in CATEGORIES])
    taste = np.cumsum(share * generator.gamma(1.0, 1.0, (accounts, len(CATEGORIES))), axis=1)
    chosen = generator.random((accounts, FAVOURITES)) * taste[:, -1:]
    wanted = (chosen[:, :, None] > taste[:, None, :-1]).sum(axis=2)
    group = merchant_country.astype(np.int64) * len(CATEGORIES) + merchant_category
    wanted_group = home[:, None] * np.int64(len(CATEGORIES)) + wanted
    first, stop = np.searchsorted(group, wanted_group), np.searchsorted(group, wanted_group, side="right")
    by_category = np.argsort(merchant_category, kind="stable")
    anywhere = merchant_category[by_category]
    first_any, stop_any = np.searchsorted(anywhere, wanted), np.searchsorted(anywhere, wanted, side="right")
    popular = generator.random((accounts, FAVOURITES)) ** 2  # the first of a group have more regulars
    at_home = first + np.floor(popular * (stop - first)).astype(np.int64)
    from_anywhere = by_category[first_any + np.floor(popular * (stop_any - first_any)).astype(np.int64)]
    favourites: Int32s = np.where(stop > first, at_home, from_anywhere).astype(np.int32)
    return favourites


def _profiles(generator: np.random.Generator) -> Floats:
    """A bell around a preferred hour over a small floor, wrapped around midnight; mean 1."""
    peak, width = generator.normal(14.5, 3.5, HABITS), generator.uniform(2.5, 5.0, HABITS)
    distance = np.abs(np.arange(24) + 0.5 - peak[:, None])
    distance = np.minimum(distance, 24 - distance)
    bell = np.exp(-0.5 * (distance / width[:, None]) ** 2) + 0.03
    profiles: npt.NDArray[np.float64] = bell / bell.mean(axis=1, keepdims=True)
    return profiles
