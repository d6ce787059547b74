"""Whether live traffic has left what a model was trained on: inputs and scores by population stability, the level of
scores and the share of high ones by adaptive windows (ADWIN; Bifet and Gavaldà, 2007).

Pure functions of counts. What is sampled, and what happens when something drifted, is the streams' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.feature_schema import CYCLIC, FEATURES
from models.score_counts import EDGES, WIDTH, Counts, Floats, HourCounts, log_odds

#: Under which name a model notes its reference.
REFERENCE_NOTE = "drift_reference"
#: Quantile bins of each subject. Time of day and week, and how many events an account has had, are left out: they
#: always move.
BIN_COUNT = 10
ALWAYS_MOVING = (*CYCLIC, "history")
SUBJECTS = (*(name for name in FEATURES if name not in ALWAYS_MOVING), "score")
#: From which index on a distribution has moved a lot (the usual reading: below 0.1 little, from 0.25 on a lot).
STABILITY_BOUND = 0.25
#: Of so many sampled events at least, over so many different hours of a day.
LEAST_SAMPLED, LEAST_HOURS = 1_000, 20
#: Shares are taken as at least this, so that an empty bin is no infinite change.
LEAST_SHARE = 1e-4
#: A change of an hourly level counts from so many of its usual deviations on, once ADWIN is this sure of it.
CHANGE_BOUND, CONFIDENCE = 1.0, 0.002
#: Hours with fewer events say too little, and as many hours make a series.
LEAST_EVENTS_AN_HOUR, LEAST_SERIES = 20, 72
HOURS = 24


@dataclass(frozen=True, slots=True)
class Found:
    """A subject's distance from what is usual, which has drifted if it is above the bound."""

    detector: str
    subject: str
    value: float
    bound: float

    @property
    def drifted(self) -> bool:
        return self.value > self.bound


def reference_bins(features: npt.NDArray[np.float32], scores: Floats) -> dict[str, dict[str, list[float]]]:
    """Subject -> inner edges of its bins and the share of events in each, as JSON takes it. features float32[n, F] in
    the order of feature_schema.FEATURES and scores float64[n] of the events of the training's latest part."""
    reference = {}
    for subject, values in _columns(features, scores).items():
        edges = np.unique(np.quantile(values, np.arange(1, BIN_COUNT) / BIN_COUNT))
        shares = _counted(values, edges) / max(len(values), 1)
        reference[subject] = {"edges": edges.tolist(), "shares": shares.tolist()}
    return reference


class SampledInputs:
    """Sampled events by hour of event time, in the bins of a model's reference, over the last 24 hours."""

    def __init__(self, reference: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        self._edges = {name: np.array(bins["edges"]) for name, bins in reference.items() if name in SUBJECTS}
        self._shares = {name: np.array(reference[name]["shares"]) for name in self._edges}
        self._hours: dict[int, dict[str, Counts]] = {}
        self._sampled: dict[int, int] = {}

    def add(self, hour: int, features: npt.NDArray[np.float32], scores: Floats) -> None:
        """Events of one epoch hour: float32[n, F], float64[n]."""
        if hour <= max(self._hours, default=hour) - HOURS:
            return
        counts = self._hours.setdefault(hour, {})
        columns = _columns(features, scores)
        for name, edges in self._edges.items():
            counts[name] = counts.get(name, np.zeros(len(edges) + 1, np.int64)) + _counted(columns[name], edges)
        self._sampled[hour] = self._sampled.get(hour, 0) + len(scores)
        for old in [known for known in self._hours if known <= max(self._hours) - HOURS]:
            del self._hours[old], self._sampled[old]

    def stability(self) -> list[Found]:
        """Of each subject; empty until a day was sampled."""
        if sum(self._sampled.values()) < LEAST_SAMPLED or len(self._hours) < LEAST_HOURS:
            return []
        found = []
        for name, shares in self._shares.items():
            counts = np.sum([hour[name] for hour in self._hours.values()], axis=0)
            found.append(Found("psi", name, stability_index(shares, counts), STABILITY_BOUND))
        return found


def stability_index(reference_shares: Floats, counts: Counts) -> float:
    """The population stability index of k bins: 0 for the same shares, rising without end as they part."""
    expected = np.maximum(reference_shares, LEAST_SHARE)
    found = np.maximum(counts / max(int(counts.sum()), 1), LEAST_SHARE)
    return float(((found - expected) * np.log(found / expected)).sum())


def level_changes(hours: Mapping[int, HourCounts], own_threshold: float) -> list[Found]:
    """Whether the latest day of a model's hours (epoch hour -> counts) differs from the ones before: in the mean of the
    scores' log-odds, and in the share of events at or above the model's own threshold. Empty for a short history."""
    known = sorted(hour for hour, counts in hours.items() if counts.events >= LEAST_EVENTS_AN_HOUR)
    if len(known) < LEAST_SERIES:
        return []
    bins = np.stack([hours[hour].bins for hour in known])
    events = bins.sum(1)
    mean = bins @ (EDGES + WIDTH / 2) / events
    lowest = log_odds(np.array([own_threshold]))[0] - WIDTH / 2
    high = bins[:, lowest <= EDGES].sum(1)
    # The root makes the scatter of a rare count about the same at every level.
    series = {"score": mean, "alerts": np.sqrt(high / events)}
    return [
        Found("adwin", subject, latest_change(np.array(known), values), CHANGE_BOUND)
        for subject, values in series.items()
    ]


def latest_change(hours: Counts, values: Floats) -> float:
    """By how many usual deviations the level changed within the latest day, 0 where nothing is sure. hours int64[n]
    rising; each hour is compared with the same hour of other days, so a daily rhythm is no change."""
    from river.drift import ADWIN  # here, since it takes seconds

    usual = np.zeros(HOURS)
    for hour in range(HOURS):
        same = values[hours % HOURS == hour]
        usual[hour] = np.median(same) if len(same) else 0.0
    apart = values - usual[hours % HOURS]
    deviation = max(1.4826 * float(np.median(np.abs(apart))), 1e-9)
    level, changed = apart / deviation, False
    window = ADWIN(delta=CONFIDENCE, clock=1)  # type: ignore[no-untyped-call]
    for hour, value in zip(hours.tolist(), level.tolist(), strict=True):
        window.update(value)  # type: ignore[no-untyped-call]
        changed = changed or (window.drift_detected and hour > hours[-1] - HOURS)
    kept = len(level) - int(window.width)
    return abs(float(level[kept:].mean() - level[:kept].mean())) if changed and 0 < kept < len(level) else 0.0


def _columns(features: npt.NDArray[np.float32], scores: Floats) -> dict[str, Floats]:
    columns = {name: features[:, place].astype(np.float64) for place, name in enumerate(FEATURES) if name in SUBJECTS}
    return columns | {"score": scores}


def _counted(values: Floats, edges: Floats) -> Counts:
    """int64[k + 1] events below the first of k edges, between the others, and at or above the last."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
