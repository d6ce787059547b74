"""The plots of a backtest's report, each a matplotlib figure; no display and no global state of pyplot.

Each plot says what it shows in its title and axes; what the figures are about is the report's business.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib.dates
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from models.events import MILLISECONDS_A_DAY
from ops.jobs.backtest import BacktestResult
from ops.jobs.report_figures import DAYS_A_WEEK, Daily, Figures, Floats, Scored, Week

INK, BLUE, ORANGE, GREY = "#1f2933", "#1f6feb", "#d9480f", "#9aa5b1"
QUANTILES = ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"))
#: Scores are drawn within these bounds: on a scale of odds 0 and 1 are infinitely far away.
LOWEST, HIGHEST = 1e-5, 1 - 1e-5
CALIBRATION_EDGES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
#: Points of a curve; more than the picture has dots tell nothing.
MOST_POINTS = 2_000
DOTS_PER_INCH = 110


def plots(figures: Figures, scored: Scored, result: BacktestResult) -> Mapping[str, Figure]:
    """By the name of their file, in the order of the report; those that need labels only where there are some."""
    made: dict[str, Figure] = {}
    if figures.quality is not None and figures.quality.frauds:
        made["quality_by_week"] = quality_by_week(figures.weeks, result)
        made["precision_recall"] = precision_recall(scored, figures)
        made["precision_at_budget"] = precision_at_budget(figures.daily, figures.alert_budget)
        probability = scored.probability & scored.judged
        if probability.any():
            made["calibration"] = calibration(scored.score[probability], scored.fraud[probability])
    made["scores_and_alerts"] = scores_and_alerts(scored, figures, result)
    return made


def png(figure: Figure) -> bytes:
    picture = BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", dpi=DOTS_PER_INCH)
    return picture.getvalue()


def precision_recall(scored: Scored, figures: Figures) -> Figure:
    assert figures.quality is not None
    figure, axes = canvas(6.4, 4.6)
    score, fraud = scored.score[scored.compared], scored.fraud[scored.compared]
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(fraud[order])
    taken = np.arange(1, len(hits) + 1)
    recall, precision = hits / hits[-1], hits / taken
    ends = np.append(score[order][1:] != score[order][:-1], True)  # equal scores are one point
    recall, precision = recall[ends], precision[ends]
    shown = np.unique(np.linspace(0, len(recall) - 1, MOST_POINTS).astype(np.int64))
    shown = np.unique(np.append(shown, np.flatnonzero(np.diff(recall, prepend=0.0))[:MOST_POINTS]))
    axes.plot(recall[shown], precision[shown], color=BLUE, linewidth=1.8)
    axes.axhline(fraud.mean(), color=GREY, linestyle="--", linewidth=1)
    axes.text(0.01, fraud.mean() + 0.01, f"chance: {fraud.mean():.2%} are frauds", fontsize=8, color=INK)
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall: share of the frauds found", ylabel="precision")
    title(axes, f"Precision and recall: average precision {figures.quality.average_precision:.3f}")
    _percent(axes, both=True)
    return figure


def scores_and_alerts(scored: Scored, figures: Figures, result: BacktestResult) -> Figure:
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    daily = figures.daily
    rows = [np.flatnonzero(scored.day == day) for day in daily.day]
    shades = ("#bcd4f6", "#7fb0f0", "#3f8ae8", "#0b4aa2")
    for (share, name), shade in zip(QUANTILES, shades, strict=True):
        line = [float(np.quantile(scored.score[today], share)) if len(today) else np.nan for today in rows]
        above.plot(daily.day, np.clip(line, LOWEST, HIGHEST), color=shade, label=name, linewidth=1.6)
    above.set_yscale("logit")
    above.yaxis.set_minor_formatter(lambda value, place: "")
    above.set_ylabel("score (scale of odds)")
    title(above, "Scores: what share of a day's events stays below")
    legend(above)
    below.bar(daily.day, daily.opened, width=0.85, color=BLUE, align="edge")
    budget = figures.alert_budget
    below.axhline(budget, color=ORANGE, linewidth=1.4, label=f"budget: {budget:g} a day")
    below.axhspan(
        max(budget - 3 * budget**0.5, 0),
        budget + 3 * budget**0.5,
        color=ORANGE,
        alpha=0.15,
        linewidth=0,
        zorder=0,
        label="3 roots of the budget",
    )
    below.set_ylabel("alerts opened")
    title(below, f"Alerts: {figures.alerts_per_day:.1f} a day on average")
    legend(below)
    for axes in (above, below):
        _finish(axes)
        _takeovers(axes, result)
    date_axis(below)
    return figure


def calibration(score: Floats, fraud: npt.NDArray[np.bool_]) -> Figure:
    """Bins of like scores: what they promise against what came true, with Wilson's interval."""
    figure, axes = canvas(5.4, 4.8)
    place = np.clip(np.searchsorted(CALIBRATION_EDGES, score, "right") - 1, 0, len(CALIBRATION_EDGES) - 2)
    count = np.bincount(place, minlength=len(CALIBRATION_EDGES) - 1)
    used = np.flatnonzero(count)
    promised = np.bincount(place, score)[used] / count[used]
    share = np.bincount(place, fraud)[used] / count[used]
    low, high = wilson(share, count[used])
    floor = LOWEST
    axes.plot([floor, 1], [floor, 1], color=GREY, linestyle="--", linewidth=1, label="as promised")
    promised, middle = np.maximum(promised, floor), np.maximum(share, floor)
    bars = np.stack([middle - np.clip(low, floor, middle), np.maximum(high, middle) - middle])
    axes.errorbar(promised, middle, yerr=bars, fmt="o", color=BLUE, markersize=4.5, elinewidth=1.2, capsize=2)
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.3), ylim=(floor, 1.3))
    axes.set(xlabel="score: probability of fraud that was said", ylabel="share of frauds")
    title(axes, "Calibration, with 95 % intervals")
    legend(axes)
    return figure


def precision_at_budget(daily: Daily, budget: float) -> Figure:
    figure, axes = canvas(9.0, 3.6)
    dates = daily.day + 0.5
    axes.plot(dates, daily.at_budget, ".", color=GREY, label=f"the day's {budget:g} highest scores")
    axes.plot(dates, _running_mean(daily.at_budget), color=BLUE, linewidth=1.8, label="their mean of seven days")
    axes.plot(dates, _running_mean(daily.right), color=ORANGE, linewidth=1.4, label="alerts opened, likewise")
    axes.set(ylim=(0, 1.03), ylabel="share of frauds")
    title(axes, "Precision at the budget by day")
    _percent(axes)
    legend(axes)
    date_axis(axes)
    return figure


def quality_by_week(weeks: tuple[Week, ...], result: BacktestResult) -> Figure:
    figure, axes = canvas(9.0, 3.6)
    known = [week for week in weeks if week.quality is not None]
    middle = [week.day + week.days / 2 for week in known]
    for name, label, colour in (
        ("average_precision", "average precision", BLUE),
        ("precision_at_budget", "precision at the budget", ORANGE),
        ("auc", "AUC", GREY),
    ):
        axes.plot(
            middle, [getattr(week.quality, name) for week in known], "o-", color=colour, label=label, markersize=4
        )
    axes.set(ylim=(0, 1.03))
    title(axes, "Quality by week (dotted: a new model)")
    legend(axes)
    _takeovers(axes, result)
    date_axis(axes)
    return figure


def wilson(share: Floats, count: npt.NDArray[np.int64], deviations: float = 1.96) -> tuple[Floats, Floats]:
    """The interval of a share among so many (Wilson, 1927)."""
    square = deviations**2 / count
    centre = (share + square / 2) / (1 + square)
    half = deviations * np.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return centre - half, centre + half


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _finish(axes)
    return figure, axes


def _finish(axes: Axes) -> None:
    axes.grid(color="#e4e7eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5, colors=INK)


def title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=10.5, color=INK, fontweight="bold")


def legend(axes: Axes, lines: Sequence[Line2D] | None = None) -> None:
    """Beside the title, where no line of the plot can be. lines: None for all that the axes have."""
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.3}
    axes.legend(handles=lines, ncols=4, frameon=False, fontsize=8, **place)


def date_axis(axes: Axes) -> None:
    """Of days since 1970, as matplotlib counts."""
    locator = matplotlib.dates.AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _takeovers(axes: Axes, result: BacktestResult) -> None:
    left, right = axes.get_xlim()
    for one in result.passes:
        if one.promoted:
            axes.axvline(one.at / MILLISECONDS_A_DAY, color=INK, linestyle=":", linewidth=0.8, alpha=0.6)
    axes.set_xlim(left, right)


def _percent(axes: Axes, *, both: bool = False) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if both:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _running_mean(values: Floats) -> Floats:
    """Over the days up to each, at most seven; NaN where none of them is known."""
    known = np.isfinite(values)
    sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
    earlier = np.maximum(np.arange(len(values)) - DAYS_A_WEEK, -1)
    total = sums - np.where(earlier >= 0, sums[earlier], 0.0)
    count = counts - np.where(earlier >= 0, counts[earlier], 0)
    mean: Floats = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
