"""How many events had which score in which hour: small counts that add up over batches, partitions and workers.

Scores are counted on the scale of log-odds, where they have no end that they could crowd at, in bins of equal width:
fine enough for a threshold that few events in a million reach. Times are event times, hours and days those of UTC.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

MILLISECONDS_AN_HOUR = 3_600_000
#: Log-odds of the lowest edge, and the width of a bin. What is lower counts in the first bin, what is higher in the
#: last. Calibrated scores lie between -35 and 36 (models/calibration.py).
LOWEST, WIDTH, BINS = -14.0, 0.1, 500
#: Lower edges of the bins.
EDGES: Floats = LOWEST + WIDTH * np.arange(BINS, dtype=np.float64)
#: The nearest to 0 and 1 that log-odds are taken of.
TINY = 1e-16


@dataclass(slots=True)
class HourCounts:
    """One model's events of one hour. flagged and opened: of these events, how many reached the threshold, and how
    many opened an alert; latest: epoch milliseconds of the latest; bins int64[BINS]: events by score."""

    events: int
    flagged: int
    opened: int
    latest: int
    bins: Counts

    def add(self, other: "HourCounts") -> None:
        self.events += other.events
        self.flagged += other.flagged
        self.opened += other.opened
        self.latest = max(self.latest, other.latest)
        self.bins += other.bins


def nothing() -> HourCounts:
    return HourCounts(0, 0, 0, 0, np.zeros(BINS, np.int64))


def log_odds(scores: Floats) -> Floats:
    """Of scores in 0..1; finite, since scores at the ends are taken as just within."""
    odds: Floats = np.log(np.maximum(scores, TINY)) - np.log(np.maximum(1.0 - scores, TINY))
    return odds


def probability(odds: float) -> float:
    """The score with these log-odds."""
    return float(1 / (1 + np.exp(-odds)))


def count_scores(
    occurred_at: npt.NDArray[np.int64],
    scores: Floats,
    flagged: npt.NDArray[np.bool_],
    opened: npt.NDArray[np.bool_],
) -> dict[int, HourCounts]:
    """Epoch hour -> counts of these events, each array [n]. Events without a score (NaN) are left out."""
    if not len(scores):
        return {}
    known = np.isfinite(scores)
    if not known.all():
        occurred_at, scores, flagged, opened = occurred_at[known], scores[known], flagged[known], opened[known]
    bins = ((log_odds(scores) - LOWEST) / WIDTH).astype(np.int64).clip(0, BINS - 1)
    hours = occurred_at // MILLISECONDS_AN_HOUR
    if not len(hours):
        return {}
    if hours[0] == hours[-1] and (hours == hours[0]).all():
        return {int(hours[0]): _counted(occurred_at, bins, flagged, opened)}
    order = np.argsort(hours, kind="stable")
    cuts = np.flatnonzero(np.diff(hours[order])) + 1
    counted = {}
    for first, stop in pairwise([0, *cuts.tolist(), len(order)]):
        rows = order[first:stop]
        counted[int(hours[rows[0]])] = _counted(occurred_at[rows], bins[rows], flagged[rows], opened[rows])
    return counted


def _counted(
    occurred_at: npt.NDArray[np.int64], bins: Counts, flagged: npt.NDArray[np.bool_], opened: npt.NDArray[np.bool_]
) -> HourCounts:
    return HourCounts(
        events=len(bins),
        flagged=int(np.count_nonzero(flagged)),
        opened=int(np.count_nonzero(opened)),
        latest=int(occurred_at.max()),
        bins=np.bincount(bins, minlength=BINS),
    )


def add_counts(into: dict[int, HourCounts], counts: Mapping[int, HourCounts]) -> None:
    """Adds each hour's counts to those that are there; `counts` stays as it is."""
    for hour, counted in counts.items():
        into.setdefault(hour, nothing()).add(counted)


class ScoreHistory:
    """Counts of the last weeks by model and hour."""

    def __init__(self) -> None:
        self.models: dict[str, dict[int, HourCounts]] = {}

    def add(self, model: str, counts: Mapping[int, HourCounts]) -> None:
        add_counts(self.models.setdefault(model, {}), counts)

    @property
    def latest(self) -> int | None:
        """Epoch milliseconds of the latest event; None without one."""
        return max((c.latest for hours in self.models.values() for c in hours.values()), default=None)

    def forget_before(self, hour: int) -> None:
        for model in list(self.models):
            kept = {number: counts for number, counts in self.models[model].items() if number >= hour}
            if kept:
                self.models[model] = kept
            else:
                del self.models[model]

    def hours(self) -> Iterable[tuple[int, HourCounts]]:
        for hours in self.models.values():
            yield from hours.items()
