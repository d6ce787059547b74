"""How long the GRU's step takes with products of 32-bit numbers, of halves (bfloat16) and of whole numbers (int8).

What the alternatives would gain a detector, measured where the question is asked again: weights, batches and gates as
in a step, on one thread, by its CPU time. Each row of states has a scale of its own in int8, as it must have where the
other events of a batch are not to matter.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from models.detector import INPUTS
from models.eight_bit import to_eight_bits

Clock = Callable[[], float]
Step = Callable[[Tensor, Tensor], Tensor]


def product_times(
    units: Sequence[int], sizes: Sequence[int], rounds: int, clock: Clock = time.thread_time
) -> dict[str, dict[str, dict[str, float]]]:
    """Microseconds an event, medians, by units, kind of product and events of a batch."""
    torch.set_num_threads(1)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {str(count): _of_units(count, sizes, rounds, clock) for count in units}


def _of_units(units: int, sizes: Sequence[int], rounds: int, clock: Clock) -> dict[str, dict[str, float]]:
    steps = gru_kinds(torch.nn.GRUCell(INPUTS, units))
    found: dict[str, dict[str, float]] = {name: {} for name in steps}
    for size in sizes:
        x_BX, h_BH = torch.randn(size, INPUTS), torch.tanh(torch.randn(size, units))
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(1 + rounds):  # in turns; the first one warms up
            for name, step in steps.items():
                began = clock()
                step(x_BX, h_BH)
                taken[name].append(clock() - began)
        for name, seconds in taken.items():
            found[name][str(size)] = round(1e6 * median(seconds[1:]) / size, 3)
    return found


def gru_kinds(cell: torch.nn.GRUCell) -> Mapping[str, Step]:
    weights = cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh
    w_ih, w_hh, b_ih, b_hh = (weight.detach() for weight in weights)
    halves = [weight.bfloat16() for weight in (w_ih, w_hh, b_ih, b_hh)]
    whole, scale = to_eight_bits(w_hh)

    def eight_bit(x: Tensor, h: Tensor) -> Tensor:
        whole_h, scale_h = to_eight_bits(h)
        from_state = torch._int_mm(whole_h, whole.t()).float().mul_(scale_h[:, None]).mul_(scale).add_(b_hh)
        return _gated(functional.linear(x, w_ih, b_ih), from_state, h)

    return {
        "float32": lambda x, h: torch.gru_cell(x, h, w_ih, w_hh, b_ih, b_hh),
        "bfloat16": lambda x, h: torch.gru_cell(x.bfloat16(), h.bfloat16(), *halves).float(),
        "int8": eight_bit,
    }


def _gated(from_input: Tensor, from_state: Tensor, h_BH: Tensor) -> Tensor:
    units = h_BH.shape[1]
    gates = (from_input[:, : 2 * units] + from_state[:, : 2 * units]).sigmoid_()
    new = torch.addcmul(from_input[:, 2 * units :], gates[:, :units], from_state[:, 2 * units :]).tanh_()
    return torch.lerp(new, h_BH, gates[:, units:])
