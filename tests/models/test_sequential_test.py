"""Bounds over repeated looks: how often they fail, by simulation, and what challengers may spend."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sequential_test import one_sided_width, share_of_error

LOOKS = np.arange(100, 20_001, 100)


def ever_too_high(error: float, tightest_at: int) -> tuple[float, float]:
    """Shares of sequences whose lower bound was ever above the true mean: of the sequence, of the interval for one
    look."""
    draw = np.random.default_rng(5)
    sums = np.cumsum(draw.normal(0, 10, (1_000, len(LOOKS))), axis=1)  # 100 values of variance 1 between two looks
    means, errors = sums / LOOKS, 1 / np.sqrt(LOOKS)
    widths = np.array(
        [one_sided_width(float(one), int(count), error, tightest_at) for one, count in zip(errors, LOOKS, strict=True)]
    )
    single = NormalDist().inv_cdf(1 - error) * errors
    return float((means > widths).any(axis=1).mean()), float((means > single).any(axis=1).mean())


@pytest.mark.parametrize("tightest_at", [500, 10_000])
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_over_two_hundred_looks_the_bound_fails_no_more_often_than_it_says(error: float, tightest_at: int) -> None:
    sequence, single_look = ever_too_high(error, tightest_at)
    assert 0.1 * error < sequence < error + 0.01
    assert single_look > 3 * error  # what is bought with the wider bound


@given(st.floats(0.001, 0.3), st.integers(1, 10**6))
def test_bounds_are_wider_than_for_one_look_and_tightest_about_where_they_should_be(error: float, at: int) -> None:
    single = NormalDist().inv_cdf(1 - error)
    width = one_sided_width(1.0, at, error, at)
    assert width > single
    assert width < 1.25 * min(one_sided_width(1.0, at, error, other) for other in range(1, 4 * at, max(1, at // 4)))
    assert one_sided_width(2.0, at, error, at) == pytest.approx(2 * width)
    assert one_sided_width(1.0, at, error / 2, at) > width


def test_all_challengers_together_spend_no_more_than_the_whole_error() -> None:
    shares = [share_of_error(0.05, number) for number in range(1, 10_001)]
    assert sum(shares) == pytest.approx(0.05, rel=1e-3)
    assert sum(shares) < 0.05
    assert shares == sorted(shares, reverse=True)
    with pytest.raises(ValueError, match="numbered from 1"):
        share_of_error(0.05, 0)


@pytest.mark.parametrize(("count", "error", "at"), [(0, 0.05, 10), (10, 0.5, 10), (10, 0.0, 10), (10, 0.05, 0)])
def test_a_bound_that_cannot_be_is_refused(count: int, error: float, at: int) -> None:
    with pytest.raises(ValueError, match="no bound"):
        one_sided_width(1.0, count, error, at)
