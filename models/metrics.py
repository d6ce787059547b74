"""How good scores are against labels. Ties are counted together, so the order of rows does not matter."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Positives = npt.NDArray[np.bool_]


def average_precision(scores: Floats, positive: Positives) -> float:
    """Mean of the precision at each positive's score: sum over thresholds of (R_k - R_(k-1)) P_k. NaN without one."""
    total = int(positive.sum())
    if total == 0:
        return float("nan")
    hits, taken, _ = cumulative(scores, positive)
    recall_step = np.diff(hits, prepend=0) / total
    return float((recall_step * hits / taken).sum())


def roc_auc(scores: Floats, positive: Positives) -> float:
    """The chance that a positive scores above a negative (half for a tie). NaN with one class only."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    hits, taken, _ = cumulative(scores, positive)
    false_rate = np.concatenate([[0.0], (taken - hits) / negatives])
    true_rate = np.concatenate([[0.0], hits / positives])
    return float(np.trapezoid(true_rate, false_rate))


def precision_at_threshold(scores: Floats, positive: Positives, threshold: float) -> float:
    flagged = scores >= threshold
    return float(positive[flagged].mean()) if flagged.any() else float("nan")


def calibration_error(scores: Floats, positive: Positives, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins."""
    parts = equally_filled(scores, bins)
    return float(sum(len(p) * abs(scores[p].mean() - positive[p].mean()) for p in parts) / max(len(scores), 1))


def equally_filled(scores: Floats, bins: int) -> list[npt.NDArray[np.intp]]:
    """The rows of each bin, from the lowest scores up; fewer bins where there are fewer rows."""
    order = np.argsort(scores, kind="stable")
    return [part for part in np.array_split(order, bins) if len(part)]


def cumulative(scores: Floats, positive: Positives) -> tuple[Floats, Floats, Floats]:
    """Hits and rows taken at each distinct score, from the highest down, and the scores. There must be a row."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits = np.cumsum(positive[order]).astype(np.float64)[ends]
    return hits, (ends + 1).astype(np.float64), ordered[ends]
