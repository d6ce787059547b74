"""Metrics against their plain definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import average_precision, calibration_error, precision_at_threshold, roc_auc

#: Few different scores, so that ties are common.
rows = st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=40)
Rows = list[tuple[int, bool]]


def columns(of: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 8 for score, _ in of], float), np.array([positive for _, positive in of], bool)


def plain_average_precision(of: Rows) -> float:
    positives, result, recall = sum(positive for _, positive in of), 0.0, 0.0
    for threshold in sorted({score for score, _ in of}, reverse=True):
        taken = [positive for score, positive in of if score >= threshold]
        result += (sum(taken) / positives - recall) * sum(taken) / len(taken)
        recall = sum(taken) / positives
    return result


def plain_auc(of: Rows) -> float:
    high, low = [s for s, positive in of if positive], [s for s, positive in of if not positive]
    return sum((a > b) + (a == b) / 2 for a in high for b in low) / (len(high) * len(low))


@given(rows)
def test_average_precision_is_its_definition(of: Rows) -> None:
    if any(positive for _, positive in of):
        assert average_precision(*columns(of)) == pytest.approx(plain_average_precision(of))
    else:
        assert math.isnan(average_precision(*columns(of)))


@given(rows)
def test_auc_is_the_chance_that_a_positive_scores_above_a_negative(of: Rows) -> None:
    if len({positive for _, positive in of}) == 2:
        assert roc_auc(*columns(of)) == pytest.approx(plain_auc(of))
    else:
        assert math.isnan(roc_auc(*columns(of)))


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(of: Rows, random: object) -> None:
    shuffled = list(of)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in (average_precision, roc_auc):
        assert metric(*columns(shuffled)) == pytest.approx(metric(*columns(of)), nan_ok=True)


def test_a_perfect_ranking_has_an_average_precision_and_an_auc_of_1() -> None:
    scores, positive = np.array([0.1, 0.9, 0.2, 0.8]), np.array([False, True, False, True])
    assert average_precision(scores, positive) == roc_auc(scores, positive) == 1.0


def test_precision_at_a_threshold_counts_scores_at_it_too() -> None:
    scores, positive = np.array([0.5, 0.5, 0.4]), np.array([True, False, True])
    assert precision_at_threshold(scores, positive, 0.5) == 0.5
    assert math.isnan(precision_at_threshold(scores, positive, 0.6))


def test_scores_that_are_the_true_shares_have_no_calibration_error() -> None:
    scores = np.repeat([0.2, 0.8], 10)
    positive = np.array([True] * 2 + [False] * 8 + [True] * 8 + [False] * 2)
    assert calibration_error(scores, positive, bins=2) == pytest.approx(0)
    assert calibration_error(1 - scores, positive, bins=2) == pytest.approx(0.6)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0
