"""The plots of a data check's report, each a matplotlib figure."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from models.data_figures import DataFigures
from models.data_quality import SUSPECT_AUC
from models.drift import STABILITY_BOUND
from ops.jobs.report_plots import BLUE, GREY, INK, ORANGE, canvas, date_axis, legend, title

#: Rows of a plot of bars.
MOST_BARS = 12
FRAUD_DAYS = 7

CAPTIONS: Mapping[str, str] = {
    "events_by_day": "Events, accounts and merchants of each day (UTC). A day without any, or far fewer than its "
    "neighbours, is traffic that was not collected: what an account did then looks new to the model.",
    "labels_by_day": "Of each day's matured events, the share that is known to be fraud (the mean of seven days), and "
    "the share that has a label of either kind. A matured event without a label counts as legitimate. Where the share "
    "of frauds falls towards the end, labels take longer than the label horizon.",
    "label_delay": "Days from an event to its newest label. What comes later than the label horizon has taught the "
    "model the opposite until then.",
    "amounts": "Amounts on a logarithmic scale, frauds against all others, each as a share of its own kind.",
    "separation": "How often a fraud stands above another matured event by one column alone: 50 % is chance. No honest "
    "column comes near 100 %; from the dotted line on it is suspected to say what was found out later.",
    "drift": "How far a field's distribution in the last quarter of the events is from that in the first half "
    "(population stability index): below 0.1 little, from the dotted line on much.",
}


def plots(figures: DataFigures) -> Mapping[str, Figure]:
    """By name, in the order of the report; those for which there is something to show."""
    made: dict[str, Figure] = {}
    if figures.days:
        made["events_by_day"] = events_by_day(figures)
    if figures.labels.frauds:
        made["labels_by_day"] = labels_by_day(figures)
    if figures.delays:
        made["label_delay"] = label_delay(figures)
    if figures.amounts:
        made["amounts"] = amounts(figures)
    if figures.labels.frauds:
        made["separation"] = separation(figures)
    if figures.drifts:
        made["drift"] = drift(figures)
    return made


def events_by_day(figures: DataFigures) -> Figure:
    figure, axes = canvas(9.0, 3.6)
    first = figures.days[0].day
    days = np.arange(first, figures.days[-1].day + 1)
    for name, colour in (("events", BLUE), ("accounts", ORANGE), ("merchants", GREY)):
        values = np.zeros(len(days))
        for day in figures.days:
            values[day.day - first] = getattr(day, name)
        axes.plot(days + 0.5, values, color=colour, label=name, linewidth=1.6)
    axes.set_ylim(bottom=0)
    title(axes, f"Events by day: {figures.events:,} on {len(figures.days):,} days")
    legend(axes)
    date_axis(axes)
    return figure


def labels_by_day(figures: DataFigures) -> Figure:
    figure, axes = canvas(9.0, 3.6)
    known = [day for day in figures.days if day.matured]
    names = ("matured", "frauds", "labelled")
    matured, frauds, labelled = (np.array([getattr(day, name) for day in known]) for name in names)
    dates = np.array([day.day for day in known]) + 0.5
    width = min(FRAUD_DAYS, len(known))
    kernel = np.ones(width)
    smooth = np.convolve(frauds, kernel, "same") / np.convolve(matured, kernel, "same")
    axes.plot(dates, smooth, color=ORANGE, linewidth=1.8, label="share of frauds (left)")
    axes.set_ylim(0, max(float(smooth.max()) * 1.25, 1e-6))
    right = axes.twinx()
    right.plot(dates, labelled / matured, color=BLUE, linewidth=1.2, label="share with a label (right)")
    right.set_ylim(0, 1.05)
    for each in (axes, right):
        each.yaxis.set_major_formatter(PercentFormatter(1.0))
        each.tick_params(labelsize=8.5, colors=INK)
        each.spines[["top"]].set_visible(False)
    title(axes, "Labels of matured events by day")
    lines = [*axes.get_lines(), *right.get_lines()]
    legend(axes, lines)
    date_axis(axes)
    return figure


def label_delay(figures: DataFigures) -> Figure:
    figure, axes = canvas(9.0, 3.2)
    left = [band.least for band in figures.delays]
    width = figures.delays[0].below - figures.delays[0].least
    every, frauds = ([getattr(band, name) for band in figures.delays] for name in ("labels", "frauds"))
    axes.bar(left, every, width=width, align="edge", color=BLUE, label="all labels")
    axes.bar(left, frauds, width=width, align="edge", color=ORANGE, label="frauds")
    axes.set(xlabel="days from event to label", ylabel="labels (of a sample)")
    title(axes, f"Label delay: half within {figures.labels.delay_days['50%']:.1f} days")
    legend(axes)
    return figure


def amounts(figures: DataFigures) -> Figure:
    figure, axes = canvas(9.0, 3.2)
    edges = [max(band.least, 0.1) for band in figures.amounts] + [figures.amounts[-1].below]
    for name, colour in (("others", BLUE), ("frauds", ORANGE)):
        counts = np.array([getattr(band, name) for band in figures.amounts], np.float64)
        if counts.sum():
            axes.stairs(counts / counts.sum(), edges, color=colour, label=name, linewidth=1.6)
    axes.set(xscale="log", xlabel="amount")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    title(axes, "Amounts")
    legend(axes)
    return figure


def separation(figures: DataFigures) -> Figure:
    chosen = figures.separations[:MOST_BARS]
    figure, axes = canvas(9.0, 0.9 + 0.28 * len(chosen))
    bars(axes, [each.column for each in chosen], [each.auc for each in chosen], SUSPECT_AUC)
    axes.set_xlim(0.5, 1.0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    title(axes, "What tells frauds apart alone (AUC)")
    return figure


def drift(figures: DataFigures) -> Figure:
    chosen = figures.drifts[:MOST_BARS]
    figure, axes = canvas(9.0, 0.9 + 0.28 * len(chosen))
    bars(axes, [each.subject for each in chosen], [each.index for each in chosen], STABILITY_BOUND)
    axes.set_xlim(0, max(1.1 * chosen[0].index, 1.2 * STABILITY_BOUND))
    title(axes, "Drift: the last quarter against the first half")
    return figure


def bars(axes: Axes, names: list[str], values: list[float], bound: float) -> None:
    places = np.arange(len(names))[::-1]
    colours = [ORANGE if value >= bound else BLUE for value in values]
    axes.barh(places, values, color=colours, height=0.65)
    axes.set_yticks(places, names)
    axes.axvline(bound, color=INK, linestyle=":", linewidth=1)
