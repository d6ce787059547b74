"""Numbers by chance: the same for a seed anywhere, and spread as they should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.chance import gumbel, uniforms

LARGEST = 2**64 - 1


def test_the_numbers_of_a_seed_are_those_of_splitmix64_for_ever() -> None:
    """The first numbers of Vigna's reference with the seed 1234567."""
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    expected = [(number >> 11) / 2**53 for number in reference]
    assert uniforms(np.array([1234567], np.uint64), 4)[0].tolist() == expected


@given(st.lists(st.sampled_from([0, 1, LARGEST, 2**63]), max_size=4), st.integers(0, 9))
def test_numbers_lie_in_the_unit_interval_and_depend_on_their_own_seed_only(seeds: list[int], count: int) -> None:
    found = uniforms(np.array(seeds, np.uint64), count)
    assert found.shape == (len(seeds), count)
    assert ((found >= 0) & (found < 1)).all()
    for seed, row in zip(seeds, found, strict=True):
        assert np.array_equal(row, uniforms(np.array([seed], np.uint64), count + 3)[0, :count])


@pytest.mark.parametrize("seeds", [np.arange(3_000), np.arange(3_000) * 2**40])
def test_numbers_of_neighbouring_seeds_are_even_and_do_not_follow_each_other(seeds: np.ndarray) -> None:
    found = uniforms(seeds.astype(np.uint64), 6)
    counts = np.histogram(found, 20, (0, 1))[0]
    assert ((counts - found.size / 20) ** 2 / (found.size / 20)).sum() < 50  # chi square, 19 degrees: p about .0001
    together = np.corrcoef(np.concatenate([found.T, np.roll(found, 1, 0).T]))
    assert np.abs(together - np.eye(12)).max() < 5 / np.sqrt(3_000)


def test_gumbel_numbers_are_finite_at_the_ends_and_have_their_mean_and_variance() -> None:
    assert np.isfinite(gumbel(np.array([0.0, 1 - 2.0**-53, 0.5]))).all()
    found = gumbel(uniforms(np.arange(20_000, dtype=np.uint64), 1))
    assert found.mean() == pytest.approx(0.5772, abs=0.04)
    assert found.var() == pytest.approx(np.pi**2 / 6, abs=0.1)
