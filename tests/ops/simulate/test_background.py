"""Honest payments: where, when and how much people pay follows their habits."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.simulate.background import Habits, honest_payments
from ops.simulate.payments import ATM, HONEST, NO_MEMO, ONLINE, TRANSFER
from ops.simulate.population import CASH, ONLINE_SHARE, PAYEE, build_population

DAY = 86_400_000
START = 20_000 * DAY
people = build_population(2_000, 400, 5)
habits = Habits(people)
week = honest_payments(people, habits, np.random.default_rng(1), START, START + 7 * DAY, 100_000)


def usual_euros() -> npt.NDArray[np.float64]:
    return people.price[week.merchant] * people.level[week.account]


@settings(max_examples=50)
@given(st.integers(0, 3 * DAY), st.integers(1, 3 * DAY), st.integers(0, 300), st.integers(0, 2**32))
def test_exactly_as_many_as_asked_lie_within_the_span(offset: int, length: int, count: int, seed: int) -> None:
    start = START + offset
    made = honest_payments(people, habits, np.random.default_rng(seed), start, start + length, count)

    assert len(made) == count
    assert ((made.occurred_at >= start) & (made.occurred_at < start + length)).all()
    assert (made.cents > 0).all()


def test_they_are_honest() -> None:
    assert (week.scenario == HONEST).all()


def test_hours_of_the_day_follow_the_accounts_habits() -> None:
    hour = (week.occurred_at // 3_600_000) % 24
    share = np.bincount(hour, minlength=24) / len(week)

    assert share == pytest.approx(habits.by_hour / habits.by_hour.sum(), abs=0.005)
    assert share[2:5].sum() < 0.5 * share[12:15].sum()


def test_each_account_keeps_its_own_hours() -> None:
    for habit in range(3):
        rows = people.habit[week.account] == habit
        share = np.bincount((week.occurred_at[rows] // 3_600_000) % 24, minlength=24) / rows.sum()
        assert share == pytest.approx(people.profiles[habit] / 24, abs=0.012)


def test_busy_accounts_pay_more_often() -> None:
    counts = np.bincount(week.account, minlength=len(people.rate))
    busiest = np.argsort(people.rate)[-200:]

    expected = people.rate[busiest].sum() / people.rate.sum()
    assert counts[busiest].sum() / len(week) == pytest.approx(expected, rel=0.03)


def test_most_payments_go_to_favourites_and_the_first_favourite_leads() -> None:
    to_favourite = (people.favourites[week.account] == week.merchant[:, None]).any(axis=1)
    assert to_favourite.mean() == pytest.approx(1 - people.elsewhere[week.account].mean(), abs=0.03)
    first, last = ((people.favourites[week.account, place] == week.merchant).mean() for place in (0, 9))
    assert first > 2 * last


def test_few_of_the_other_payments_are_abroad() -> None:
    other = ~(people.favourites[week.account] == week.merchant[:, None]).any(axis=1)
    abroad = people.merchant_country[week.merchant[other]] != people.home[week.account[other]]
    assert 0.04 < abroad.mean() < 0.16


def test_amounts_are_around_what_the_account_spends_at_the_merchant() -> None:
    factor = week.cents / 100 / usual_euros()
    assert np.median(factor) == pytest.approx(1.0, abs=0.03)
    assert np.quantile(factor, 0.9) < 2.5


def test_one_in_a_hundred_is_a_large_purchase() -> None:
    deviation = np.log(week.cents / 100 / usual_euros()) / people.spread[week.account]
    card = people.merchant_category[week.merchant] != CASH

    beyond = (deviation[card] > 3.5).mean()  # a normal deviation exceeds this once in 4,300
    assert 0.003 < beyond < 0.01


def test_cash_comes_in_whole_notes_from_a_machine() -> None:
    cash = people.merchant_category[week.merchant] == CASH
    assert cash.any()
    assert (week.cents[cash] % 1_000 == 0).all()
    assert (week.channel[cash] == ATM).all()
    assert (week.channel[~cash] != ATM).all()


def test_transfers_and_nothing_else_carry_a_memo() -> None:
    transfer = people.merchant_category[week.merchant] == PAYEE
    assert transfer.any()
    assert ((week.channel == TRANSFER) == transfer).all()
    assert ((week.memo != NO_MEMO) == transfer).all()


def test_each_category_is_paid_online_as_often_as_it_says() -> None:
    for category, share in enumerate(ONLINE_SHARE):
        rows = people.merchant_category[week.merchant] == category
        assert (week.channel[rows] == ONLINE).mean() == pytest.approx(share, abs=0.03)
