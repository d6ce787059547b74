"""One GRU over the events of many entities at once: a step each, or waves of steps where entities have several.

Wave k holds the k-th event of each entity in the batch, the busiest entities first. That is the layout of a packed
sequence, so one call of torch's kernel takes a uniform batch as well as a hot key.

The GRU is that of Cho et al. (2014) as torch implements it. Shape suffixes: B events, A entities, X inputs, H hidden
units.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from models.runs import Runs

#: Waves of fewer rows cost more as steps of their own than in the sequence kernel.
NARROW_WAVE = 16
#: Rows whose gates stay in a processor's cache: a step of 8,192 rows as one takes three times as long.
CACHED_ROWS = 512


def gru_step(gru: nn.GRU, x_BX: Tensor, h_BH: Tensor) -> Tensor:
    """The state after one event each."""
    weights: Any = gru
    whole = x_BX.device.type != "cpu" or len(x_BX) <= CACHED_ROWS
    blocks = (
        [(x_BX, h_BH)] if whole else zip(torch.split(x_BX, CACHED_ROWS), torch.split(h_BH, CACHED_ROWS), strict=True)
    )
    after = [
        torch.gru_cell(x, h, weights.weight_ih_l0, weights.weight_hh_l0, weights.bias_ih_l0, weights.bias_hh_l0)
        for x, h in blocks
    ]
    return after[0] if whole else torch.cat(after)


def gru_steps(gru: nn.GRU, x_BX: Tensor, wave_sizes: list[int], h_AH: Tensor) -> Tensor:
    """The states after each of B events of A entities, [B, H].

    Events in waves: wave k holds the k-th event of each entity that has one, entities in the same order, those with
    the most events first; wave_sizes: events of each wave; h_AH: states before. Wide waves are a cell step each; what
    is left once they are narrow (a hot key) is a packed sequence for torch's kernel.
    """
    if len(wave_sizes) == 1:
        return gru_step(gru, x_BX, h_AH)
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


def states_after(
    steps: Callable[[Tensor, list[int], Tensor], Tensor], x_BX: Tensor, runs: Runs, start_AH: Tensor
) -> Tensor:
    """The states [B, H] after each of B sorted rows, from the state that each run starts with. steps: as gru_steps, of
    a network."""
    if runs.longest <= 1:
        return steps(x_BX, [len(x_BX)], start_AH)
    busiest_first = np.argsort(runs.first - runs.last, kind="stable")
    waves, sizes = wave_order(runs, busiest_first)
    rows, entities = (torch.from_numpy(order).to(x_BX.device) for order in (waves, busiest_first))
    in_waves = steps(x_BX.index_select(0, rows), sizes, start_AH.index_select(0, entities))
    after = torch.empty_like(in_waves)
    after[rows] = in_waves
    return after


def wave_order(runs: Runs, busiest_first: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[int]]:
    """The sorted rows in waves (wave k: the k-th row of each run that has one, runs as ordered), and their sizes."""
    place = np.empty(len(busiest_first), np.int64)
    place[busiest_first] = np.arange(len(busiest_first))
    wave_then_place = runs.rank * len(place) + np.repeat(place, runs.last - runs.first + 1)
    return np.argsort(wave_then_place), np.bincount(runs.rank).tolist()
