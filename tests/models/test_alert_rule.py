"""Rules for thresholds: how they are written, and which threshold each gives."""

import numpy as np
import pytest

from models.alert_budget import budget_threshold
from models.alert_rule import AlertRule, parse_rule
from models.live_threshold import PRECISION_NOTE, ModelThresholds, rule_threshold
from models.score_counts import ScoreHistory, count_scores
from models.thresholds import extreme_value_threshold

HOUR = 3_600_000
MODEL = ModelThresholds("fraud:1", 0.5, alerts_per_day=20.0, notes={PRECISION_NOTE: [0.1] * 50 + [0.4] * 30})


def history(*, hours_ago: int = 0) -> ScoreHistory:
    odds = np.random.default_rng(0).exponential(1.0, 50_000) - 6
    no = np.zeros(len(odds), bool)
    kept = ScoreHistory()
    times = np.full(len(odds), (1_000 - hours_ago) * HOUR)
    kept.add("fraud:1", count_scores(times, 1 / (1 + np.exp(-odds)), no, no))
    return kept


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("budget", AlertRule("budget")),
        ("budget:250", AlertRule("budget", 250.0)),
        (" precision:0.8 ", AlertRule("precision", 0.8)),
        ("anomaly:1e-4", AlertRule("anomaly", 1e-4)),
        ("registered", AlertRule("registered")),
    ],
)
def test_a_rule_is_its_name_and_its_number(text: str, rule: AlertRule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must begin with one of budget, precision, anomaly, registered"),
        ("precision", "needs a number"),
        ("precision:1", "between 0.01 and 0.99"),
        ("anomaly:0.5", "between 1e-09 and 0.1"),
        ("budget:-1", "between 0 and inf"),
        ("budget:inf", "between 0 and inf"),
        ("budget:nan", "between 0 and inf"),
        ("budget:many", "'many' is no number"),
        ("registered:1", "takes no number"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_rule(text)


def test_a_budget_without_a_number_is_the_model_s_own() -> None:
    counted = history()
    own = budget_threshold(counted, "fraud:1", 0.5, 20.0, 1_001 * HOUR)
    assert rule_threshold(AlertRule("budget"), counted, MODEL, 1_001 * HOUR) == own
    assert rule_threshold(AlertRule("budget", 2_000.0), counted, MODEL, 1_001 * HOUR) != own
    unknown = ModelThresholds("fraud:1", 0.5, None, {})
    assert rule_threshold(AlertRule("budget"), counted, unknown, 1_001 * HOUR) is None


def test_a_precision_is_looked_up_in_what_the_model_noted() -> None:
    assert rule_threshold(AlertRule("precision", 0.5), ScoreHistory(), MODEL, 0) == 0.1
    assert rule_threshold(AlertRule("precision", 0.51), ScoreHistory(), MODEL, 0) == 0.4
    assert rule_threshold(AlertRule("precision", 0.9), ScoreHistory(), MODEL, 0) is None
    assert rule_threshold(AlertRule("precision", 0.5), ScoreHistory(), ModelThresholds("m", 0.5, 1, {}), 0) is None


def test_an_anomaly_s_threshold_is_that_of_the_last_week_s_scores() -> None:
    rule, counted = AlertRule("anomaly", 1e-3), history()
    expected = extreme_value_threshold(counted.models["fraud:1"][1_000].bins, 1e-3)
    assert expected is not None
    assert rule_threshold(rule, counted, MODEL, 1_001 * HOUR) == expected
    assert rule_threshold(rule, history(hours_ago=200), MODEL, 1_001 * HOUR) is None
    assert rule_threshold(AlertRule("registered"), counted, MODEL, 1_001 * HOUR) is None
