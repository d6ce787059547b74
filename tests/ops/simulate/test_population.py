"""The population: the same for a seed, consistent in itself, of plausible habits."""

from dataclasses import fields

import numpy as np
import pytest

from ops.simulate.population import (
    CATEGORIES,
    COUNTRIES,
    FAVOURITES,
    HOME_COUNTRIES,
    Population,
    build_population,
)

ACCOUNTS, MERCHANTS = 5_000, 800
people = build_population(ACCOUNTS, MERCHANTS, 3)


def same(first: Population, second: Population) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Population))


def test_the_same_seed_gives_the_same_population() -> None:
    build = build_population.__wrapped__  # without what it remembers
    assert same(build(200, 50, 1), build(200, 50, 1))


def test_another_seed_gives_another_population() -> None:
    assert not same(build_population(200, 50, 1), build_population(200, 50, 2))


def test_ids_are_unique() -> None:
    assert len(set(people.account_ids)) == ACCOUNTS
    assert len(set(people.merchant_ids)) == MERCHANTS


def test_a_merchants_id_tells_neither_its_category_nor_its_country() -> None:
    number = [int(name.removeprefix("shop-")) for name in people.merchant_ids]
    assert abs(np.corrcoef(number, people.merchant_country)[0, 1]) < 0.1


def test_merchants_are_sorted_by_country_and_places_says_where_each_begins() -> None:
    for country in range(len(COUNTRIES)):
        inside = people.merchant_country[people.places[country] : people.places[country + 1]]
        assert (inside == country).all()
    assert people.places[-1] == MERCHANTS


@pytest.mark.parametrize("seed", range(5))
def test_even_the_smallest_population_has_every_category(seed: int) -> None:
    smallest = build_population(1, len(CATEGORIES), seed)

    assert set(smallest.merchant_category) == set(range(len(CATEGORIES)))
    assert smallest.favourites.shape == (1, FAVOURITES)


def test_favourites_are_mostly_at_home() -> None:
    at_home = people.merchant_country[people.favourites] == people.home[:, None]
    assert at_home.mean() > 0.9
    assert people.home.max() < HOME_COUNTRIES


def test_accounts_differ_in_rate_and_level() -> None:
    assert people.payments_a_day / ACCOUNTS == pytest.approx(1.6, abs=0.15)
    assert np.quantile(people.rate, 0.95) > 5 * np.quantile(people.rate, 0.05)
    assert np.median(people.level) == pytest.approx(1.0, abs=0.1)


def test_habits_have_a_mean_intensity_of_one_and_quiet_nights() -> None:
    assert people.profiles.mean(axis=1) == pytest.approx(np.ones(len(people.profiles)))
    by_hour = people.profiles.mean(axis=0)
    assert by_hour[2:5].max() < 0.5 * by_hour[11:17].min()
