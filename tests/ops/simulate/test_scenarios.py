"""Fraud scenarios: each does what it says, for every seed, and none gives itself away by what nobody else does."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate.payments import ATM, CARD_PRESENT, MEMOS, ONLINE, TRANSFER, Payments
from ops.simulate.population import CASH, ONLINE_SHARE, PAYEE, build_population
from ops.simulate.scenarios import (
    DAY,
    REPORTING_LIMIT_CENTS,
    SCENARIO_NAMES,
    SCENARIOS,
    Episodes,
    Scenario,
    carry_out,
    chosen_scenarios,
    frauds_within,
    plan_episodes,
)

START = 20_000 * DAY
MINUTE = 60_000
people = build_population(2_000, 400, 5)

seeds = st.integers(0, 2**63)
for_every_seed = settings(max_examples=30)


def scenario(name: str) -> Scenario:
    return SCENARIOS[SCENARIO_NAMES.index(name)]


def episodes_of(name: str, seed: int, count: int = 20, time_scale: float = 1.0) -> list[Payments]:
    """The payments of each of `count` episodes."""
    generator = np.random.default_rng(seed)
    planned = plan_episodes(scenario(name), generator, count, time_scale)
    made = carry_out(scenario(name), people, generator, planned, np.full(count, START, np.int64))
    stops = np.cumsum(planned.size)
    return [
        made.take(slice(stop - size, stop)) for size, stop in zip(planned.size.tolist(), stops.tolist(), strict=True)
    ]


def all_of(name: str, seed: int = 1, episodes: int = 300) -> Payments:
    return Payments.concatenate(episodes_of(name, seed, episodes))


def times_usual(payments: Payments) -> npt.NDArray[np.float64]:
    """Amounts as a factor on what the account spends at that merchant."""
    return payments.cents / 100 / (people.price[payments.merchant] * people.level[payments.account])


@pytest.mark.parametrize("name", SCENARIO_NAMES)
@for_every_seed
@given(seed=seeds)
def test_an_episode_has_the_size_and_the_length_that_its_scenario_says(name: str, seed: int) -> None:
    for payments in episodes_of(name, seed):
        low, high = scenario(name).sizes
        assert low <= len(payments) <= high
        assert np.all(np.diff(payments.occurred_at) >= 0)
        assert payments.occurred_at[0] >= START
        assert payments.occurred_at[-1] <= START + scenario(name).days[1] * DAY
        assert (payments.scenario == SCENARIO_NAMES.index(name)).all()


@pytest.mark.parametrize("name", SCENARIO_NAMES)
@for_every_seed
@given(seed=seeds)
def test_no_payment_uses_a_channel_in_which_honest_people_never_pay_there(name: str, seed: int) -> None:
    for payments in episodes_of(name, seed):
        category = people.merchant_category[payments.merchant]
        assert ((payments.channel == ATM) == (category == CASH)).all()
        assert ((payments.channel == TRANSFER) == (category == PAYEE)).all()
        assert (ONLINE_SHARE[category[payments.channel == ONLINE]] > 0).all()
        assert (ONLINE_SHARE[category[payments.channel == CARD_PRESENT]] < 1).all()


@for_every_seed
@given(seed=seeds)
def test_a_large_amount_is_one_payment(seed: int) -> None:
    assert [len(payments) for payments in episodes_of("large_amounts", seed)] == [1] * 20


def test_large_amounts_are_3_to_20_times_the_usual() -> None:
    factor = times_usual(all_of("large_amounts", episodes=2_000))
    assert np.median(factor) == pytest.approx(np.sqrt(3 * 20), rel=0.1)
    assert np.quantile(factor, 0.02) > 1.5


@for_every_seed
@given(seed=seeds)
def test_a_compromised_merchant_charges_many_cards_at_one_place_for_weeks(seed: int) -> None:
    for payments in episodes_of("compromised_merchants", seed):
        assert len(set(payments.merchant)) == 1
        assert len(set(payments.account)) > len(payments) / 2
        assert people.merchant_category[payments.merchant[0]] != PAYEE
        assert payments.occurred_at[-1] - payments.occurred_at[0] > 4 * DAY


def test_compromised_cards_pay_1_to_5_times_the_usual() -> None:
    factor = times_usual(all_of("compromised_merchants"))
    assert np.median(factor) == pytest.approx(np.sqrt(5), rel=0.1)


@for_every_seed
@given(seed=seeds)
def test_stolen_credentials_are_used_for_days_at_many_places_of_one_country(seed: int) -> None:
    for payments in episodes_of("stolen_credentials", seed):
        assert len(set(payments.account)) == 1
        assert len(set(people.merchant_country[payments.merchant])) == 1


def test_stolen_credentials_multiply_amounts_mostly_online_and_away_from_favourites() -> None:
    payments = all_of("stolen_credentials")
    assert np.median(times_usual(payments)) == pytest.approx(3.0, rel=0.1)
    sells_online = ONLINE_SHARE[people.merchant_category[payments.merchant]] > 0
    assert (payments.channel[sells_online] == ONLINE).mean() > 0.6
    assert (people.favourites[payments.account] == payments.merchant[:, None]).any(axis=1).mean() < 0.1


@for_every_seed
@given(seed=seeds)
def test_structuring_stays_just_below_the_limit_and_goes_to_a_few_payees(seed: int) -> None:
    for payments in episodes_of("structuring", seed):
        assert len(set(payments.account)) == 1
        assert len(set(payments.merchant)) <= 3
        assert (payments.cents < REPORTING_LIMIT_CENTS).all()
        assert (payments.cents >= 0.8 * REPORTING_LIMIT_CENTS).all()
        assert payments.cents.sum() > REPORTING_LIMIT_CENTS
        assert (payments.channel == TRANSFER).all()
        assert all(MEMOS[memo] for memo in payments.memo)


@for_every_seed
@given(seed=seeds)
def test_card_testing_is_a_few_tiny_payments_then_a_large_one_within_an_hour(seed: int) -> None:
    for payments in episodes_of("card_testing", seed):
        assert len(set(payments.account)) == 1
        assert payments.occurred_at[-1] - payments.occurred_at[0] <= 60 * MINUTE
        assert (payments.cents[:-1] < 300).all()
        assert (payments.channel == ONLINE).all()


def test_the_last_of_card_testing_is_2_to_10_times_the_usual() -> None:
    last = Payments.concatenate([episode.take(slice(-1, None)) for episode in episodes_of("card_testing", 1, 500)])
    assert np.median(times_usual(last)) == pytest.approx(np.sqrt(20), rel=0.15)


@for_every_seed
@given(seed=seeds, scale=st.floats(1, 100_000))
def test_a_time_scale_squeezes_an_episode_and_nothing_else(seed: int, scale: float) -> None:
    for usual, squeezed in zip(
        episodes_of("stolen_credentials", seed),
        episodes_of("stolen_credentials", seed, time_scale=scale),
        strict=True,
    ):
        assert squeezed.cents.tolist() == usual.cents.tolist()
        offsets = (usual.occurred_at - START) / scale
        assert squeezed.occurred_at - START == pytest.approx(offsets, abs=2)


@pytest.mark.parametrize("chosen", SCENARIOS, ids=lambda each: each.name)
@for_every_seed
@given(seed=seeds, count=st.integers(0, 200), length=st.integers(1, 40 * DAY))
def test_a_history_gets_exactly_its_frauds_within_its_span(
    chosen: Scenario, seed: int, count: int, length: int
) -> None:
    made = frauds_within(chosen, people, np.random.default_rng(seed), START, START + length, count, 1.0)

    assert len(made) == count
    assert ((made.occurred_at >= START) & (made.occurred_at < START + length)).all()


def test_victims_are_the_busier_the_likelier() -> None:
    account = all_of("large_amounts", episodes=4_000).account
    busy = people.rate > np.median(people.rate)
    assert busy[account].mean() == pytest.approx(people.rate[busy].sum() / people.rate.sum(), abs=0.03)


def test_scenarios_are_chosen_by_name_in_one_order() -> None:
    assert [each.name for each in chosen_scenarios(["structuring", "large_amounts"])] == [
        "large_amounts",
        "structuring",
    ]


def test_the_page_tells_the_size_of_every_scenarios_episodes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "simulate.md").read_text()
    for each in SCENARIOS:
        low, high = each.sizes
        assert f"| `{each.name}` | {low if low == high else f'{low} to {high}'} |" in page


def test_no_episodes_are_no_payments() -> None:
    none = Episodes(np.zeros(0, np.int64), np.zeros(0, np.int64))
    for each in SCENARIOS:
        assert len(carry_out(each, people, np.random.default_rng(0), none, np.zeros(0, np.int64))) == 0
