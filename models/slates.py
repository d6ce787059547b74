"""Slates drawn without replacement, and the exact probabilities of what was drawn. Pure numpy; knows no policy.

A slate is Plackett-Luce: its positions are filled one after the other, each with the probability of an item's weight
among the weights that are left. Gumbel top-k on the log-weights draws exactly that (Kool, van Hoof and Welling, 2019).
Three probabilities of a shown item are told apart, since estimators need different ones: given the items above it
(`conditionals`), with the items above it (`prefix_products`), and at its position whatever is above it
(`position_marginals`, `picked_marginals`; models/slate_race.py computes these).
"""

import numpy as np
import numpy.typing as npt

from models.slate_race import Floats, LogWeights, at_positions

Picks = npt.NDArray[np.int16]


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
    items can stand above a position, else within slate_race.MARGINAL_ERROR."""
    rows, candidates = log_weights.shape
    every = np.broadcast_to(np.arange(candidates), (rows, candidates))
    return at_positions(log_weights, every, size).marginals


def picked_marginals(log_weights: LogWeights, picks: Picks) -> Floats:
    """float64[n, K]: `position_marginals` of each position's pick alone, for much less work; NaN for -1."""
    return marginals_and_means(log_weights, picks, None)[0]


def marginals_and_means(log_weights: LogWeights, picks: Picks, values: Floats | None) -> tuple[Floats, Floats]:
    """(`picked_marginals`, means float64[n, K]): each position's mean of the candidates' values float64[n, C] over the
    slates that these weights draw (0 for None, and where fewer items can be chosen). Both in one go."""
    size = picks.shape[1]
    found = at_positions(log_weights, picks, size, values)
    own = found.marginals[:, np.arange(size), np.arange(size)]
    return np.where(picks >= 0, own, np.nan), found.means
