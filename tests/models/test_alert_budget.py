"""The live threshold: after the first week, alerts within 5 % of the budget in each week and within three times its
root on each day, whatever the rhythm, a shift of all scores or a new model does."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.alert_budget import AlertBudget, budget_threshold
from models.score_counts import ScoreHistory, count_scores
from tests.models.budget_traffic import DAY, FIRST_DAY, Traffic, alerts_by_day

BUDGET = 100
#: Exceeded by about 100 events a day where nothing shifts.
FITTING = 1 / (1 + math.exp(6 - math.log(80)))
#: Tenfold more events on a Wednesday afternoon; below the old level from the next week on; a new model that alerts
#: four times as often.
SHIFTS = ((10.6, 2.3), (16.3, -3.0))
MODELS = ((0.0, "fraud:1", FITTING), (23.4, "fraud:2", 1 / (1 + math.exp(6 - math.log(20)))))


def worst_day(by_day: npt.NDArray[np.int64], budget: float) -> float:
    """After the first week, in roots of the budget."""
    return float(np.abs(by_day[7:] - budget).max() / math.sqrt(budget))


def worst_week(by_day: npt.NDArray[np.int64], budget: float) -> float:
    """Of any seven days after the first week, as a share of the budget."""
    return float(np.abs(np.convolve(by_day[7:], np.ones(7) / 7, "valid") / budget - 1).max())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_alerts_keep_to_the_budget_through_rhythm_shifts_and_a_new_model(seed: int) -> None:
    by_day = alerts_by_day(Traffic(shifts=SHIFTS, seed=seed), AlertBudget(BUDGET), models=MODELS)
    assert worst_day(by_day, BUDGET) <= 3
    assert worst_week(by_day, BUDGET) <= 0.05


def test_scores_that_fall_below_all_that_was_seen_cost_no_day_its_alerts() -> None:
    by_day = alerts_by_day(Traffic(days=21, shifts=((12.6, -6.0),)), AlertBudget(BUDGET), models=MODELS[:1])
    assert worst_day(by_day, BUDGET) <= 3
    assert worst_week(by_day, BUDGET) <= 0.05


def test_a_daily_rhythm_of_the_scores_is_left_to_them() -> None:
    by_day = alerts_by_day(Traffic(days=21, swing=1.0), AlertBudget(BUDGET), models=MODELS[:1])
    assert worst_day(by_day, BUDGET) <= 3
    assert worst_week(by_day, BUDGET) <= 0.05


def test_the_same_traffic_breaks_both_bounds_where_thresholds_stay() -> None:
    by_day = alerts_by_day(Traffic(shifts=SHIFTS), AlertBudget(BUDGET), adaptive=False, models=MODELS)
    assert worst_day(by_day, BUDGET) > 3
    assert worst_week(by_day, BUDGET) > 0.05


@pytest.mark.parametrize("budget", [20, 300])
def test_a_model_that_was_registered_for_another_budget_meets_this_one(budget: int) -> None:
    by_day = alerts_by_day(Traffic(days=21), AlertBudget(budget), models=((0.0, "fraud:1", FITTING),))
    assert worst_day(by_day, budget) <= 3
    assert worst_week(by_day, budget) <= 0.05


def threshold_after_a_day_with(opened: int, flagged: int) -> float:
    """For a budget of 20: the second day is over, and 1,000 ordinary events came on it and on the one before."""
    history = ScoreHistory()
    begin, no = FIRST_DAY * DAY, np.zeros(2_000, np.bool_)
    times = np.linspace(begin, begin + 2 * DAY - 1, 2_000).astype(np.int64)
    scores = 1 / (1 + np.exp(6 - np.random.default_rng(0).exponential(1.0, 2_000)))
    history.add("fraud:1", count_scores(times, scores, no, no))
    day = history.models["fraud:1"][(begin + DAY + DAY // 2) // 3_600_000]
    day.opened, day.flagged = opened, flagged
    return budget_threshold(history, "fraud:1", 0.5, 20, begin + 2 * DAY)


def test_what_a_day_had_too_many_or_too_few_is_made_good_at_a_bounded_rate() -> None:
    few, fitting, more, many, most = (threshold_after_a_day_with(count, count) for count in (16, 20, 24, 32, 900))
    assert few < fitting < more < many == most < 1


def test_where_events_fold_more_of_them_are_flagged() -> None:
    assert threshold_after_a_day_with(opened=20, flagged=100) < threshold_after_a_day_with(opened=20, flagged=20)


def test_a_new_model_alerts_by_its_own_threshold_until_its_scores_are_known() -> None:
    assert budget_threshold(ScoreHistory(), "fraud:1", 0.7, 20, FIRST_DAY * DAY) == pytest.approx(0.7)


def test_without_a_budget_nothing_alerts() -> None:
    assert budget_threshold(ScoreHistory(), "fraud:1", 0.7, 0, FIRST_DAY * DAY) > 1.0


def test_a_budget_above_the_traffic_alerts_on_nearly_all_and_never_at_nothing() -> None:
    budget = AlertBudget(1e6)
    budget.use_model("fraud:1", 0.5)
    times = np.linspace(FIRST_DAY * DAY, (FIRST_DAY + 2) * DAY, 2_000).astype(np.int64)
    no = np.zeros(2_000, np.bool_)
    budget.observe(times, np.linspace(0, 1, 2_000), no, no)
    assert 0 < budget.threshold((FIRST_DAY + 2) * DAY) < 0.01


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40 * DAY), st.booleans(), st.booleans()), min_size=1, max_size=200
    ),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.integers(0, 41 * DAY),
)
@example([(0.0, 0, True, True)], 0.0, 5e-324, 0)
@settings(max_examples=60)
def test_whatever_was_counted_a_threshold_is_above_0_and_a_number(
    events: list[tuple[float, int, bool, bool]], own: float, alerts_per_day: float, time: int
) -> None:
    scores, times, flagged, opened = (np.array(column) for column in zip(*events, strict=True))
    history = ScoreHistory()
    history.add("fraud:1", count_scores(times, scores, flagged, flagged & opened))
    threshold = budget_threshold(history, "fraud:1", own, alerts_per_day, time)
    assert 0 < threshold <= np.nextafter(1.0, 2.0)
