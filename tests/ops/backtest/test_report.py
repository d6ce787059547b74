"""What a backtest's figures and report say, against the same counted by hand."""

import re
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from models.metrics import average_precision, roc_auc
from ops.jobs.backtest import BacktestOptions, BacktestResult, TrainingPass
from ops.jobs.challenge import RetrainingRules
from ops.jobs.report import write_report
from ops.jobs.report_figures import Figures, figures_of, precision_of_highest, scored_rows, whole_days
from ops.jobs.report_plots import wilson
from tests.models.synthetic import BEGIN, DAY, history

PAST = history(4_000, accounts=150, days=40, seed=2, frauds=0.05)
FRAUD = PAST.labels == 1
TIMES = PAST.events.occurred_at
#: A midnight, from which the first of two models scores.
FIRST, SECOND = (BEGIN // DAY + 11) * DAY, (BEGIN // DAY + 18) * DAY
OPTIONS = BacktestOptions(rules=RetrainingRules(label_horizon=timedelta(days=5), alerts_per_day=10))
LABELLED_UNTIL = int(TIMES[-1]) - 5 * DAY
PNG = b"\x89PNG\r\n"


def invented(kinds: tuple[str, str] = ("probability", "probability")) -> BacktestResult:
    """Scores that know the frauds a little; every flagged event opens an alert, but each third joins the one before."""
    draw = np.random.default_rng(0)
    score = np.clip(0.5 * FRAUD + draw.beta(1, 8, len(TIMES)), 0, 1)
    score[TIMES < FIRST] = np.nan
    flagged = score > 0.45
    rows = np.flatnonzero(flagged)
    alert = np.full(len(TIMES), -1, np.int64)
    alert[rows] = rows
    alert[rows[2::3]] = rows[1::3][: len(rows[2::3])]
    model = np.where(TIMES < FIRST, -1, np.where(TIMES < SECOND, 0, 1)).astype(np.int32)
    passes = (
        TrainingPass(FIRST, None, "fraud:1", "first model", "there was no champion"),
        TrainingPass(SECOND, "fraud:1", "fraud:2", "promote", "better <than> before"),
        TrainingPass(SECOND + 7 * DAY, "fraud:2", "fraud:3", "refuse", "worse"),
    )
    threshold = np.where(TIMES < FIRST, np.nan, 0.45)
    return BacktestResult(score, threshold, flagged, alert, model, ("fraud:1", "fraud:2"), kinds, passes)


def figures(result: BacktestResult, *, labelled: bool = True) -> Figures:
    return figures_of(PAST.events, FRAUD if labelled else None, OPTIONS, result)


def test_quality_is_that_of_scored_events_whose_label_had_time_to_come() -> None:
    result = invented()
    quality = figures(result).quality
    judged = (FIRST <= TIMES) & (LABELLED_UNTIL >= TIMES)
    assert quality is not None
    assert (quality.events, quality.frauds) == (judged.sum(), FRAUD[judged].sum())
    assert quality.average_precision == pytest.approx(average_precision(result.score[judged], FRAUD[judged]))
    assert quality.auc == pytest.approx(roc_auc(result.score[judged], FRAUD[judged]))


def test_scores_of_another_kind_than_the_last_models_are_left_out_over_all_but_not_in_their_weeks() -> None:
    found = figures(invented(("surprise", "probability")))
    assert found.quality is not None
    assert found.quality.events == ((SECOND <= TIMES) & (LABELLED_UNTIL >= TIMES)).sum()
    assert found.weeks[0].quality is not None
    assert found.weeks[0].quality.events == ((FIRST <= TIMES) & (SECOND > TIMES)).sum()


def test_alerts_are_counted_by_whole_days_and_right_where_one_of_their_events_is_a_fraud() -> None:
    result = invented()
    found = figures(result)
    days = np.arange(FIRST // DAY, TIMES[-1] // DAY)
    opened = [int((result.opened & (day == TIMES // DAY)).sum()) for day in days]
    assert found.daily.opened.tolist() == opened
    assert found.alerts_per_day == pytest.approx(np.mean(opened))
    members = {
        row: FRAUD[result.alert == row].any() for row in np.flatnonzero(result.opened & (LABELLED_UNTIL >= TIMES))
    }
    assert found.alert_precision == pytest.approx(np.mean(list(members.values())))
    judged_frauds = FRAUD & (FIRST <= TIMES) & (LABELLED_UNTIL >= TIMES)
    assert found.alert_recall == pytest.approx(result.flagged[judged_frauds].mean())


def test_a_week_has_its_days_its_models_and_its_own_quality() -> None:
    weeks = figures(invented()).weeks
    assert [week.models for week in weeks[:2]] == [("fraud:1",), ("fraud:2",)]
    assert [week.day for week in weeks] == list(range(FIRST // DAY, TIMES[-1] // DAY, 7))
    assert [week.days for week in weeks[:-1]] == [7] * (len(weeks) - 1)
    assert weeks[-1].quality is None  # its labels could not come in time
    first = (FIRST <= TIMES) & (FIRST + 7 * DAY > TIMES)
    assert weeks[0].quality is not None
    assert weeks[0].quality.frauds == FRAUD[first].sum()


@pytest.mark.parametrize(("budget", "expected"), [(1, 1.0), (2, 0.75), (3, 2 / 3), (4, 0.5), (9, 0.5), (0.2, 1.0)])
def test_precision_of_the_highest_takes_equal_scores_in_their_mean(budget: float, expected: float) -> None:
    score, fraud = np.array([0.1, 0.9, 0.5, 0.5]), np.array([False, True, False, True])
    assert precision_of_highest(score, fraud, budget) == pytest.approx(expected)


def test_a_day_is_whole_where_it_was_scored_from_its_first_minutes_to_its_last() -> None:
    minute = 60_000
    assert whole_days(np.array([DAY + 5 * minute, 4 * DAY - 5 * minute])).tolist() == [1, 2, 3]
    assert whole_days(np.array([DAY + 40 * minute, 4 * DAY - 40 * minute])).tolist() == [2]


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson(np.array([0.0, 0.5]), np.array([10, 10]))
    np.testing.assert_allclose(low, [0.0, 0.2366], atol=1e-4)
    np.testing.assert_allclose(high, [0.2775, 0.7634], atol=1e-4)


@pytest.mark.slow
def test_the_report_holds_the_figures_and_its_plots_and_needs_no_network(tmp_path: Path) -> None:
    result = invented()
    found = figures(result)
    files = write_report(tmp_path, found, scored_rows(PAST.events, FRAUD, OPTIONS, result), OPTIONS, result)
    html = (tmp_path / "report.html").read_text()
    assert found.quality is not None
    for text in (
        f"{found.quality.average_precision:.3f}",
        f"{found.quality.auc:.3f}",
        f"{found.quality.precision_at_budget:.1%}",
        f"{found.alerts_per_day:.1f}",
        f"{found.quality.events:,}",
        "2 of 3",
        "better &lt;than&gt; before",
    ):
        assert f">{text}<" in html or f" {text} " in html
    for week in found.weeks[:3]:
        assert week.quality is not None
        assert f"<td>{week.quality.average_precision:.3f}</td>" in html
    inside = [b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    beside = [(tmp_path / name).read_bytes() for name in files[1:]]
    assert inside == beside
    assert len(inside) == 5
    assert all(picture.startswith(PNG) for picture in inside)
    assert not re.search(r"https?://|<script|<link", html)


def test_without_labels_the_report_shows_scores_and_alerts_and_says_why_no_more(tmp_path: Path) -> None:
    result = invented(("surprise", "surprise"))
    found = figures(result, labelled=False)
    files = write_report(tmp_path, found, scored_rows(PAST.events, None, OPTIONS, result), OPTIONS, result)
    assert files == ["report.html", "scores_and_alerts.png"]
    assert "No labels were given" in (tmp_path / "report.html").read_text()
    assert found.as_json()["alert_precision"] is None
    assert "average_precision" not in found.as_json()


def test_figures_that_are_no_numbers_are_null_in_json() -> None:
    nothing_flagged = replace(invented(), flagged=np.zeros(len(TIMES), np.bool_), alert=np.full(len(TIMES), -1))
    found = figures(nothing_flagged).as_json()
    assert (found["alert_precision"], found["alerts_per_day"], found["alert_recall"]) == (None, 0.0, 0.0)
