"""Matrices in eight bits: near what they were, and rounded to themselves from then on."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.eight_bit import LARGEST, SCALE, from_eight_bits, packed, to_eight_bits, unpacked


@st.composite
def matrices(draw: st.DrawFn) -> Tensor:
    """Rows of every size, and some of zeros."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    powers = draw(st.lists(st.integers(-25, 25), min_size=rows, max_size=rows))
    sizes = torch.tensor([10.0**power for power in powers])
    sizes[draw(st.lists(st.integers(0, rows - 1), max_size=2))] = 0.0
    return torch.randn(rows, columns, generator=generator) * sizes[:, None]


@given(matrices())
def test_no_weight_moves_by_more_than_half_a_step_of_its_row(weight: Tensor) -> None:
    whole, scale = to_eight_bits(weight)
    assert whole.dtype == torch.int8
    step = weight.abs().amax(1, keepdim=True) / LARGEST
    assert ((from_eight_bits(whole, scale) - weight).abs() <= 0.501 * step).all()


@given(matrices())
def test_what_was_rounded_once_is_rounded_to_itself(weight: Tensor) -> None:
    whole, scale = to_eight_bits(weight)
    rounded = from_eight_bits(whole, scale)
    again, same_scale = to_eight_bits(rounded)
    assert torch.equal(again, whole)
    assert torch.equal(from_eight_bits(again, same_scale), rounded)


def test_matrices_alone_are_packed_and_all_names_come_back() -> None:
    weights = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3), "b": torch.randn(2, 2, 2)}
    kept = packed(weights)
    assert set(kept) == {*weights, f"a.weight{SCALE}"}
    found = unpacked(kept)
    assert torch.equal(found["a.weight"], from_eight_bits(*to_eight_bits(weights["a.weight"])))
    assert all(found[name] is weights[name] for name in ("a.bias", "b"))
    assert set(found) == set(weights)


def test_whole_numbers_without_fitting_scales_stay_as_they_are() -> None:
    whole = torch.ones(2, 3, dtype=torch.int8)
    for scale in (None, torch.ones(3), torch.ones(2, 1)):
        tensors = {"a": whole} if scale is None else {"a": whole, f"a{SCALE}": scale}
        assert unpacked(tensors)["a"] is whole
