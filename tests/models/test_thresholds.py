"""The threshold by alert budget: never more than the budget, and as much of it as ties allow."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.thresholds import threshold_for_budget

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
