"""From the model's raw output to a score between 0 and 1 that means something.

With enough matured frauds: Platt scaling, a probability (Platt, 1999). Without: the share of ordinary events that are
less unusual, read off the empirical distribution with an exponential tail, so that the most extreme still differ.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
ScoreKind = Literal["probability", "surprise"]
LEAST_POSITIVES = 200
#: Shares of ordinary events whose raw values are kept, denser towards the unusual end.
LEVELS = np.concatenate([np.linspace(0.0, 0.9, 19), 1 - np.geomspace(0.09, 1e-4, 16)])
#: The exponential tail beyond the last level has the slope since this one.
TAIL = -8
#: How strongly Platt scaling pulls the slope towards 0, beside one unit for each event.
PULL = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """slope and intercept for a probability; knots (raw values at LEVELS) for a surprise."""

    kind: ScoreKind
    slope: float
    intercept: float
    knots: tuple[float, ...]

    def score(self, raw: Floats) -> Floats:
        if self.kind == "probability":
            probability: Floats = 1 / (1 + np.exp(-np.clip(self.slope * raw + self.intercept, -35, 35)))
            return probability
        knots = np.array(self.knots)
        exceedance = -np.log1p(-LEVELS)
        tail_slope = (exceedance[-1] - exceedance[TAIL]) / max(knots[-1] - knots[TAIL], 1e-6)
        beyond = np.maximum(raw - knots[-1], 0) * tail_slope
        score: Floats = -np.expm1(-np.minimum(np.interp(raw, knots, exceedance) + beyond, 35.0))
        return score


def calibrate(raw: Floats, labels: npt.NDArray[np.int8]) -> Calibration:
    """labels: 1 fraud, 0 legitimate, -1 unknown (ignored by Platt scaling)."""
    matured = labels >= 0
    if int((labels == 1).sum()) >= LEAST_POSITIVES and (labels == 0).any():
        slope, intercept = fit_platt(raw[matured], labels[matured] == 1)
        if slope > 0:
            return Calibration("probability", slope, intercept, ())
    knots = np.maximum.accumulate(np.quantile(raw, LEVELS) + np.arange(len(LEVELS)) * 1e-9)
    return Calibration("surprise", 1.0, 0.0, tuple(float(knot) for knot in knots))


def fit_platt(raw: Floats, positive: npt.NDArray[np.bool_], steps: int = 50) -> tuple[float, float]:
    """Maximum likelihood of sigmoid(slope * raw + intercept) by Newton steps, halved until each is an improvement.
    A slight pull on the slope keeps it finite where the classes do not overlap."""
    centre, spread = float(raw.mean()), float(raw.std()) or 1.0
    x = np.stack([(raw - centre) / spread, np.ones_like(raw)], 1)
    weights = np.array([1.0, np.log((positive.sum() + 1) / ((~positive).sum() + 1))])
    loss = _loss(x, positive, weights)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -35, 35)))
        gradient = x.T @ (p - positive) + PULL * weights * np.array([1, 0])
        hessian = (x * (p * (1 - p))[:, None]).T @ x + PULL * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while np.abs(step).max() >= 1e-8 and _loss(x, positive, weights - step) > loss:
            step /= 2
        if np.abs(step).max() < 1e-8:
            break
        weights = weights - step
        loss = _loss(x, positive, weights)
    return float(weights[0] / spread), float(weights[1] - weights[0] * centre / spread)


def _loss(x: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> float:
    logits = x @ weights
    return float(np.logaddexp(0, logits).sum() - logits[positive].sum() + PULL / 2 * weights[0] ** 2)
