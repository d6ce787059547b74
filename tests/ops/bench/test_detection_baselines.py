"""What the baselines may know: nothing of a fraud before its label, and nothing at all where they take no label.

How good they are is not asserted but for the data's easiest kind: a large amount is a fraud."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from models.metrics import roc_auc
from ops.bench import boosted_trees
from ops.bench.detection_baselines import (
    half_space_trees,
    half_space_trees_of_amounts,
    river_logistic_regression,
    trees_of_folds,
    xgboost_scores,
)
from ops.bench.handbook_features import published_features
from ops.bench.handbook_protocol import END_DAY, FOLDS
from ops.bench.measure import BenchmarkFailed
from ops.bench.packages import package
from ops.simulate.handbook import HandbookConfig, HandbookTransactions, handbook_transactions

Floats = npt.NDArray[np.float64]
Baseline = Callable[[HandbookTransactions, Floats, Callable[[str, float], None]], Floats]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted_trees, "TREES", 10)


@pytest.fixture(scope="module")
def data() -> HandbookTransactions:
    return handbook_transactions(HandbookConfig(customers=60, terminals=400, seed=2)).until_day(END_DAY)


@pytest.fixture(scope="module")
def features(data: HandbookTransactions) -> Floats:
    return published_features(data)


def scored(baseline: Baseline, data: HandbookTransactions, features: Floats) -> Floats:
    """Also sees that progress comes to its end and that every tested transaction has a score."""
    told: list[float] = []
    scores = baseline(data, features, lambda stage, share: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert np.isfinite(scores[data.day >= FOLDS[0].test_day]).all()
    return scores


def with_labels_from(data: HandbookTransactions, day: int) -> HandbookTransactions:
    """The same with every label from a day on turned around."""
    scenario = np.where(data.day >= day, ~data.fraud, data.fraud).astype(np.int8)
    return HandbookTransactions(data.seconds, data.customer, data.terminal, data.amount, scenario)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [xgboost_scores, trees_of_folds, river_logistic_regression])
def test_labels_count_a_week_after_their_transaction_and_not_before(
    baseline: Baseline, data: HandbookTransactions, features: Floats
) -> None:
    """The features stay as they are: only what is learned from is another thing."""
    fold = FOLDS[1]
    scores = scored(baseline, data, features)
    unknown = scored(baseline, with_labels_from(data, fold.training_end), features)
    first_test_day, known = data.day == fold.test_day, data.day < fold.test_day
    assert (unknown[known & np.isfinite(scores)] == scores[known & np.isfinite(scores)]).all()
    learned = scored(baseline, with_labels_from(data, fold.training_end - 1), features)
    assert (learned[first_test_day] != scores[first_test_day]).any()


def test_xgboost_learns_from_the_training_week_alone(data: HandbookTransactions, features: Floats) -> None:
    fold = FOLDS[0]
    before = features.copy()
    before[data.day < fold.training_day] = 0.0
    tested = np.isin(data.day, fold.test_days)
    assert (scored(xgboost_scores, data, before)[tested] == scored(xgboost_scores, data, features)[tested]).all()


@pytest.mark.parametrize("baseline", [half_space_trees, half_space_trees_of_amounts])
def test_half_space_trees_take_no_label(baseline: Baseline, data: HandbookTransactions, features: Floats) -> None:
    others = with_labels_from(data, 0)
    scores = scored(baseline, data, features)
    same = scored(baseline, others, published_features(others))
    assert (published_features(others) != features).any()
    assert np.array_equal(scores, same, equal_nan=True)


@pytest.mark.parametrize("baseline", [xgboost_scores, river_logistic_regression, half_space_trees_of_amounts])
def test_large_amounts_stand_out(baseline: Baseline, data: HandbookTransactions, features: Floats) -> None:
    scores, tested = scored(baseline, data, features), data.day >= FOLDS[0].test_day
    large, honest = data.amount > 220, ~data.fraud
    of_interest = tested & (large | honest)
    assert (of_interest & large).sum() > 5
    assert roc_auc(scores[of_interest], large[of_interest]) > 0.85


def test_an_absent_package_is_one_line_that_says_what_to_install() -> None:
    with pytest.raises(BenchmarkFailed, match=r"nowhere is not installed; install headgate\[bench\]"):
        package("nowhere.to_be_found")
