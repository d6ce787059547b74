"""What stands at each position of a Plackett-Luce slate, whatever stands above it: probabilities and means of values.

Where few sets of items can stand above a position, chances are summed over these sets. Else they are integrated: items
that arrive at exponential times with their weights as rates arrive in the order of such a slate, so item i is at
position k where it arrives at some time t and exactly k of the others arrived before. Pure numpy.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LogWeights = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]

#: Sums over sets where these are at most so many.
MOST_SETS = 200
#: Integrated probabilities are off by at most this.
MARGINAL_ERROR = 1e-8
#: Log-weights further below their row's highest one count as so far below it.
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


@dataclass(frozen=True, slots=True)
class AtPositions:
    """marginals float64[n, M, K]: the probability of each of M candidates at each position; means float64[n, K]: the
    mean of all candidates' values at each position."""

    marginals: Floats
    means: Floats

    def __setitem__(self, rows: slice | npt.NDArray[np.intp], found: "AtPositions") -> None:
        self.marginals[rows], self.means[rows] = found.marginals, found.means

    @staticmethod
    def empty(rows: int, targets: int, size: int) -> "AtPositions":
        return AtPositions(np.zeros((rows, targets, size)), np.zeros((rows, size)))


def at_positions(log_weights: LogWeights, targets: Indices, size: int, values: Floats | None = None) -> AtPositions:
    """Of the candidates `targets` int[n, M], which differ within a row (-1: none, its probability is 0), at `size`
    positions. log_weights float[n, C]: -inf where an item cannot be chosen; values float64[n, C], None for zeros."""
    rows, candidates = log_weights.shape
    found = AtPositions.empty(rows, targets.shape[1], size)
    sets = sum(math.comb(candidates, above) for above in range(min(size, candidates)))
    step = max(1, 8 * _CHUNK // max(1, sets * candidates) if sets <= MOST_SETS else _CHUNK // _NODES)
    for first in range(0, rows, step):
        part = slice(first, first + step)
        weights = _weights(log_weights[part])
        # The place -1 is an item that never arrives.
        weights = np.pad(weights, ((0, 0), (0, 1)))
        worth = None if values is None else np.pad(values[part], ((0, 0), (0, 1)))
        by = _by_sets if sets <= MOST_SETS else _by_race
        found[part] = by(weights, targets[part], size, worth)
    return found


def _weights(log_weights: LogWeights) -> Floats:
    """float64[n, C], each row's sum 1 (0 where nothing can be chosen)."""
    log_weights = log_weights.astype(np.float64)
    highest = log_weights.max(axis=1, keepdims=True, initial=-np.inf)
    below = log_weights - np.where(np.isfinite(highest), highest, 0.0)
    weights = np.where(below > -np.inf, np.exp(np.maximum(below, LOWEST)), 0.0)
    normalised: Floats = weights / np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return normalised


def _by_sets(weights: Floats, targets: Indices, size: int, values: Floats | None) -> AtPositions:
    """What stands above a position matters only as a set, so chances are carried from the sets of one size to those of
    the next."""
    rows, candidates = len(weights), weights.shape[1] - 1
    every = np.zeros((rows, candidates + 1, size))
    sets: list[tuple[int, ...]] = [()]
    chance = np.ones((rows, 1))
    for position in range(min(size, candidates)):
        outside = np.ones((len(sets), candidates + 1))
        for number, members in enumerate(sets):
            outside[number, list(members)] = 0.0
        left = weights @ outside.T
        scale = np.divide(chance, left, out=np.zeros_like(left), where=left > 0)
        next_pick = scale[:, :, None] * weights[:, None, :] * outside
        every[:, :, position] = next_pick.sum(axis=1)
        number_of = {members: number for number, members in enumerate(sets)}
        sets = list(combinations(range(candidates), position + 1))
        before = [[number_of[grown[:i] + grown[i + 1 :]] for i in range(len(grown))] for grown in sets]
        chance = next_pick[:, np.array(before), np.array(sets)].sum(axis=2)
    means = np.zeros((rows, size)) if values is None else np.einsum("nck,nc->nk", every, values)
    return AtPositions(np.take_along_axis(every, targets[:, :, None], axis=1), means)


def _by_race(weights: Floats, targets: Indices, size: int, values: Floats | None) -> AtPositions:
    """Integrated with as many nodes as each row needs."""
    found, coarse = _raced(weights, targets, size, values, _NODES)
    nodes = _NODES
    while nodes < _MOST_NODES:
        rough = np.flatnonzero(np.abs(found.marginals - coarse).max(axis=(1, 2), initial=0) > _COARSE_ERROR)
        if not len(rough):
            break
        nodes = 2 * nodes - 1
        of_rough = None if values is None else values[rough]
        found[rough], coarse[rough] = _raced(weights[rough], targets[rough], size, of_rough, nodes)
    return found


def _raced(
    weights: Floats, targets: Indices, size: int, values: Floats | None, nodes: int
) -> tuple[AtPositions, Floats]:
    """By all nodes, and the marginals by every second one.

    At position k an item has the integral of w exp(-w t) P(k of the others by t). The number of the others is
    Poisson-binomial; its chances are the coefficients of the product of (waits + arrived z), which needs no subtraction
    and so stays exact. The mean of values is the sum over the items of value times that; it is carried along as the
    derivative of the product in which each factor gains a little of value times density."""
    time, width = _times(weights, size, nodes)
    race = _Race(time, size, values is not None)
    waiting = np.exp(-weights.T[:, :, None] * time)
    worth = np.zeros_like(weights) if values is None else weights * values
    others = np.ones(weights.shape, bool)
    np.put_along_axis(others, targets, False, axis=1)
    for candidate in np.flatnonzero(others[:, :-1].any(axis=0)):
        taken = others[:, candidate]
        race.add(np.where(taken[:, None], waiting[candidate], 1.0), np.where(taken, worth[:, candidate], 0.0))
    own_weights, own_worth = (np.take_along_axis(of, targets, axis=1).T for of in (weights, worth))
    own_waiting = np.exp(-own_weights[:, :, None] * time)
    below = [np.zeros_like(race.chances)]
    below[0][0] = 1.0
    for waits in own_waiting[:0:-1]:
        below.append(_times_factor(below[-1], waits))
    found = AtPositions.empty(len(weights), targets.shape[1], size)
    coarse = np.zeros_like(found.marginals)
    for number, waits in enumerate(own_waiting):
        density = own_weights[number][:, None] * waits * width
        rest = below[-1 - number]
        for position in range(size):
            value = density * sum(race.chances[above] * rest[position - above] for above in range(position + 1))
            found.marginals[:, number, position] = value.sum(axis=1)
            coarse[:, number, position] = 2 * value[:, ::2].sum(axis=1)
        race.add(waits, own_worth[number])
    if race.worth is not None:
        found.means[:] = (race.worth * width).sum(axis=2).T
    return found, coarse


class _Race:
    """The items added so far. chances float64[K, n, T]: of so many arrivals by each time, K or more left out; worth
    (same shape): the sum over items of value times density times the chance that so many of the others arrived."""

    def __init__(self, time: Floats, size: int, with_values: bool) -> None:
        self.chances = np.zeros((size, *time.shape))
        self.chances[0] = 1.0
        self.worth = np.zeros_like(self.chances) if with_values else None

    def add(self, waits: Floats, worth: Floats) -> None:
        """waits float64[n, T]: the chance that the item has not arrived; worth float64[n]: weight times value."""
        if self.worth is not None:
            self.worth = _times_factor(self.worth, waits)
            self.worth += self.chances * (worth[:, None] * waits)
        self.chances = _times_factor(self.chances, waits)


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
