"""Slates drawn without replacement, and the exact probabilities of what was drawn. Pure numpy; knows no policy.

A slate is Plackett-Luce: its positions are filled one after the other, each with the probability of an item's weight
among the weights that are left. Gumbel top-k on the log-weights draws exactly that (Kool, van Hoof and Welling, 2019).
Three probabilities of a shown item are told apart, since estimators need different ones: given the items above it
(`conditionals`), with the items above it (`prefix_products`), and at its position whatever is above it
(`position_marginals`, `picked_marginals`).
"""

import math
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LogWeights = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]
Picks = npt.NDArray[np.int16]

#: Marginals are summed over all sets that can stand above a position where these are at most so many; else integrated.
MOST_SETS = 200
#: Integrated marginals are off by at most this.
MARGINAL_ERROR = 1e-8
#: Log-weights further below their row's highest one count as so far below it, in integrated marginals.
LOWEST = -300.0
#: The first try has so many nodes; rows whose error is not small enough yet get twice as many, up to the last number.
_NODES, _MOST_NODES = 41, 1281
#: Twice the nodes square the error, so every second node may be off by this.
_COARSE_ERROR = 1e-5
#: What the integrals leave out at their ends is about this.
_CUT_OFF = 1e-10
_EARLIEST = -3.3
#: Numbers in one working array: they should stay in a core's cache.
_CHUNK = 32_768


def floored_log_weights(log_p: LogWeights, allowed: npt.NDArray[np.bool_], floor: float) -> npt.NDArray[np.float32]:
    """float32[n, C]: log of (1 - floor) p + floor / (number allowed), -inf where not allowed.

    log_p float[n, C]: unnormalised log-probabilities; allowed bool[n, C]; floor in [0, 1]. Where log_p is -inf for all
    that is allowed, p is uniform. Raises ValueError where an allowed log_p is NaN or +inf.
    """
    if not 0 <= floor <= 1:
        raise ValueError(f"the floor must be a share from 0 to 1, not {floor}")
    masked = np.where(allowed, log_p, -np.inf).astype(np.float64)
    if not (masked < np.inf).all():
        raise ValueError("a log-probability is no number below infinity")
    highest = masked.max(axis=1, keepdims=True, initial=-np.inf)
    masked = np.where(allowed & ~np.isfinite(highest), 0.0, masked)
    weights = np.exp(masked - np.where(np.isfinite(highest), highest, 0.0))
    number = np.maximum(allowed.sum(axis=1, keepdims=True), 1)
    with np.errstate(divide="ignore"):
        total = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        floored: Floats = np.log((1 - floor) * weights / total + floor / number * allowed)
    return floored.astype(np.float32)


def draw_slates(log_weights: LogWeights, uniform: Floats, size: int) -> Picks:
    """int16[n, size]: the candidate at each position, -1 where fewer than `size` can be chosen.

    log_weights float[n, C] (-inf: cannot be chosen); uniform float64[n, C]: independent numbers in [0, 1)."""
    candidates = log_weights.shape[1]
    inside = np.clip(uniform, 2.0**-54, 1 - 2.0**-53)  # a generator's 0 would mean "never"
    keys: Floats = log_weights.astype(np.float64) - np.log(-np.log(inside))
    shown = min(size, candidates)
    picks = np.full((len(keys), size), -1, np.int16)
    if not keys.size or not shown:
        return picks
    first = (
        np.argpartition(-keys, shown - 1, axis=1)[:, :shown]
        if shown < candidates
        else np.tile(np.arange(candidates), (len(keys), 1))
    )
    of_first = np.take_along_axis(keys, first, axis=1)
    order = np.argsort(-of_first, axis=1, kind="stable")
    chosen = np.take_along_axis(first, order, axis=1)
    possible = np.take_along_axis(of_first, order, axis=1) > -np.inf
    picks[:, :shown] = np.where(possible, chosen, -1)
    return picks


def conditionals(log_weights: LogWeights, picks: Picks) -> Floats:
    """float64[n, K]: the probability of each position's pick given the picks above it; NaN for -1.

    0 for a pick that these weights would never make, so that a policy can be asked about another one's slates."""
    left = np.array(log_weights, np.float64)
    rows = np.arange(len(picks))
    found = np.full(picks.shape, np.nan)
    if not left.shape[1]:
        return found
    for position in range(picks.shape[1]):
        pick = picks[:, position]
        chosen = left[rows, pick]
        # With the highest weight taken out of the sum, nothing cancels or underflows however unequal weights are.
        highest = left.max(axis=1, initial=-np.inf)
        highest = np.where(np.isfinite(highest), highest, 0.0)
        total = np.exp(left - highest[:, None]).sum(axis=1)
        share = np.exp(chosen - highest) / np.where(total > 0, total, 1.0)
        found[:, position] = np.where(pick >= 0, share, np.nan)
        left[rows, pick] = np.where(pick >= 0, -np.inf, chosen)
    return found


def prefix_products(conditional: Floats) -> Floats:
    """float64[n, K]: the probability of all picks down to each position, from `conditionals`; NaN for -1."""
    return np.multiply.accumulate(conditional, axis=1)


def position_marginals(log_weights: LogWeights, size: int) -> Floats:
    """float64[n, C, size]: the probability of each candidate at each position, whatever stands above it.

    Each position sums to 1 over the candidates, 0 where fewer can be chosen. Exact up to rounding where few sets of
    items can stand above a position (MOST_SETS), else within MARGINAL_ERROR."""
    rows, candidates = log_weights.shape
    every = np.broadcast_to(np.arange(candidates), (rows, candidates))
    return _marginals(log_weights, every, size)


def picked_marginals(log_weights: LogWeights, picks: Picks) -> Floats:
    """float64[n, K]: `position_marginals` of each position's pick alone, for much less work; NaN for -1."""
    size = picks.shape[1]
    every_position = _marginals(log_weights, picks, size)
    own: Floats = every_position[:, np.arange(size), np.arange(size)]
    return np.where(picks >= 0, own, np.nan)


def _marginals(log_weights: LogWeights, targets: Indices, size: int) -> Floats:
    """float64[n, M, size], of the candidates `targets` int[n, M], which differ within a row (-1: none, whatever)."""
    rows, candidates = log_weights.shape
    found = np.zeros((rows, targets.shape[1], size))
    shown = min(size, candidates)
    sets = sum(math.comb(candidates, above) for above in range(shown))
    step = max(1, 8 * _CHUNK // max(1, sets * candidates) if sets <= MOST_SETS else _CHUNK // _NODES)
    for first in range(0, rows, step):
        part = slice(first, first + step)
        weights = _weights(log_weights[part])
        if sets <= MOST_SETS:
            every = _by_sets(weights, shown)
            found[part, :, :shown] = np.take_along_axis(every, targets[part, :, None], axis=1)
        else:
            found[part] = _by_race(weights, targets[part], size)
    return found


def _weights(log_weights: LogWeights) -> Floats:
    """float64[n, C], each row's sum 1 (0 where nothing can be chosen)."""
    log_weights = log_weights.astype(np.float64)
    highest = log_weights.max(axis=1, keepdims=True, initial=-np.inf)
    below = log_weights - np.where(np.isfinite(highest), highest, 0.0)
    weights = np.where(below > -np.inf, np.exp(np.maximum(below, LOWEST)), 0.0)
    normalised: Floats = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return normalised


def _by_sets(weights: Floats, size: int) -> Floats:
    """float64[n, C, size]: what stands above a position matters only as a set, so chances are carried from the sets of
    one size to those of the next."""
    rows, candidates = weights.shape
    found = np.zeros((rows, candidates, size))
    sets: list[tuple[int, ...]] = [()]
    chance = np.ones((rows, 1))
    for position in range(size):
        outside = np.ones((len(sets), candidates))
        for number, members in enumerate(sets):
            outside[number, list(members)] = 0.0
        left = weights @ outside.T
        scale = np.divide(chance, left, out=np.zeros_like(left), where=left > 0)
        next_pick = scale[:, :, None] * weights[:, None, :] * outside
        found[:, :, position] = next_pick.sum(axis=1)
        number_of = {members: number for number, members in enumerate(sets)}
        sets = list(combinations(range(candidates), position + 1))
        before = [[number_of[grown[:i] + grown[i + 1 :]] for i in range(len(grown))] for grown in sets]
        chance = next_pick[:, np.array(before), np.array(sets)].sum(axis=2)
    return found


def _by_race(weights: Floats, targets: Indices, size: int) -> Floats:
    """float64[n, M, size], integrated with as many nodes as each row needs."""
    found, coarse = _raced(weights, targets, size, _NODES)
    nodes = _NODES
    while nodes < _MOST_NODES:
        rough = np.flatnonzero(np.abs(found - coarse).max(axis=(1, 2)) > _COARSE_ERROR)
        if not len(rough):
            break
        nodes = 2 * nodes - 1
        found[rough], coarse[rough] = _raced(weights[rough], targets[rough], size, nodes)
    return found


def _raced(weights: Floats, targets: Indices, size: int, nodes: int) -> tuple[Floats, Floats]:
    """Each float64[n, M, size]: by all nodes, and by every second one.

    Items that arrive at exponential times with their weights as rates arrive in the order of a Plackett-Luce slate.
    Item i is at position k where it arrives at some time t and exactly k of the others arrived before:
    the integral of w_i exp(-w_i t) P(k others by t). The number of others is Poisson-binomial; its chances are the
    coefficients of the product of (waiting + arrived z), which needs no subtraction and so stays exact."""
    time, width = _times(weights, size, nodes)
    weights = np.pad(weights, ((0, 0), (0, 1)))  # the place -1: an item that never arrives
    waiting = np.exp(-weights.T[:, :, None] * time)
    own_weights = np.take_along_axis(weights, targets, axis=1).T
    own_waiting = np.exp(-own_weights[:, :, None] * time)
    polynomial = np.zeros((size, *time.shape))
    polynomial[0] = 1.0
    others = np.ones(weights.shape, bool)
    np.put_along_axis(others, targets, False, axis=1)
    for candidate in np.flatnonzero(others.any(axis=0)):
        waits = np.where(others[:, candidate, None], waiting[candidate], 1.0)
        polynomial = _times_factor(polynomial, waits)
    one = np.zeros_like(polynomial)
    one[0] = 1.0
    below = [one]
    for waits in own_waiting[:0:-1]:
        below.append(_times_factor(below[-1], waits))
    found, coarse = np.zeros((2, len(weights), targets.shape[1], size))
    for number, waits in enumerate(own_waiting):
        density = own_weights[number][:, None] * waits * width
        rest = below[-1 - number]
        for position in range(size):
            before = sum(polynomial[a] * rest[position - a] for a in range(position + 1))
            value = density * before
            found[:, number, position] = value.sum(axis=1)
            coarse[:, number, position] = 2 * value[:, ::2].sum(axis=1)
        polynomial = _times_factor(polynomial, waits)
    return found, coarse


def _times_factor(polynomial: Floats, waits: Floats) -> Floats:
    """Times (waits + (1 - waits) z), without powers that no position needs."""
    product = polynomial * waits
    product[1:] += polynomial[:-1] * (1.0 - waits)
    return product


def _times(weights: Floats, size: int, nodes: int) -> tuple[Floats, Floats]:
    """Nodes and their widths, each float64[n, nodes], from before anything arrives until `size` items have.

    t = exp(x - exp(-x)) makes the trapezoidal rule converge exponentially (Takahasi and Mori, 1974)."""
    allowed = (weights > 0).sum(axis=1)
    last = np.clip(np.minimum(allowed, size), 1, weights.shape[1])
    ordered = -np.sort(-weights, axis=1)
    slowest = np.take_along_axis(ordered, last[:, None] - 1, axis=1)
    latest = np.log(np.log(size / _CUT_OFF) / np.where(slowest > 0, slowest, 1.0))
    x = _EARLIEST + (latest - _EARLIEST) * np.linspace(0, 1, nodes)
    time = np.exp(x - np.exp(-x))
    return time, time * (1 + np.exp(-x)) * (latest - _EARLIEST) / (nodes - 1)
