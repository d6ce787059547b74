"""Curves, calibration bins and intervals against their plain definitions."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.curves import MOST_BINS, PrecisionRecall, calibration_bins, precision_recall, thinned
from models.intervals import MEASURES, RankedFrauds, draws, intervals
from models.metrics import average_precision, precision_at_threshold, roc_auc
from models.quality import quality_of

#: Few different scores, so that ties are common; (score, fraud, account).
rows = st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 4)), min_size=1, max_size=40)
Rows = list[tuple[int, bool, int]]
with_fraud = rows.filter(lambda of: any(fraud for _, fraud, _ in of))


def columns(of: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, fraud, account = zip(*of, strict=True)
    return np.array(scores) / 8, np.array(fraud, bool), np.array(account)


def plain(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20,000 events of 1,000 accounts, 2 % frauds; the score is the chance of a fraud."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(0.2, 9.8, 20_000)
    return scores, generator.random(20_000) < scores, generator.integers(0, 1_000, 20_000)


@given(with_fraud)
def test_a_curve_goes_from_the_highest_score_to_all_events_and_its_area_is_the_average_precision(of: Rows) -> None:
    scores, fraud, _ = columns(of)
    curve = precision_recall(scores, fraud)
    assert (np.diff(curve.recall) >= 0).all()
    assert (np.diff(curve.threshold) < 0).all()
    assert curve.threshold[[0, -1]].tolist() == [scores.max(), scores.min()]
    assert curve.precision[0] == fraud[scores == scores.max()].mean()
    assert (curve.recall[-1], curve.precision[-1]) == (1.0, fraud.mean())
    area = float((np.diff(curve.recall, prepend=0.0) * curve.precision).sum())
    assert area == pytest.approx(average_precision(scores, fraud))


def test_a_curve_needs_a_fraud() -> None:
    with pytest.raises(ValueError, match="no recall without a positive"):
        precision_recall(np.array([0.5]), np.array([False]))


def as_rows(curve: PrecisionRecall) -> list[tuple[float, float, float]]:
    columns = curve.recall.tolist(), curve.precision.tolist(), curve.threshold.tolist()
    return list(zip(*columns, strict=True))


@given(with_fraud, st.integers(2, 12))
def test_a_thinned_curve_is_some_of_its_points_with_both_ends(of: Rows, most: int) -> None:
    whole = as_rows(precision_recall(*columns(of)[:2]))
    few = as_rows(thinned(precision_recall(*columns(of)[:2]), most))
    assert (few[0], few[-1]) == (whole[0], whole[-1])
    assert len(few) <= most
    assert few == [point for point in whole if point in few]


def test_a_thinned_curve_keeps_the_shape_of_one_of_thousands_of_points() -> None:
    scores, fraud, _ = plain()
    whole = precision_recall(scores, fraud)
    few = thinned(whole)
    assert len(few.recall) == 100 < len(whole.recall) / 100
    apart = np.interp(whole.recall, few.recall, few.precision) - whole.precision
    assert np.abs(apart[whole.recall > 0.05]).max() < 0.05


@given(rows)
def test_calibration_bins_hold_every_event_once_in_like_numbers(of: Rows) -> None:
    scores, fraud, _ = columns(of)
    bins = calibration_bins(scores, fraud)
    sizes = [each.events for each in bins]
    assert len(bins) == min(MOST_BINS, len(of))
    assert sum(sizes) == len(of)
    assert max(sizes) - min(sizes) <= 1
    assert sum(each.fraud_share * each.events for each in bins) == pytest.approx(fraud.sum())
    assert sum(each.mean_score * each.events for each in bins) == pytest.approx(scores.sum())
    assert [each.mean_score for each in bins] == sorted(each.mean_score for each in bins)


@given(with_fraud, st.data())
def test_a_draw_measures_what_repeating_the_events_of_its_accounts_would(of: Rows, data: st.DataObject) -> None:
    scores, fraud, account = columns(of)
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5)))
    (found,) = RankedFrauds(scores, fraud, account, 0.5).measures(times[: account.max() + 1, None].astype(np.float32)).T
    repeated = np.repeat(np.arange(len(of)), times[account])
    again = scores[repeated], fraud[repeated]
    expected = [average_precision(*again), roc_auc(*again), precision_at_threshold(*again, 0.5)]
    assert found == pytest.approx(np.array(expected), nan_ok=True)


def test_a_draw_has_as_many_accounts_as_there_are() -> None:
    blocks = list(draws(7, 60, np.random.default_rng(0)))
    assert sum(block.shape[1] for block in blocks) == 60
    assert all((block.sum(axis=0) == 7).all() for block in blocks)


def test_intervals_hold_the_figures_and_are_the_same_again() -> None:
    scores, fraud, account = plain()
    found = intervals(scores, fraud, account, 0.2, np.random.default_rng(5))
    figures = (average_precision(scores, fraud), roc_auc(scores, fraud), precision_at_threshold(scores, fraud, 0.2))
    for name, figure in zip(MEASURES, figures, strict=True):
        low, high = found[name]
        assert low < figure < high < low + 0.2
    assert intervals(scores, fraud, account, 0.2, np.random.default_rng(5)) == found
    assert intervals(scores, fraud, account * 1_000, 0.2, np.random.default_rng(5)) == found
    assert intervals(scores, fraud, account, 0.2, np.random.default_rng(6)) != found


def test_accounts_that_repeat_themselves_make_the_intervals_wider() -> None:
    scores, fraud, account = plain()
    alone = intervals(scores, fraud, account, 0.2, np.random.default_rng(0))
    twice = (np.tile(column, 4) for column in (scores, fraud, account))
    together = intervals(*twice, 0.2, np.random.default_rng(0))
    for name in MEASURES:  # four times the events tell no more where they are the same accounts'
        assert together[name] == pytest.approx(alone[name], abs=0.01)


def test_too_few_accounts_with_a_fraud_have_no_intervals() -> None:
    scores, fraud, account = plain()
    assert intervals(scores, fraud & (account < 15), account, 0.2, np.random.default_rng(0)) == {}


def test_a_figure_that_most_draws_do_not_have_has_no_interval() -> None:
    scores, fraud, account = plain()
    assert set(intervals(scores, fraud, account, 2.0, np.random.default_rng(0))) == {"average_precision", "auc"}


@pytest.mark.parametrize("kind", ["probability", "surprise"])
def test_what_is_kept_is_json_and_scores_that_are_no_probabilities_have_no_calibration(kind: str) -> None:
    scores, fraud, account = plain()
    quality = quality_of(scores, fraud, account, 0.2, kind, np.random.default_rng(0))  # type: ignore[arg-type]
    kept = json.loads(json.dumps(quality.figures(), allow_nan=False))
    assert (kept["curves"]["events"], kept["curves"]["frauds"]) == (20_000, fraud.sum())
    assert (len(kept["curves"]["precision_recall"]), kept["curves"]["source"]) == (100, "training")
    assert len(kept["curves"]["calibration"]) == (20 if kind == "probability" else 0)
    assert set(kept["intervals"]) == set(MEASURES)
