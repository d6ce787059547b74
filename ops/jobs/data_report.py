"""How a data check is shown: in a terminal, and as one HTML page with its plots inside."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.data_figures import DataFigures, FieldFigures, LabelFigures
from models.data_quality import DataQuality
from models.events import MILLISECONDS_A_DAY
from ops.jobs.backtest import day_of
from ops.jobs.data_plots import CAPTIONS, plots
from ops.jobs.report_page import document, number, percent, picture_part, table, tiles
from ops.jobs.report_plots import png

VERDICTS = {
    "ok": "Fit to train on.",
    "warnings": "Can be trained on; look at the warnings first.",
    "refused": "Not fit to train on: training refuses it.",
}
STYLES = {"ok": "green", "warnings": "yellow", "refused": "bold red", "warning": "yellow", "note": "dim"}
FIELD_HEADING = ("field", "missing", "values", "most common", "of those given")
SEPARATION_HEADING = ("column alone", "AUC", "frauds", "others")
DAY_HEADING = ("day", "events", "accounts", "merchants", "matured", "with label", "frauds")
#: Of the most telling columns, as many are listed.
MOST_LISTED = 12


class UnwritableReport(Exception):
    """The report cannot be written; the message says why."""


def print_summary(quality: DataQuality, console: Console) -> None:
    figures = quality.figures
    console.print(Text(f"{quality.verdict}: {VERDICTS[quality.verdict]}", style=STYLES[quality.verdict]))
    for finding in quality.findings:
        console.print(Text(f"  {finding.severity:8} {finding.text}", style=STYLES[finding.severity]), soft_wrap=True)
    console.print()
    for name, value in in_short(figures):
        console.print(Text(f"  {name:24} {value}"), soft_wrap=True)
    console.print()
    console.print(rich_table(FIELD_HEADING, [field_row(field) for field in figures.fields]))
    if figures.labels.frauds:
        console.print(rich_table(SEPARATION_HEADING, separation_rows(figures)[:5]))


def rich_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(box=None, pad_edge=True, header_style="dim")
    for place, name in enumerate(heading):
        shown.add_column(name, justify="right" if place and name != "most common" else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def write_report(path: Path, quality: DataQuality) -> None:
    """Raises UnwritableReport."""
    try:
        path.write_text(page(quality), encoding="utf-8")
    except OSError as error:
        raise UnwritableReport(f"cannot write the report to {path}: {error.strerror or error}") from error


def page(quality: DataQuality) -> str:
    figures = quality.figures
    return document(
        "Headgate data check",
        [
            f"<h1>Data check: {escape(quality.verdict)}</h1><p class=quiet>{escape(VERDICTS[quality.verdict])}</p>",
            tiles(tile_values(figures)),
            "<h2>Findings</h2>",
            table(("", "about", "what"), [(f.severity, f.subject, f.text) for f in quality.findings], texts=(0, 1, 2))
            if quality.findings
            else "<p>None.</p>",
            *(picture_part(name, png(figure), CAPTIONS[name]) for name, figure in plots(figures).items()),
            "<h2>In short</h2>",
            table(("", ""), in_short(figures), texts=(0, 1)),
            "<h2>Fields</h2>",
            table(FIELD_HEADING, [field_row(field) for field in figures.fields], texts=(0, 3)),
            "<h2>What tells frauds apart alone</h2>",
            table(SEPARATION_HEADING, separation_rows(figures), texts=(0,)),
            "<h2>Day by day</h2>",
            table(DAY_HEADING, day_rows(figures), texts=(0,)),
        ],
    )


def tile_values(figures: DataFigures) -> Iterator[tuple[str, str]]:
    known = figures.labels
    for name in ("events", "accounts", "merchants"):
        yield f"{getattr(figures, name):,}", name
    yield f"{known.frauds:,}", "known frauds"
    yield percent(known.frauds / known.matured) if known.matured else "-", "of the matured events are frauds"
    yield f"{figures.empty_days:,}", "days without events"


def in_short(figures: DataFigures) -> list[tuple[str, str]]:
    if not figures.events:
        return [("events", "0")]
    known = figures.labels
    days = len(figures.days) + figures.empty_days
    first, last = day_of(figures.first), day_of(figures.last)
    accounts = f"{figures.accounts:,}, half with {figures.median_events_per_account:,.0f} events or fewer"
    about = "" if figures.repeats_exact else "about "
    return [
        ("events", f"{figures.events:,} from {first} to {last}, {figures.events / days:,.0f} a day"),
        ("days without events", f"{figures.empty_days:,} of {days:,}"),
        ("accounts", f"{accounts}; {percent(figures.single_accounts)} with one"),
        ("merchants", f"{figures.merchants:,}"),
        ("amounts", f"{figures.least_amount:,.2f} to {figures.most_amount:,.2f}"),
        ("repeated event_ids", f"{about}{figures.repeated_ids:.2%}"),
        ("repeated payloads", f"{about}{figures.repeated_payloads:.2%}"),
        *label_lines(known, figures.events),
    ]


def label_lines(known: LabelFigures, events: int) -> Iterator[tuple[str, str]]:
    yield "matured", f"{known.matured:,} ({percent(known.matured / events)})"
    share = percent(known.labelled / known.matured) if known.matured else "-"
    yield "with a label", f"{known.labelled:,} of the matured ({share}), {known.early:,} of younger ones"
    rate = f"{known.frauds / known.matured:.3%} of the matured" if known.matured else "-"
    yield "frauds", f"{known.frauds:,} ({rate})"
    if known.given is not None:
        yield "labels without event", f"{known.unmatched:,} of {known.given:,}"
    if known.delay_days:
        delays = known.delay_days
        yield "label delay in days", f"half within {delays['50%']:.1f}, nine of ten within {delays['90%']:.1f}"


def field_row(field: FieldFigures) -> tuple[str, ...]:
    values = "many" if field.values is None else f"{field.values:,}"
    return field.name, percent(field.missing), values, (*field.frequent, "-")[0], percent(field.commonest)


def separation_rows(figures: DataFigures) -> list[tuple[str, ...]]:
    return [
        (each.column, number(each.auc, 4), f"{each.frauds:,}", f"{each.others:,}")
        for each in figures.separations[:MOST_LISTED]
    ]


def day_rows(figures: DataFigures) -> list[tuple[str, ...]]:
    names = ("events", "accounts", "merchants", "matured", "labelled", "frauds")
    return [
        (day_of(day.day * MILLISECONDS_A_DAY), *(f"{getattr(day, name):,}" for name in names)) for day in figures.days
    ]
