"""Weights in eight bits: each row of a matrix as whole numbers from -127 to 127 and one scale.

They take a quarter of the room in a model's file and are 32-bit numbers again once read, so that a network of them runs
as any other. Products of whole numbers would gain a small network nothing, and would need a second kernel for sequences
that gives the same answers (docs/compression.md has the figures).

Scales have 16 significant bits. Times a whole number of 7 bits that is exact in a 32-bit number, so that what was
rounded once is rounded to itself again: a file read and written is the same file.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

LARGEST = 127
SCALE = ".scale"
SCALE_BITS = 16
#: A row without a larger weight is taken for zeros.
LEAST_WEIGHT = 1e-30


def to_eight_bits(weight_RC: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [R, C] and the scale of each row [R]."""
    largest_R = weight_RC.abs().amax(1)
    scale_R = _rounded_up(torch.where(largest_R > LEAST_WEIGHT, largest_R, torch.ones_like(largest_R)) / LARGEST)
    return (weight_RC / scale_R[:, None]).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale_R


def from_eight_bits(whole_RC: Tensor, scale_R: Tensor) -> Tensor:
    return whole_RC.float() * scale_R[:, None]


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in eight bits, each with its scales beside it; all else as it is."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.dim() == 2:
            found[name], found[name + SCALE] = to_eight_bits(value)
        else:
            found[name] = value
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` took. Of anything else what does not fit together stays as it is."""
    found = dict(tensors)
    for name, whole in tensors.items():
        scale = tensors.get(name + SCALE)
        if whole.dtype != torch.int8 or whole.dim() != 2 or scale is None or scale.shape != whole.shape[:1]:
            continue
        found[name] = from_eight_bits(whole, found.pop(name + SCALE))
    return found


def _rounded_up(value: Tensor) -> Tensor:
    """Positive numbers to the next of SCALE_BITS significant bits."""
    mantissa, exponent = torch.frexp(value)
    return torch.ldexp(torch.ceil(torch.ldexp(mantissa, torch.tensor(SCALE_BITS))), exponent - SCALE_BITS)
