"""The rule by which a service chooses its threshold, and the threshold that it gives at a moment.

A rule is written as its name and its number: `budget`, `budget:100`, `precision:0.8`, `anomaly:0.0001`, `registered`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from models.alert_budget import TAIL_DAYS, budget_threshold
from models.score_counts import BINS, MILLISECONDS_AN_HOUR, ScoreHistory
from models.thresholds import PRECISIONS, extreme_value_threshold, threshold_for_precision

RuleName = Literal["budget", "precision", "anomaly", "registered"]
#: Under which name a model notes the thresholds of `thresholds_by_precision`.
PRECISION_NOTE = "thresholds_by_precision"
#: name -> smallest and largest number.
BOUNDS: Mapping[str, tuple[float, float]] = {
    "budget": (0.0, float("inf")),
    "precision": (float(PRECISIONS[0]), float(PRECISIONS[-1])),
    "anomaly": (1e-9, 0.1),
}


@dataclass(frozen=True, slots=True)
class AlertRule:
    """number: alerts per day (None: those that the model was trained for), the least precision, the share of ordinary
    events that may alert; None for the registered threshold."""

    name: RuleName = "budget"
    number: float | None = None


@dataclass(frozen=True, slots=True)
class ModelThresholds:
    """What is known of a model apart from its scores: the threshold it was registered with, the budget that this was
    for (None: unknown), and its notes."""

    model: str
    registered: float
    alerts_per_day: float | None
    notes: Mapping[str, Any]


def parse_rule(text: str) -> AlertRule:
    """Raises ValueError in words."""
    name, colon, number = text.strip().partition(":")
    if name not in get_args(RuleName):
        raise ValueError(f"must begin with one of {', '.join(get_args(RuleName))}; {name!r} does not")
    rule_name: RuleName = name  # type: ignore[assignment]
    if not colon:
        if name in ("precision", "anomaly"):
            raise ValueError(f"needs a number, as in {name}:{0.8 if name == 'precision' else 0.0001}")
        return AlertRule(rule_name)
    if name == "registered":
        raise ValueError("registered takes no number")
    least, most = BOUNDS[name]
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{number!r} is no number") from None
    if not least <= value <= most or value == float("inf"):
        raise ValueError(f"{name} must lie between {least:g} and {most:g}, not {number}")
    return AlertRule(rule_name, value)


def rule_threshold(rule: AlertRule, history: ScoreHistory, model: ModelThresholds, time: int) -> float | None:
    """At a moment of event time (epoch milliseconds); None where the rule cannot say yet, or not for this model, so
    that the registered threshold has to do."""
    if rule.name == "budget":
        budget = model.alerts_per_day if rule.number is None else rule.number
        return None if budget is None else budget_threshold(history, model.model, model.registered, budget, time)
    if rule.name == "precision":
        return threshold_for_precision(model.notes.get(PRECISION_NOTE, []), rule.number or 1.0)
    if rule.name == "anomaly":
        begin = time // MILLISECONDS_AN_HOUR - TAIL_DAYS * 24
        hours = history.models.get(model.model, {})
        bins = sum((counts.bins for hour, counts in hours.items() if hour >= begin), np.zeros(BINS, np.int64))
        return extreme_value_threshold(bins, rule.number or 0.0)
    return None
