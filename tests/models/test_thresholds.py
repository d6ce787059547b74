"""Thresholds by alert budget (never more than the budget, and as much of it as ties allow), by target precision (the
lowest that has it) and by extreme values (exceeded by about the share that was asked for)."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.score_counts import BINS, count_scores
from models.thresholds import (
    LEAST_ALERTING,
    extreme_value_threshold,
    threshold_for_budget,
    threshold_for_precision,
    thresholds_by_precision,
)

scores = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=60)


@given(scores, st.floats(0, 50), st.floats(0.001, 100))
def test_no_more_than_the_budgets_share_is_flagged(values: list[float], alerts: float, events: float) -> None:
    array = np.array(values)
    threshold = threshold_for_budget(array, alerts, events)
    assert (array >= threshold).sum() <= min(alerts / events, 1) * len(values)


@given(scores, st.floats(0, 50), st.floats(0.001, 100))
def test_what_is_left_below_would_not_have_fitted(values: list[float], alerts: float, events: float) -> None:
    array = np.array(values)
    threshold = threshold_for_budget(array, alerts, events)
    below = array[array < threshold]
    allowed = int(min(alerts / events, 1) * len(values))
    if len(below) and below.max() >= 1e-6:
        assert (array >= below.max()).sum() > allowed


@given(scores)
def test_an_event_about_which_nothing_speaks_never_alerts(values: list[float]) -> None:
    assert threshold_for_budget(np.array(values), alerts_per_day=1e9, events_per_day=1.0) > 0


def test_a_budget_for_3_of_10_takes_the_highest_3() -> None:
    values = np.linspace(0.1, 1.0, 10)
    assert threshold_for_budget(values, alerts_per_day=30, events_per_day=100) == values[7]


def test_ties_that_do_not_fit_stay_below() -> None:
    values = np.array([0.9, 0.8, 0.8, 0.8, 0.1])
    threshold = threshold_for_budget(values, alerts_per_day=2, events_per_day=5)
    assert (values >= threshold).tolist() == [True, False, False, False, False]


def test_no_budget_flags_nothing() -> None:
    values = np.array([0.2, 1.0])
    assert threshold_for_budget(values, alerts_per_day=0, events_per_day=100) > 1.0


labelled = st.lists(st.tuples(st.one_of(st.floats(0.001, 1), st.sampled_from([0.25, 0.5])), st.booleans()), max_size=80)


def at_or_above(some: list[tuple[float, bool]], threshold: float) -> list[bool]:
    return [fraud for score, fraud in some if score >= threshold]


@given(labelled, st.sampled_from([0.01, 0.3, 0.5, 0.77, 0.99]))
def test_the_threshold_for_a_precision_is_the_lowest_that_has_it(some: list[tuple[float, bool]], wanted: float) -> None:
    scores, frauds = np.array([score for score, _ in some]), np.array([fraud for _, fraud in some], bool)
    found = threshold_for_precision(thresholds_by_precision(scores, frauds), wanted)
    enough = [
        score
        for score in sorted(set(scores.tolist()))
        if frauds.any()
        and len(at_or_above(some, score)) >= LEAST_ALERTING
        and np.mean(at_or_above(some, score)) >= wanted
    ]
    assert found == (enough[0] if enough else None)


def tail(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    nothing = np.zeros(len(odds), bool)
    scores = 1 / (1 + np.exp(-odds))
    (counted,) = count_scores(np.zeros(len(odds), np.int64), scores, nothing, nothing).values()
    return counted.bins


TAILS: dict[str, Callable[[np.random.Generator, int], npt.NDArray[np.float64]]] = {
    "exponential": lambda random, n: random.exponential(1.0, n) - 6,
    "narrow": lambda random, n: random.exponential(0.4, n) - 6,
    "gamma": lambda random, n: random.gamma(2.0, 1.0, n) - 8,
    "logistic": lambda random, n: random.logistic(-5, 1, n),
}


@pytest.mark.parametrize("kind", TAILS)
@pytest.mark.parametrize("share", [1e-3, 1e-4])
def test_an_extreme_value_threshold_is_exceeded_by_about_its_share(kind: str, share: float) -> None:
    threshold = extreme_value_threshold(tail(TAILS[kind](np.random.default_rng(1), 200_000)), share)
    assert threshold is not None
    later = TAILS[kind](np.random.default_rng(2), 2_000_000)
    exceeded = float((1 / (1 + np.exp(-later)) >= threshold).mean())
    assert share / 2.5 <= exceeded <= share * 2.5


def test_an_extreme_value_threshold_reaches_beyond_all_that_was_seen() -> None:
    odds = np.random.default_rng(1).exponential(1.0, 100_000) - 6
    threshold = extreme_value_threshold(tail(odds), 1e-7)
    assert threshold is not None
    assert threshold > 1 / (1 + np.exp(-odds.max()))


def test_frauds_at_the_very_top_do_not_raise_an_extreme_value_threshold() -> None:
    ordinary = np.random.default_rng(1).exponential(1.0, 200_000) - 6
    without = extreme_value_threshold(tail(ordinary), 1e-4)
    frauds = np.concatenate([ordinary, np.full(180, 12.0)])
    among = extreme_value_threshold(tail(frauds), 1e-4)
    assert without is not None
    assert among is not None
    assert abs(np.log(among / (1 - among)) - np.log(without / (1 - without))) < 0.7


def test_few_events_say_nothing_of_extremes() -> None:
    assert extreme_value_threshold(tail(np.random.default_rng(1).normal(-6, 1, 5_000)), 1e-4) is None
    assert extreme_value_threshold(np.zeros(BINS, np.int64), 1e-4) is None
    assert extreme_value_threshold(tail(np.full(100_000, -3.0)), 1e-4) is None
