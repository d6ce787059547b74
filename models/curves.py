"""Precision against recall and calibration as points to draw, from scores and labels; pure numpy."""

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.metrics import Floats, Positives, cumulative, equally_filled

MOST_POINTS = 100
MOST_BINS = 20
#: Points closer than this to the line between their neighbours are not worth keeping (all axes go from 0 to 1).
RESOLUTION = 1e-6


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """float64[k] each, by falling threshold: flagging all scores from it on has this precision and recall. A curve
    that holds every distinct score ends where everything is flagged."""

    recall: Floats
    precision: Floats
    threshold: Floats

    def points(self) -> list[dict[str, float]]:
        """What is kept and drawn: shares to six digits, thresholds in full, as they decide what is flagged."""
        columns = (self.recall.tolist(), self.precision.tolist(), self.threshold.tolist())
        return [
            {"recall": round(recall, 6), "precision": round(precision, 6), "threshold": threshold}
            for recall, precision, threshold in zip(*columns, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Events of like score: what they were said to be on average, and the share of them that was fraud."""

    mean_score: float
    fraud_share: float
    events: int


def precision_recall(scores: Floats, positive: Positives) -> PrecisionRecall:
    """A point for each distinct score. Raises ValueError without a positive."""
    if not positive.any():
        raise ValueError("there is no recall without a positive")
    hits, taken, threshold = cumulative(scores, positive)
    return PrecisionRecall(hits / hits[-1], hits / taken, threshold)


def thinned(curve: PrecisionRecall, most: int = MOST_POINTS) -> PrecisionRecall:
    """At most so many (2 or more) of its points, the first and the last among them: again and again the one that lies
    farthest from the line between two kept ones (Douglas and Peucker, 1973), in precision, recall and threshold."""
    corners = _corners(curve)
    points = np.stack([curve.recall[corners], curve.precision[corners], curve.threshold[corners]], 1)
    kept = {0, len(points) - 1}
    waiting = [_farthest(points, 0, len(points) - 1)]
    while len(kept) < most and waiting[0][0] < -RESOLUTION:
        _, middle, first, last = heapq.heappop(waiting)
        kept.add(middle)
        heapq.heappush(waiting, _farthest(points, first, middle))
        heapq.heappush(waiting, _farthest(points, middle, last))
    rows = corners[sorted(kept)]
    return PrecisionRecall(curve.recall[rows], curve.precision[rows], curve.threshold[rows])


def calibration_bins(scores: Floats, positive: Positives, most: int = MOST_BINS) -> list[CalibrationBin]:
    """Equally filled, from the lowest scores up."""
    parts = equally_filled(scores, most)
    return [CalibrationBin(float(scores[part].mean()), float(positive[part].mean()), len(part)) for part in parts]


def _corners(curve: PrecisionRecall) -> npt.NDArray[np.intp]:
    """The points at which recall rises and those before: between them precision only falls, along a smooth line."""
    rises = np.diff(curve.recall, prepend=0.0) > 0
    corner = rises | np.append(rises[1:], True)
    corner[0] = True
    return np.flatnonzero(corner)


def _farthest(points: Floats, first: int, last: int) -> tuple[float, int, int, int]:
    """(minus the distance, which point, first, last) of the points between two; distance 0 where there is none."""
    if last - first < 2:
        return 0.0, first, first, last
    line, inner = points[last] - points[first], points[first + 1 : last] - points[first]
    along = np.clip(inner @ line / max(float(line @ line), 1e-12), 0.0, 1.0)
    distance = np.linalg.norm(inner - along[:, None] * line, axis=1)
    found = int(distance.argmax())
    return -float(distance[found]), first + 1 + found, first, last
