"""One GRU over the events of many entities at once: a step each, or waves of steps where entities have several.

The GRU is that of Cho et al. (2014) as torch implements it. Shape suffixes: B events, A entities, X inputs, H hidden
units.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

#: Waves of fewer rows cost more as steps of their own than in the sequence kernel.
NARROW_WAVE = 16


def gru_step(gru: nn.GRU, x_BX: Tensor, h_BH: Tensor) -> Tensor:
    """The state after one event each."""
    weights: Any = gru
    return torch.gru_cell(
        x_BX, h_BH, weights.weight_ih_l0, weights.weight_hh_l0, weights.bias_ih_l0, weights.bias_hh_l0
    )


def gru_steps(gru: nn.GRU, x_BX: Tensor, wave_sizes: list[int], h_AH: Tensor) -> Tensor:
    """The states after each of B events of A entities, [B, H].

    Events in waves: wave k holds the k-th event of each entity that has one, entities in the same order, those with
    the most events first; wave_sizes: events of each wave; h_AH: states before. Wide waves are a cell step each; what
    is left once they are narrow (a hot key) is a packed sequence for torch's kernel.
    """
    after, at, wave = [], 0, 0
    while wave < len(wave_sizes) and wave_sizes[wave] >= NARROW_WAVE:
        stop = at + wave_sizes[wave]
        h_AH = gru_step(gru, x_BX[at:stop], h_AH[: wave_sizes[wave]])
        after.append(h_AH)
        at, wave = stop, wave + 1
    if wave < len(wave_sizes):
        rest = PackedSequence(x_BX[at:], torch.tensor(wave_sizes[wave:]))
        packed, _ = gru(rest, h_AH[None, : wave_sizes[wave]].contiguous())
        after.append(packed.data)
    return torch.cat(after)
