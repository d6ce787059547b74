"""A detector made smaller: what a training begins with and is taught by, for three ways of compressing a large one.

- pruned: GRU units are taken out whole, with the rows and columns of all their gates. What they told is told by those
  that stay, as far as real sequences show that it can be (interpolative decomposition; Chee et al., 2022), and a short
  training mends the rest.
- distilled: a small detector learns from nothing, with the large one as its teacher beside the labels (Ba and Caruana,
  2014).
- quantised: the detector itself.

All of them end with weights in eight bits (eight_bit.py). It knows nothing of the gate or of what comes of them.
Shape suffixes as in detector.py; H units before, K units kept, R rows that read the state, N events.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.detector import LARGEST_SURPRISE, Detector
from models.eight_bit import packed, unpacked
from models.sequences import Sequences, TrainingConfig, training_batches
from models.train_detector import (
    SELF_SUPERVISED_WEIGHT,
    BatchLoss,
    Pupil,
    answers_of,
    batch_loss,
    loss_of,
    outputs,
    sequence_states,
    untaught,
)

Pupils = Callable[[Sequences, TrainingConfig], Pupil]
#: Events whose states show which units are needed.
LOOKED_AT = 50_000
#: Beside the states' own size, so that nearly equal units do not get huge weights of either sign.
RIDGE = 1e-6
#: A teacher's log-odds beyond these bounds say no more than that it is sure.
SUREST = 10.0
#: What a squared difference from the teacher's log-odds counts beside the loss that labels give.
IMITATION = 0.02


class CannotCompress(ValueError):
    """This detector cannot be made smaller in this way; the message says why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """units: which of the H stay, rising, [K]; told_KH: how each unit of before follows from these, so that states
    h_NK @ told_KH are as near to the former h_NH as they can be."""

    units: Tensor
    told_KH: Tensor


def pruned(large: Detector, units: int) -> Pupils:
    """The detector with so many of its units, and itself as the teacher. Raises CannotCompress."""
    _check_smaller(large, units)

    def begun(sequences: Sequences, config: TrainingConfig) -> Pupil:
        states_NH = states_along(large, sequences, config)
        small = with_units(large, units_to_keep(states_NH, readers_of(large), units))
        return Pupil(small, taught_by(large, sequences), in_eight_bits)

    return begun


def distilled(large: Detector, units: int) -> Pupils:
    """A new detector of so many units with this one as the teacher. Raises CannotCompress."""
    _check_smaller(large, units)

    def begun(sequences: Sequences, config: TrainingConfig) -> Pupil:
        return replace(untaught(sequences, config), loss=taught_by(large, sequences), finished=in_eight_bits)

    return begun


def quantised(large: Detector) -> Pupils:
    """The detector as it is; for a training of no epochs. Raises CannotCompress."""
    if large.config.eight_bit:
        raise CannotCompress("its weights have eight bits already")

    def begun(sequences: Sequences, config: TrainingConfig) -> Pupil:
        return Pupil(copy.deepcopy(large), batch_loss, in_eight_bits)

    return begun


def in_eight_bits(detector: Detector) -> Detector:
    small = Detector(replace(detector.config, eight_bit=True))
    small.load_state_dict(unpacked(packed(detector.state_dict())))
    return small.eval()


@torch.inference_mode()
def states_along(detector: Detector, sequences: Sequences, config: TrainingConfig) -> Tensor:
    """The states after some of the events that teach, as training goes through them, [N, H]."""
    states, found = [], 0
    for rows_BT in training_batches(sequences, config, np.random.default_rng(config.seed)):
        states.append(sequence_states(detector.eval(), sequences, rows_BT)[1])
        found += len(states[-1])
        if found >= LOOKED_AT:
            break
    return torch.cat(states)


def readers_of(detector: Detector) -> Tensor:
    """Every weight that a state is multiplied with: by the gates, the supervised head and the surprise head, [R, H]."""
    weights = detector.state_dict()
    head_RH = weights["head.0.weight"][:, : detector.config.hidden]
    return torch.cat([weights["gru.weight_hh_l0"], head_RH, weights["expectation.weight"]])


def units_to_keep(states_NH: Tensor, readers_RH: Tensor, count: int) -> Kept:
    """One unit after the other, each time the one of which most is left that those chosen do not tell, measured by what
    its readers make of it (QR with pivoting); then the least squares of all units on the chosen ones."""
    states_NH = states_NH.double()
    told_HH = states_NH.T @ states_NH
    weight_H = readers_RH.double().norm(dim=0)
    left_HH = told_HH * weight_H[:, None] * weight_H
    chosen: list[int] = []
    for _ in range(count):
        left_H = left_HH.diagonal().clone()
        left_H[chosen] = -torch.inf
        unit = int(left_H.argmax())
        chosen.append(unit)
        if left_H[unit] > 0:
            left_HH = left_HH - torch.outer(left_HH[:, unit], left_HH[:, unit]) / left_H[unit]
    units_K = torch.tensor(sorted(chosen))
    own_KK = told_HH[units_K][:, units_K]
    ridge = RIDGE * own_KK.diagonal().mean().clamp(min=1e-12)
    told_KH = torch.linalg.solve(own_KK + ridge * torch.eye(count, dtype=own_KK.dtype), told_HH[units_K])
    told_KH[:, units_K] = torch.eye(count, dtype=told_KH.dtype)
    return Kept(units_K, told_KH.float())


def with_units(large: Detector, kept: Kept) -> Detector:
    """The detector with these units alone; what reads states reads in their place what these tell of them."""
    hidden, count = large.config.hidden, len(kept.units)
    rows = torch.cat([kept.units + gate * hidden for gate in range(3)])
    weights = {name: value.detach().clone() for name, value in large.state_dict().items()}
    for name in ("gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0", "gru.bias_hh_l0"):
        weights[name] = weights[name][rows]
    for name in ("gru.weight_hh_l0", "expectation.weight"):
        weights[name] = weights[name] @ kept.told_KH.T
    head = weights["head.0.weight"]
    weights["head.0.weight"] = torch.cat([head[:, :hidden] @ kept.told_KH.T, head[:, hidden:]], dim=1)
    small = Detector(replace(large.config, hidden=count, eight_bit=False))
    small.load_state_dict(weights)
    return small


def taught_by(teacher: Detector, sequences: Sequences) -> BatchLoss:
    """What the labels teach, and to answer as the teacher does, which has gone through each account's whole history:
    with the same log-odds (squared difference) and the same surprise (absolute difference)."""
    said = outputs(teacher, sequences, sequences.start)
    logits, surprise = (torch.from_numpy(answer).float() for answer in (said.logits, said.surprise))

    def loss(detector: Detector, sequences: Sequences, rows_BT: Tensor, positive_weight: float | None) -> Tensor:
        own = answers_of(detector, sequences, rows_BT)
        wanted_N = surprise[own.rows_N].to(detector.device).clamp(max=LARGEST_SURPRISE)
        found_N = own.surprises_NS.mean(1).clamp(max=LARGEST_SURPRISE)
        total = loss_of(own, sequences, positive_weight) + SELF_SUPERVISED_WEIGHT * functional.l1_loss(
            found_N, wanted_N
        )
        if positive_weight is None:
            return total
        odds_N = logits[own.rows_N].to(detector.device).clamp(-SUREST, SUREST)
        return total + IMITATION * functional.mse_loss(own.logits_N.clamp(-SUREST, SUREST), odds_N)

    return loss


def _check_smaller(large: Detector, units: int) -> None:
    if not 1 <= units < large.config.hidden:
        raise CannotCompress(f"it has {large.config.hidden} hidden units; give fewer than that, and at least 1")
