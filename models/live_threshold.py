"""The threshold that a rule gives at a moment, from what was counted of all scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.alert_budget import TAIL_DAYS, budget_threshold
from models.alert_rule import AlertRule
from models.score_counts import BINS, MILLISECONDS_AN_HOUR, ScoreHistory
from models.thresholds import extreme_value_threshold, threshold_for_precision

#: Under which name a model notes the thresholds of `thresholds_by_precision`.
PRECISION_NOTE = "thresholds_by_precision"


@dataclass(frozen=True, slots=True)
class ModelThresholds:
    """What is known of a model apart from its scores: the threshold it was registered with, the budget that this was
    for (None: unknown), and its notes."""

    model: str
    registered: float
    alerts_per_day: float | None
    notes: Mapping[str, Any]


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
