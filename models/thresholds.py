"""Which score is high enough to alert: by a budget of alerts, by a target precision, or by how extreme it is.

Scores and labels in, one number out; an event alerts where score >= threshold. What adapts to live traffic is
alert_budget.py; which of the three a service uses is live_threshold.py's business.
"""

import numpy as np
import numpy.typing as npt

from models.score_counts import BINS, EDGES, WIDTH, Counts, Floats, probability

#: No event about which nothing speaks alerts.
LEAST_THRESHOLD = 1e-6
#: Precisions for which a model notes its threshold: 1 % to 99 %.
PRECISIONS = np.arange(1, 100) / 100
#: Fewer events at or above a threshold say nothing of its precision.
LEAST_ALERTING = 20
#: Shares of events beyond which scores are peaks, and beyond which they are left out of the fit: what lies there may
#: be what is looked for rather than an ordinary extreme.
PEAKS, EXTREMES = 0.02, 0.001
LEAST_PEAKS = 200
#: How far the tail of log-odds is believed to be from an exponential one: deviation of the shape from 0.
SHAPE_DEVIATION = 0.05


def threshold_for_budget(scores: npt.NDArray[np.float64], alerts_per_day: float, events_per_day: float) -> float:
    """The lowest score at which no more than the budget's share of recent events is flagged (score >= threshold).

    Ties that do not fit into the budget stay below. Never 0, so that an event about which nothing speaks does not
    alert even where the budget is larger than the traffic.
    """
    share = min(alerts_per_day / max(events_per_day, 1e-9), 1.0)
    allowed = int(share * len(scores))
    ordered = np.sort(scores)[::-1]
    if allowed == len(ordered):
        lowest = ordered[-1]
    elif allowed and ordered[allowed] < ordered[allowed - 1]:
        lowest = ordered[allowed - 1]
    else:
        lowest = np.nextafter(ordered[allowed], np.inf)
    return max(float(lowest), LEAST_THRESHOLD)


def thresholds_by_precision(scores: Floats, positive: npt.NDArray[np.bool_]) -> list[float]:
    """For each precision of 1 %, 2 % and so on the lowest threshold at which these matured events have at least that,
    as far as there is one. Rising, at most 99 of them; empty where no frauds are among the events."""
    if not positive.any():
        return []
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(positive[order])
    taken = np.arange(1, len(order) + 1)
    last_of_score = np.append(ordered[1:] != ordered[:-1], True)
    judged = last_of_score & (taken >= LEAST_ALERTING)
    precision = hits[judged] / taken[judged]
    # From the lowest score up, the best precision so far: a threshold serves all precisions up to its own.
    best = np.maximum.accumulate(precision[::-1])
    place = np.searchsorted(best, PRECISIONS - 1e-12)
    reached = place < len(best)
    thresholds: list[float] = np.maximum(ordered[judged][::-1][place[reached]], LEAST_THRESHOLD).tolist()
    return thresholds


def threshold_for_precision(thresholds: list[float], precision: float) -> float | None:
    """From what `thresholds_by_precision` found; None where no threshold reaches the precision."""
    place = int(np.searchsorted(PRECISIONS, precision - 1e-12))
    return thresholds[place] if place < len(thresholds) else None


def extreme_value_threshold(bins: Counts, share: float) -> float | None:
    """The score that this share of ordinary events exceeds: peaks over threshold (Siffer et al., 2017), on log-odds.

    bins int64[BINS]: events by log-odds (models/score_counts.py). A generalised Pareto distribution is fitted to how
    far the highest 2 % exceed the rest. The highest 0.1 % are left out, and the fit knows that they are: however many
    frauds are among them, and however high these score, the threshold stays. None where too few events were counted.
    """
    total = int(bins.sum())
    beyond = np.append(np.cumsum(bins[::-1])[::-1], 0)
    first = _first_bin(beyond, PEAKS * total)
    last = _first_bin(beyond, EXTREMES * total)
    if first >= last or beyond[first] - beyond[last] < LEAST_PEAKS:
        return None
    counts = bins[first:last].astype(np.float64)
    edges = WIDTH * np.arange(last - first + 1, dtype=np.float64)
    shape, scale = _pareto(counts, edges)
    inside = 1 - float(_survival(edges[-1:], shape, scale)[0])
    peaks = min(float(counts.sum()) / max(inside, 1e-9), float(beyond[first]))
    ordinary = total - float(beyond[first]) + peaks
    ratio = share * ordinary / peaks
    if ratio >= 1:
        return max(probability(float(EDGES[_first_bin(beyond, share * total)])), LEAST_THRESHOLD)
    excess = -scale * np.log(ratio) if abs(shape) < 1e-9 else scale / shape * (ratio**-shape - 1)
    return max(probability(float(EDGES[first] + excess)), LEAST_THRESHOLD)


def _first_bin(beyond: Counts, most: float) -> int:
    """The lowest bin from which on there are at most so many events."""
    return min(int(np.searchsorted(-beyond, -most)), BINS - 1)


def _pareto(counts: Floats, edges: Floats) -> tuple[float, float]:
    """Shape and scale with the highest likelihood of these counts between edges, given that all lie between the first
    and the last; the shape is drawn towards 0. By two grids, the second around the best of the first."""
    mean = float(counts @ (edges[:-1] + WIDTH / 2) / counts.sum())
    shapes, scales = np.linspace(-0.5, 0.5, 41), mean * np.geomspace(0.3, 5.0, 61)
    for _ in range(2):
        shape, scale = np.meshgrid(shapes, scales, indexing="ij")
        survival = _survival(edges[:, None, None], shape, scale)
        within = np.maximum(survival[:-1] - survival[1:], 1e-300) / np.maximum(1 - survival[-1], 1e-300)
        likelihood = np.einsum("b,bij->ij", counts, np.log(within)) - (shape / SHAPE_DEVIATION) ** 2 / 2
        best_shape, best_scale = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
        found = float(shapes[best_shape]), float(scales[best_scale])
        shapes = found[0] + np.linspace(-0.025, 0.025, 21)
        scales = found[1] * np.geomspace(0.95, 1.05, 21)
    return found


def _survival(excess: Floats, shape: Floats | float, scale: Floats | float) -> Floats:
    """How likely a generalised Pareto variable is beyond `excess` (Pickands, 1975)."""
    bent = np.where(np.abs(shape) < 1e-9, 1e-9, shape)
    survival: Floats = np.maximum(1 + bent * excess / scale, 1e-300) ** (-1 / bent)
    return survival
