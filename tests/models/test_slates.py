"""Slates: the draws follow the stated probabilities, and these are what enumerating every ordered slate gives."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import slate_race
from models.slate_race import MARGINAL_ERROR
from models.slates import (
    conditionals,
    draw_slates,
    floored_log_weights,
    marginals_and_means,
    picked_marginals,
    position_marginals,
    prefix_products,
)

log_weight = st.one_of(st.floats(-12, 6, width=32), st.just(-np.inf))
#: One slate's candidates and its size; some cannot be chosen, sometimes there are fewer than the slate has places.
cases = st.tuples(st.lists(log_weight, min_size=1, max_size=6), st.integers(1, 4))
Case = tuple[list[float], int]


def row(values: list[float]) -> Any:
    return np.array([values], np.float32)


def every_slate(log_weights: Any, size: int) -> dict[tuple[int, ...], float]:
    """The definition, in plain numbers: the probability of each ordered slate."""
    weights = [float(np.exp(np.float64(one))) for one in log_weights]
    possible = [number for number, weight in enumerate(weights) if weight > 0]
    found = {}
    for slate in permutations(possible, min(size, len(possible))):
        probability = 1.0
        for position, item in enumerate(slate):
            probability *= weights[item] / sum(weights[one] for one in possible if one not in slate[:position])
        found[slate] = probability
    return found


def enumerated_marginals(log_weights: Any, size: int) -> Any:
    marginals = np.zeros((len(log_weights), size))
    for slate, probability in every_slate(log_weights, size).items():
        for position, item in enumerate(slate):
            marginals[item, position] += probability
    return marginals


def padded(slate: tuple[int, ...], size: int) -> Any:
    return np.array([[*slate, *[-1] * (size - len(slate))]], np.int16)


@given(cases)
def test_prefix_products_of_conditionals_are_the_probability_of_the_enumerated_slate(case: Case) -> None:
    values, size = case
    for slate, probability in every_slate(row(values)[0], size).items():
        conditional = conditionals(row(values), padded(slate, size))
        shown = len(slate)
        assert np.isnan(conditional[0, shown:]).all()
        if shown:
            assert prefix_products(conditional)[0, shown - 1] == pytest.approx(probability, rel=1e-9)


@given(cases)
def test_marginals_are_what_enumerating_every_slate_gives(case: Case) -> None:
    values, size = case
    found = position_marginals(row(values), size)
    assert found[0] == pytest.approx(enumerated_marginals(row(values)[0], size), abs=1e-12)


@settings(deadline=None)
@given(cases)
def test_integrated_marginals_are_within_their_stated_error(case: Case) -> None:
    values, size = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slate_race, "MOST_SETS", -1)
        found = position_marginals(row(values), size)
    assert found[0] == pytest.approx(enumerated_marginals(row(values)[0], size), abs=MARGINAL_ERROR)


@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0, 40.0])
def test_integration_agrees_with_sums_over_sets_on_more_candidates(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(4)
    log_weights = (spread * draw.normal(size=(30, 11))).astype(np.float32)
    log_weights[draw.random(log_weights.shape) < 0.1] = -np.inf
    monkeypatch.setattr(slate_race, "MOST_SETS", 10_000)
    exact = position_marginals(log_weights, 5)
    monkeypatch.setattr(slate_race, "MOST_SETS", 0)
    integrated = position_marginals(log_weights, 5)
    assert np.abs(exact - integrated).max() < MARGINAL_ERROR
    assert not np.array_equal(exact, integrated)  # they are two computations


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 6), st.sampled_from([0.0, 0.01, 0.05, 1.0]))
def test_marginals_of_live_slates_sum_to_one_at_each_position_and_respect_the_mask(
    seed: int, spread: float, floor: float
) -> None:
    draw = np.random.default_rng(seed)
    allowed = draw.random((8, 64)) < 0.5
    allowed[0] = np.arange(64) < 4  # fewer than the slate has places
    log_weights = floored_log_weights(spread * draw.normal(size=(8, 64)), allowed, floor)
    marginals = position_marginals(log_weights, 6)
    assert marginals.min() >= 0
    assert marginals.sum(axis=2).max() <= 1 + 64 * MARGINAL_ERROR
    sums = np.ones((8, 6))
    sums[0, 4:] = 0
    assert marginals.sum(axis=1) == pytest.approx(sums, abs=64 * MARGINAL_ERROR)
    assert (marginals[~allowed] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([5, 64]), st.integers(1, 6), st.sampled_from([0.4, 0.95]))
def test_marginals_of_the_picks_are_those_of_all_candidates(
    seed: int, candidates: int, size: int, forbidden: float
) -> None:
    draw = np.random.default_rng(seed)
    log_weights = (2 * draw.normal(size=(12, candidates))).astype(np.float32)
    log_weights[draw.random(log_weights.shape) < forbidden] = -np.inf
    picks = draw_slates(log_weights, draw.random(log_weights.shape), size)
    every = position_marginals(log_weights, size)
    own = picked_marginals(log_weights, picks)
    for number, slate in enumerate(picks):
        for position, pick in enumerate(slate):
            if pick < 0:
                assert np.isnan(own[number, position])
            else:
                assert own[number, position] == pytest.approx(every[number, pick, position], abs=2 * MARGINAL_ERROR)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([5, 64]), st.integers(1, 6), st.sampled_from([0.0, 0.5, 0.95]))
def test_means_at_positions_are_the_candidates_values_weighted_by_their_marginals(
    seed: int, candidates: int, size: int, forbidden: float
) -> None:
    draw = np.random.default_rng(seed)
    log_weights = (2 * draw.normal(size=(12, candidates))).astype(np.float32)
    log_weights[draw.random(log_weights.shape) < forbidden] = -np.inf
    picks = draw_slates(log_weights, draw.random(log_weights.shape), size)
    values = draw.normal(1.0, 1.0, log_weights.shape)
    marginals, means = marginals_and_means(log_weights, picks, values)
    expected = (position_marginals(log_weights, size) * values[:, :, None]).sum(axis=1)
    assert means == pytest.approx(expected, abs=200 * MARGINAL_ERROR)
    assert marginals == pytest.approx(picked_marginals(log_weights, picks), nan_ok=True)


def test_empty_positions_say_nothing_about_the_last_candidate() -> None:
    log_weights = np.full((1, 64), -np.inf)
    log_weights[0, [3, 9, 63]] = 0.0, 1.0, 2.0
    picks = np.array([[9, 63, 3, -1, -1, -1]], np.int16)
    every = position_marginals(log_weights, 6)[0]
    expected = [every[9, 0], every[63, 1], every[3, 2], np.nan, np.nan, np.nan]
    assert picked_marginals(log_weights, picks)[0] == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(-3, 2, width=32), min_size=2, max_size=4), st.integers(1, 3), st.integers(0, 1_000))
def test_draws_follow_the_probabilities_of_the_enumerated_slates(values: list[float], size: int, seed: int) -> None:
    count = 20_000
    log_weights = np.repeat(row(values), count, axis=0)
    picks = draw_slates(log_weights, np.random.default_rng(seed).random(log_weights.shape), size)
    shown = min(size, len(values))
    drawn, times = np.unique(picks[:, :shown], axis=0, return_counts=True)
    frequency = {tuple(slate): number / count for slate, number in zip(drawn.tolist(), times.tolist(), strict=True)}
    expected = every_slate(row(values)[0], size)
    assert set(frequency) <= set(expected)
    for slate, probability in expected.items():
        error = 5.5 * np.sqrt(probability * (1 - probability) / count) + 5 / count
        assert abs(frequency.get(slate, 0.0) - probability) < error


@given(cases, st.integers(0, 10_000))
def test_a_slate_shows_only_what_may_be_chosen_never_twice_and_as_much_as_there_is(case: Case, seed: int) -> None:
    values, size = case
    picks = draw_slates(row(values), np.random.default_rng(seed).random((1, len(values))), size)[0]
    possible = np.flatnonzero(np.isfinite(values))
    shown = picks[picks >= 0]
    assert len(shown) == len(set(shown.tolist())) == min(size, len(possible))
    assert set(shown.tolist()) <= set(possible.tolist())
    assert (picks[len(shown) :] == -1).all()


@pytest.mark.parametrize("number", [0.0, 1.0])
def test_numbers_at_the_ends_of_the_interval_neither_forbid_nor_force_what_cannot_be_chosen(number: float) -> None:
    picks = draw_slates(row([0.0, -np.inf, 0.0]), np.full((1, 3), number), 3)
    assert sorted(picks[0].tolist()) == [-1, 0, 2]


@given(
    st.lists(st.tuples(st.floats(-20, 20), st.booleans()), min_size=1, max_size=8),
    st.floats(0, 1),
    st.floats(-500, 500),
)
def test_floored_weights_are_the_stated_mixture_over_what_is_allowed(
    candidates: list[tuple[float, bool]], floor: float, shift: float
) -> None:
    log_p, allowed = np.array([[c[0] for c in candidates]]), np.array([[c[1] for c in candidates]])
    weights = np.exp(floored_log_weights(log_p + shift, allowed, floor).astype(np.float64))
    p = np.where(allowed, np.exp(log_p), 0)
    if not allowed.any():
        assert (weights == 0).all()
        return
    expected = (1 - floor) * p / p.sum() + floor * allowed / allowed.sum()
    assert weights == pytest.approx(expected, rel=1e-4, abs=1e-30)


def test_a_policy_that_gives_nothing_allowed_a_chance_is_uniform_over_it() -> None:
    log_weights = floored_log_weights(row([-np.inf, -np.inf, 3.0]), np.array([[True, True, False]]), 0.0)
    assert np.exp(log_weights) == pytest.approx(np.array([[0.5, 0.5, 0.0]]))


@pytest.mark.parametrize(("log_p", "floor"), [(np.nan, 0.1), (np.inf, 0.1), (0.0, -0.1), (0.0, 1.1)])
def test_broken_probabilities_and_floors_are_refused(log_p: float, floor: float) -> None:
    with pytest.raises(ValueError, match=r"floor|log-probability"):
        floored_log_weights(np.array([[0.0, log_p]]), np.ones((1, 2), bool), floor)
    assert np.isfinite(floored_log_weights(np.array([[0.0, np.nan]]), np.array([[True, False]]), 0.1)[0, 0])


def test_a_pick_that_other_weights_would_never_make_has_probability_zero_under_them() -> None:
    picks = np.array([[1, 0, 2]], np.int16)
    assert conditionals(row([0.0, -np.inf, 0.0]), picks)[0].tolist() == [0.0, 0.5, 1.0]
    assert conditionals(row([-np.inf, -np.inf, -np.inf]), picks)[0].tolist() == [0.0, 0.0, 0.0]
    assert picked_marginals(row([0.0, -np.inf, 0.0]), picks)[0].tolist() == pytest.approx([0.0, 0.5, 0.0])


def test_conditionals_stay_exact_where_the_picks_above_had_nearly_all_the_weight() -> None:
    picks = np.array([[0, 1, 2]], np.int16)
    found = conditionals(np.array([[0.0, -60.0, -60.0, -60.0]]), picks)
    assert found[0] == pytest.approx([1.0, 1 / 3, 1 / 2])


def test_without_candidates_there_is_an_empty_slate() -> None:
    nothing = np.zeros((3, 0), np.float32)
    log_weights = floored_log_weights(nothing, np.zeros((3, 0), bool), 0.05)
    picks = draw_slates(log_weights, np.zeros((3, 0)), 2)
    assert (picks == -1).all()
    assert np.isnan(conditionals(log_weights, picks)).all()
    assert position_marginals(log_weights, 2).shape == (3, 0, 2)
    assert np.isnan(picked_marginals(log_weights, picks)).all()
