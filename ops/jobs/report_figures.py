"""What a backtest says in numbers: quality against labels, alerts against the budget, over all and week by week.

Quality is about events that were scored and whose label had time to come before the history ends; a matured event
without a label counts as legitimate. Over all, scores are compared that are of one kind, probability or surprise: that
of the last model. Alerts are about all scored events. Days and weeks are those of UTC; only whole days count where
something is said per day.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.events import MILLISECONDS_A_DAY, Events
from models.labels import milliseconds
from models.metrics import average_precision, calibration_error, roc_auc
from ops.jobs.backtest import BacktestOptions, BacktestResult, day_of

DAYS_A_WEEK = 7
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Quality:
    """Of some scored events: NaN for what they cannot tell. precision_at_budget: of each whole day's highest scores, as
    many as the budget allows, the share of frauds, as the mean over days."""

    events: int
    frauds: int
    average_precision: float
    auc: float
    precision_at_budget: float


@dataclass(frozen=True, slots=True)
class Week:
    """day: the first, in days since 1970; days: how many, whole and scored. quality: None without labels."""

    day: int
    days: int
    alerts_per_day: float
    models: tuple[str, ...]
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class Daily:
    """day int64[d] (days since 1970), whole scored days; opened int64[d]; right float64[d]: the share of the alerts
    opened that day which hold a fraud, at_budget float64[d]: as in Quality; both NaN where labels are missing."""

    day: Days
    opened: npt.NDArray[np.int64]
    right: Floats
    at_budget: Floats


@dataclass(frozen=True, slots=True)
class Figures:
    """alert_precision: the share of opened alerts that hold a fraud; alert_recall: the share of frauds that an alert
    holds; calibration_error: of scores that are probabilities. What is about quality is None or NaN without labels."""

    events: int
    scored: int
    alert_budget: float
    alerts_per_day: float
    alert_precision: float
    alert_recall: float
    calibration_error: float
    quality: Quality | None
    daily: Daily
    weeks: tuple[Week, ...]

    def as_json(self) -> dict[str, Any]:
        """What is no number is null."""
        found = {
            **{name: getattr(self, name) for name in ("events", "scored", "alert_budget", "alerts_per_day")},
            **{name: getattr(self, name) for name in ("alert_precision", "alert_recall", "calibration_error")},
            **_quality_json(self.quality),
            "weeks": [
                {
                    "begin": day_of(week.day * MILLISECONDS_A_DAY),
                    "days": week.days,
                    "alerts_per_day": week.alerts_per_day,
                    "models": list(week.models),
                    **_quality_json(week.quality),
                }
                for week in self.weeks
            ],
        }
        cleaned: dict[str, Any] = _without_nan(found)
        return cleaned


@dataclass(frozen=True, slots=True)
class Scored:
    """The k rows that a model scored, with what belongs to them. judged bool[k]: their labels had time to come; right
    bool[k]: for a row that opened an alert, whether the alert holds a fraud; probability bool[k]: the kind of score."""

    time: npt.NDArray[np.int64]
    score: Floats
    fraud: Flags
    judged: Flags
    flagged: Flags
    opened: Flags
    right: Flags
    probability: Flags
    model: npt.NDArray[np.int32]

    @property
    def day(self) -> Days:
        return self.time // MILLISECONDS_A_DAY

    @property
    def compared(self) -> Flags:
        """bool[k]: judged, with a score of the last model's kind."""
        chosen: Flags = self.judged & (self.probability == self.probability[-1])
        return chosen


def figures_of(events: Events, fraud: Flags | None, options: BacktestOptions, result: BacktestResult) -> Figures:
    scored = scored_rows(events, fraud, options, result)
    budget = options.alerts_per_day
    daily = daily_figures(scored, budget)
    judged_alerts = scored.opened & scored.judged
    probability = scored.probability & scored.judged
    return Figures(
        events=len(events),
        scored=len(scored.time),
        alert_budget=budget,
        alerts_per_day=_mean(daily.opened),
        alert_precision=_mean(scored.right[judged_alerts]),
        alert_recall=_mean(scored.flagged[scored.judged & scored.fraud]),
        calibration_error=calibration_error(scored.score[probability], scored.fraud[probability])
        if probability.any()
        else math.nan,
        quality=None if fraud is None else quality_of(scored, scored.compared, daily.at_budget),
        daily=daily,
        weeks=tuple(weekly(scored, daily, result, labelled=fraud is not None)),
    )


def scored_rows(events: Events, fraud: Flags | None, options: BacktestOptions, result: BacktestResult) -> Scored:
    rows = np.flatnonzero(np.isfinite(result.score))
    truth = np.zeros(len(events), np.bool_) if fraud is None else fraud
    time = events.occurred_at
    matured = time <= int(time[-1]) - milliseconds(options.rules.label_horizon)
    right = np.zeros(len(events), np.bool_)
    right[result.alert[(result.alert >= 0) & truth]] = True
    return Scored(
        time[rows],
        result.score[rows],
        truth[rows],
        (matured & (fraud is not None))[rows],
        result.flagged[rows],
        result.opened[rows],
        right[rows],
        np.array([kind == "probability" for kind in result.score_kinds])[result.model[rows]],
        result.model[rows],
    )


def quality_of(scored: Scored, chosen: Flags, at_budget: Floats) -> Quality:
    """Of the chosen rows; at_budget: of the days that they cover."""
    score, fraud = scored.score[chosen], scored.fraud[chosen]
    return Quality(
        events=int(chosen.sum()),
        frauds=int(fraud.sum()),
        average_precision=average_precision(score, fraud),
        auc=roc_auc(score, fraud),
        precision_at_budget=_mean(at_budget[np.isfinite(at_budget)]),
    )


def daily_figures(scored: Scored, budget: float) -> Daily:
    day = scored.day
    whole = whole_days(scored.time)
    opened = np.array([int(scored.opened[day == one].sum()) for one in whole], np.int64)
    right, at_budget = np.full(len(whole), np.nan), np.full(len(whole), np.nan)
    for place, one in enumerate(whole.tolist()):
        today = day == one
        if not scored.judged[today].all():
            continue
        if opened[place]:
            right[place] = scored.right[today & scored.opened].mean()
        at_budget[place] = precision_of_highest(scored.score[today], scored.fraud[today], budget)
    return Daily(whole, opened, right, at_budget)


def whole_days(time: npt.NDArray[np.int64]) -> Days:
    """The days of UTC between the first and the last event. A first day counts as whole where it was joined within
    its first minutes, as after a training at midnight."""
    minutes = 15 * 60_000
    first, last = -(-(int(time[0]) - minutes) // MILLISECONDS_A_DAY), int(time[-1] + minutes) // MILLISECONDS_A_DAY
    return np.arange(first, last, dtype=np.int64)


def precision_of_highest(score: Floats, fraud: Flags, budget: float) -> float:
    """The share of frauds among the highest scores, as many as the budget; of equal scores at its end, their mean."""
    count = min(max(round(budget), 1), len(score))
    ordered = np.sort(score)[::-1]
    lowest = ordered[count - 1]
    above, equal = score > lowest, score == lowest
    return float((fraud[above].sum() + (count - above.sum()) * fraud[equal].mean()) / count)


def weekly(scored: Scored, daily: Daily, result: BacktestResult, *, labelled: bool) -> Iterator[Week]:
    """From the first whole day on; the last week may be shorter."""
    for first in range(0, len(daily.day), DAYS_A_WEEK):
        part = slice(first, first + DAYS_A_WEEK)
        days = daily.day[part]
        inside = (scored.day >= days[0]) & (scored.day <= days[-1])
        chosen = inside & scored.judged
        yield Week(
            day=int(days[0]),
            days=len(days),
            alerts_per_day=_mean(daily.opened[part]),
            models=tuple(result.models[number] for number in np.unique(scored.model[inside]).tolist()),
            quality=quality_of(scored, chosen, daily.at_budget[part]) if labelled and chosen.any() else None,
        )


def _quality_json(quality: Quality | None) -> dict[str, Any]:
    """Beside "events" of the whole, the events that could be judged."""
    if quality is None:
        return {}
    found = asdict(quality)
    return {"judged": found.pop("events"), **found}


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
