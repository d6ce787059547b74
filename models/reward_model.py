"""What each candidate would have earned at each position, predicted by a model that never saw what it predicts.

The control variate of a doubly robust estimate (off_policy.py): the better it is the narrower the estimate; however bad
it is the estimate stays unbiased, as long as no prediction was fitted on its own slate. So a slate's model is fitted on
other users (folds) and on days before its own. Rewards are a candidate's appeal, linear in its features, scaled at
each position: lower positions are looked at less. Ridge regression on sums that are added up once; numpy only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.logged_slates import LoggedSlates
from models.slates import Picks

Floats = npt.NDArray[np.float64]

MILLISECONDS_A_DAY = 86_400_000
#: Log-weights are features down to here; what cannot be chosen counts as this.
_LOWEST_LOG = -12.0


@dataclass(frozen=True, slots=True)
class FitRules:
    """folds: of users. block: milliseconds; a slate's model knows only blocks before its own. ridge: the pull towards
    no effect, in observations. least: with fewer observations nothing is predicted."""

    folds: int = 5
    block: int = MILLISECONDS_A_DAY
    ridge: float = 100.0
    least: int = 500


@dataclass(frozen=True, slots=True)
class PredictedRewards:
    """appeal float64[n, C] of each candidate; it earns base + scale * appeal at a position, each float64[n, K]."""

    appeal: Floats
    scale: Floats
    base: Floats

    def of(self, picks: Picks) -> Floats:
        """float64[n, K]: what the picks were expected to earn; 0 where there is none."""
        own = np.take_along_axis(self.appeal, np.maximum(picks, 0).astype(np.int64), axis=1)
        return np.where(picks >= 0, self.base + self.scale * own, 0.0)

    def mean(self, appeal_at_positions: Floats, shown: npt.NDArray[np.bool_]) -> Floats:
        """float64[n, K]: a position's expected reward, from the mean appeal of what a policy would show there."""
        return np.where(shown, self.base + self.scale * appeal_at_positions, 0.0)


def log_weight_features(*policies: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """float32[n, C, 2 P] of P policies' log-weights, each [n, C]: the policies know best what a user likes."""
    features = np.empty((*policies[0].shape, 2 * len(policies)), np.float32)
    for number, log_weights in enumerate(policies):
        highest = log_weights.max(axis=1, keepdims=True, initial=-np.inf)
        below = log_weights - np.where(np.isfinite(highest), highest, 0.0)
        features[:, :, 2 * number] = np.maximum(below, _LOWEST_LOG)
        features[:, :, 2 * number + 1] = np.exp(below)
    return features


def cross_fitted(slates: LoggedSlates, features: npt.NDArray[np.floating[Any]], rules: FitRules) -> PredictedRewards:
    """Of n slates in any order; features float[n, C, F], finite. Raises ValueError."""
    if features.shape[:2] != slates.candidates.shape:
        raise ValueError("features must be given for each candidate of each slate")
    rows, size = slates.picks.shape
    found = PredictedRewards(np.zeros(features.shape[:2]), np.zeros((rows, size)), np.zeros((rows, size)))
    for own, sums in _groups(slates, features, rules):
        model = _fitted(sums, rules)
        if model is not None:
            slope, found.scale[own], found.base[own] = model
            found.appeal[own] = features[own] @ slope
    return found


def _groups(
    slates: LoggedSlates, features: npt.NDArray[np.floating[Any]], rules: FitRules
) -> Iterator[tuple[npt.NDArray[np.intp], Floats]]:
    """The rows of each block and fold, with the sums that their model may know."""
    fold = slates.user % rules.folds
    known = np.zeros((rules.folds, slates.picks.shape[1], features.shape[2] + 2, features.shape[2] + 2))
    block = slates.made_at // rules.block
    for number in np.unique(block):
        in_block = np.flatnonzero(block == number)
        everyone = known.sum(axis=0)
        groups = [(one, in_block[fold[in_block] == one]) for one in range(rules.folds)]
        yield from ((own, everyone - known[one]) for one, own in groups if len(own))
        for one, own in groups:
            known[one] += _sums(slates, features, own)


def _sums(slates: LoggedSlates, features: npt.NDArray[np.floating[Any]], rows: npt.NDArray[np.intp]) -> Floats:
    """float64[K, F + 2, F + 2]: of each position's (1, features, reward) with each other."""
    width = features.shape[2] + 2
    sums = np.zeros((slates.picks.shape[1], width, width))
    for position in range(len(sums)):
        pick = slates.picks[rows, position]
        own, pick = rows[pick >= 0], pick[pick >= 0]
        columns = np.ones((len(own), width))
        columns[:, 1:-1] = features[own, pick]
        columns[:, -1] = slates.reward[own, position]
        sums[position] = columns.T @ columns
    return sums


def _fitted(sums: Floats, rules: FitRules) -> tuple[Floats, Floats, Floats] | None:
    """(slope float64[F], scale float64[K], base float64[K]), None where too little is known."""
    pooled = sums.sum(axis=0)
    if pooled[0, 0] < rules.least:
        return None
    centred = _centred(pooled)
    variance = np.maximum(np.diag(centred)[1:-1] / pooled[0, 0], 1e-12)
    slope = np.linalg.solve(centred[1:-1, 1:-1] + rules.ridge * np.diag(variance), centred[1:-1, -1])
    scale, base = np.zeros((2, len(sums)))
    pull = rules.ridge * float(slope @ centred[1:-1, 1:-1] @ slope) / pooled[0, 0]
    for position, own in enumerate(sums):
        count = own[0, 0]
        if count:
            around = _centred(own)
            spread = float(slope @ around[1:-1, 1:-1] @ slope) + pull
            scale[position] = (float(slope @ around[1:-1, -1]) + pull) / spread if spread > 0 else 0.0
            base[position] = (own[0, -1] - scale[position] * float(slope @ own[0, 1:-1])) / count
    return slope.astype(np.float64), scale, base


def _centred(sums: Floats) -> Floats:
    centred: Floats = sums - np.outer(sums[0], sums[0]) / sums[0, 0]
    return centred
