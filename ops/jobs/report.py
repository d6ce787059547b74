"""A backtest's report: one HTML file that needs no network, its plots inside, and the same plots as PNG beside it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from models.events import MILLISECONDS_A_DAY
from models.gate import Comparison
from ops.jobs.backtest import BacktestOptions, BacktestResult, TrainingPass, day_of, days
from ops.jobs.report_figures import Figures, Scored, Week
from ops.jobs.report_page import document, number, percent, picture_part, table, tiles
from ops.jobs.report_plots import plots, png

CAPTIONS: Mapping[str, str] = {
    "quality_by_week": "Average precision: how far frauds stand above everything else. Precision at the budget: of "
    "each day's highest scores, as many as the budget, the share of frauds. AUC: how often a fraud scores above a "
    "legitimate event; with rare frauds it is high for poor models too.",
    "precision_recall": "Every threshold is a point: the share of frauds among the events above it, and the share of "
    "all frauds that they are. Scores of several models are mixed here as they were when they were given.",
    "precision_at_budget": "Of each day's highest scores, as many as the budget, how many are frauds; and of the "
    "alerts that were opened, how many hold a fraud. Where fewer frauds happen in a day than the budget has alerts, "
    "neither can come near 100 %.",
    "calibration": "Where the dots lie on the line, a score of 0.3 means that three of ten such events are frauds. "
    "Bins without any fraud lie on the lower edge.",
    "scores_and_alerts": "Above, what score a share of each day's events stays below; a jump at a dotted line (a new "
    "model) is the model's, one elsewhere the traffic's. Below, alerts opened each day: events of an account within "
    "half an hour fold into one.",
}


def write_report(
    folder: Path, figures: Figures, scored: Scored, options: BacktestOptions, result: BacktestResult
) -> list[str]:
    """report.html and its plots; the names of the files. Raises OSError."""
    pictures = {name: png(figure) for name, figure in plots(figures, scored, result).items()}
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    (folder / "report.html").write_text(page(figures, scored, options, result, pictures), encoding="utf-8")
    return ["report.html", *(f"{name}.png" for name in pictures)]


def page(
    figures: Figures,
    scored: Scored,
    options: BacktestOptions,
    result: BacktestResult,
    pictures: Mapping[str, bytes],
) -> str:
    first, last = (day_of(int(scored.time[row])) for row in (0, -1))
    parts = [
        f"<h1>Backtest</h1><p class=quiet>{first} to {last}: {figures.scored:,} events scored of {figures.events:,}; "
        f"labels known after {days(options.rules.label_horizon)}, a training every {days(options.retrain_every)}</p>",
        tiles(shown_first(figures, result)),
        "<h2>What these figures are about</h2>",
        *(f"<p>{escape(text)}</p>" for text in explanations(figures, scored, options)),
        *(picture_part(name, picture, CAPTIONS[name]) for name, picture in pictures.items()),
        "<h2>Week by week</h2>",
        week_table(figures.weeks),
        "<h2>Models and verdicts</h2>",
        "<p>Each training with what was known at its moment, and whether its model was shown good enough to take over. "
        "A model that was refused never scored.</p>",
        pass_table(result.passes),
    ]
    return document("Headgate backtest", parts)


def explanations(figures: Figures, scored: Scored, options: BacktestOptions) -> list[str]:
    """In words, what was measured on what."""
    delay = days(options.rules.label_horizon)
    replayed = (
        "The history was replayed in event time through the code that runs live. Every event was scored once, in its "
        "turn, by the model in use at that moment, with the state and the labels of that moment; events before the "
        "first model are not scored."
    )
    if figures.quality is None:
        return [
            replayed,
            "No labels were given, so quality cannot be measured. The scores are surprise: how unusual an event is for "
            "its account. The alert budget decides how many of the most surprising events alert.",
        ]
    others = int(scored.judged.sum()) - figures.quality.events
    kinds = "probabilities" if scored.probability[-1] else "surprise"
    mixed = (
        f" The {others:,} scores of models before that are of another kind (surprise and probabilities cannot be put "
        "in one order); they count week by week only."
    )
    return [
        replayed,
        f"Quality over all is measured on the {figures.quality.events:,} events whose scores are {kinds} and that are "
        f"at least {delay} older than the last one, {figures.quality.frauds:,} of them frauds."
        + (mixed if others else ""),
        "An event of that age without a label counts as "
        "legitimate, though a fraud that nobody reported may hide among them. The same labels, once known, taught "
        "later models; none taught a model that scored the event.",
    ]


def shown_first(figures: Figures, result: BacktestResult) -> list[tuple[str, str]]:
    """Values with what they are."""
    quality = figures.quality
    shown: list[tuple[str, str]] = []
    if quality is not None:
        shown += [
            (number(quality.average_precision), "average precision"),
            (number(quality.auc), "AUC"),
            (percent(quality.precision_at_budget), "precision at the budget"),
            (percent(figures.alert_precision), "of the alerts hold a fraud"),
            (percent(figures.alert_recall), "of the frauds are in alerts"),
        ]
    trained = [one for one in result.passes if one.model is not None]
    shown += [
        (number(figures.alerts_per_day, 1), f"alerts a day, budget {figures.alert_budget:g}"),
        (f"{sum(one.promoted for one in trained)} of {len(trained)}", "trained models took over"),
    ]
    return shown


def week_table(weeks: Sequence[Week]) -> str:
    heading = ("week from", "events", "frauds", "average precision", "AUC", "precision at budget", "alerts a day", "by")
    rows = []
    for week in weeks:
        quality = week.quality
        name = day_of(week.day * MILLISECONDS_A_DAY) + (f" ({week.days} d)" if week.days < 7 else "")
        known = ["-"] * 5
        if quality is not None:
            known = [f"{quality.events:,}", f"{quality.frauds:,}", number(quality.average_precision)]
            known += [number(quality.auc), percent(quality.precision_at_budget)]
        rows.append((name, *known, number(week.alerts_per_day, 1), ", ".join(week.models)))
    return table(heading, rows, texts=(0, 7))


def pass_table(passes: Sequence[TrainingPass]) -> str:
    heading = ("on", "model", "decision", "champion", "its AP", "AP", "difference", "95 % interval", "why")
    rows = []
    for one in passes:
        found = one.verdict.average_precision if one.verdict is not None else None
        rows.append((day_of(one.at), one.model or "-", one.decision, one.champion or "-", *compared(found), one.reason))
    return table(heading, rows, texts=(0, 1, 2, 3, 8))


def compared(found: Comparison | None) -> tuple[str, str, str, str]:
    if found is None:
        return "-", "-", "-", "-"
    interval = f"{found.low:+.3f} to {found.high:+.3f}"
    return number(found.champion), number(found.challenger), f"{found.difference:+.3f}", interval
