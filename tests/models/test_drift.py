"""Drift: silent while traffic keeps its rhythm, found when a distribution or the level of scores moves."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.drift import (
    ALWAYS_MOVING,
    CHANGE_BOUND,
    LEAST_SAMPLED,
    STABILITY_BOUND,
    SUBJECTS,
    SampledInputs,
    level_changes,
    reference_bins,
    stability_index,
)
from models.feature_schema import FEATURES
from models.score_counts import HourCounts, count_scores
from tests.models.budget_traffic import FIRST_DAY, Traffic

AMOUNT = FEATURES.index("amount")
Sampled = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]


def sampled(seed: int, count: int = 200, amount: float = 0.0, score: float = 0.0) -> Sampled:
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(FEATURES))).astype(np.float32)
    features[:, AMOUNT] += amount
    features[:, FEATURES.index("new_country")] = random.random(count) < 0.03
    return features, 1 / (1 + np.exp(5 - score - random.normal(size=count)))


def after_a_day(hours: int = 24, **moved: Any) -> dict[str, float]:
    inputs = SampledInputs(reference_bins(*sampled(0, 20_000)))
    for hour in range(hours):
        inputs.add(hour, *sampled(hour + 1, **moved))
    return {found.subject: found.value for found in inputs.stability()}


def test_traffic_like_that_of_the_training_has_not_drifted() -> None:
    found = after_a_day()
    assert set(found) == set(SUBJECTS)
    assert not set(ALWAYS_MOVING) & set(found)
    assert max(found.values()) < 0.02


@pytest.mark.parametrize(("moved", "subject"), [({"amount": 1.0}, "amount"), ({"score": -1.0}, "score")])
def test_what_moved_has_drifted_and_nothing_else(moved: dict[str, float], subject: str) -> None:
    found = after_a_day(**moved)
    assert [name for name, value in found.items() if value > STABILITY_BOUND] == [subject]


def test_the_last_day_counts_and_a_late_event_of_an_older_one_does_not() -> None:
    inputs = SampledInputs(reference_bins(*sampled(0, 20_000)))
    for hour in range(24):
        inputs.add(hour, *sampled(hour, amount=3.0))
    for hour in range(24, 48):
        inputs.add(hour, *sampled(hour))
    inputs.add(3, *sampled(3, 9_999, amount=3.0))
    assert max(found.value for found in inputs.stability()) < 0.02


def test_nothing_is_said_before_a_day_was_sampled() -> None:
    assert after_a_day(hours=19) == {}
    assert after_a_day(count=LEAST_SAMPLED // 24) == {}
    assert SampledInputs({}).stability() == []


def test_a_reference_survives_json_and_knows_constants() -> None:
    features, scores = sampled(0)
    features[:, AMOUNT] = 7.0
    reference = reference_bins(features, scores)
    assert msgspec.json.decode(msgspec.json.encode(reference)) == reference
    assert reference["amount"] == {"edges": [7.0], "shares": [0.0, 1.0]}
    assert all(sum(bins["shares"]) == pytest.approx(1) for bins in reference.values())


counts = st.lists(st.integers(0, 1000), min_size=4, max_size=4).map(np.array)


@given(counts, counts)
def test_the_index_is_0_for_the_same_shares_and_never_below(reference: Any, live: Any) -> None:
    shares = reference / max(reference.sum(), 1)
    assert stability_index(shares, live) >= 0
    if reference.sum():
        assert stability_index(shares, 3 * reference) == pytest.approx(0, abs=1e-9)


def hours_of(days: int, shift: float = 0.0, at: float = 0.0, seed: int = 0) -> dict[int, HourCounts]:
    """Of scores that rise and fall every day by several deviations of an hour."""
    shifts = ((at, shift),) if shift else ()
    occurred_at, scores, _ = Traffic(days=days, swing=0.5, shifts=shifts, starts=0.0, seed=seed).events()
    no = np.zeros(len(scores), bool)
    return count_scores(occurred_at, scores, no, no)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_daily_and_a_weekly_rhythm_are_no_change(seed: int) -> None:
    hours = hours_of(16, seed=seed)
    for day in range(4, 17):
        known = {hour: counts for hour, counts in hours.items() if hour < (FIRST_DAY + day) * 24}
        assert [found.value for found in level_changes(known, 0.2) if found.drifted] == []


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_a_shift_of_all_scores_is_found_within_a_day_and_is_news_for_a_day(shift: float) -> None:
    hours = hours_of(16, shift, at=12.25)
    found = {}
    for day in (12, 13, 15):
        known = {hour: counts for hour, counts in hours.items() if hour < (FIRST_DAY + day) * 24}
        found[day] = {one.subject: one.value for one in level_changes(known, 0.05)}
    assert found[12]["score"] <= CHANGE_BOUND < found[13]["score"]
    assert found[15]["score"] <= CHANGE_BOUND


def test_a_rise_of_high_scores_alone_is_found() -> None:
    hours = hours_of(14)
    for hour in range((FIRST_DAY + 13) * 24 + 4, (FIRST_DAY + 14) * 24):
        if hour in hours:
            bins = hours[hour].bins
            bins[120:] *= 7
    found = {one.subject: one.drifted for one in level_changes(hours, 0.1)}
    assert found["alerts"]


def test_a_short_history_says_nothing() -> None:
    assert level_changes(hours_of(2), 0.2) == []
    assert level_changes({}, 0.2) == []
