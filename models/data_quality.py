"""Whether a history is fit to learn from: pure rules over its figures (data_figures.py), each finding in words.

What is refused is plainly broken: a model trained on it would be worthless, or worthless in a way that no figure of
its training shows. Training refuses it too (headgate train, headgate retrain). Warnings want a person to look.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from models.data_figures import DataFigures, FieldFigures
from models.drift import STABILITY_BOUND
from models.separation import FraudOnly, Separation

Severity = Literal["refused", "warning", "note"]
Verdict = Literal["ok", "warnings", "refused"]

#: Fewer events say nothing of what is usual.
LEAST_EVENTS = 100
#: A column that tells frauds apart so well alone is a suspect; a text or an id that does it nearly without a mistake
#: is a leak. An amount or a feature may honestly tell much, so it stays a suspect.
SUSPECT_AUC, CERTAIN_AUC = 0.98, 0.999
LEAST_SUSPECT, LEAST_CERTAIN = 20, 50
CERTAIN_KINDS = ("field", "id", "time")
#: A value of frauds alone is a suspect where it lasts: a wave of frauds may bring new values for a while.
LASTING_SLICES = 0.5
#: So many labels of one kind alone are no chance.
LEAST_LABELS = 100
MOST_REPEATED, SOME_REPEATED, SOME_REPEATED_PAYLOADS = 0.5, 0.01, 0.05
#: A share of frauds that no card or account business has.
IMPLAUSIBLE_FRAUDS = 0.3
#: Filled in for events of one kind, and not for others; of so many of each.
FILLED, NOT_FILLED, LEAST_FILLED = 0.2, 0.001, 200
#: Times before this year are seconds that were read as milliseconds.
EARLIEST_YEAR = 1980
#: A day with a smaller share of the usual number of events is a gap.
THIN_DAY, LEAST_A_DAY = 0.1, 20
UNMATCHED = 0.1
YOUNG_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class DataQuality:
    """The worst findings first."""

    figures: DataFigures
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        if self.refusals:
            return "refused"
        return "warnings" if self.of("warning") else "ok"

    @property
    def refusals(self) -> list[str]:
        return [finding.text for finding in self.of("refused")]

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == severity]

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            **self.figures.as_json(),
        }


def quality_of(figures: DataFigures, rated: Collection[str] = ()) -> DataQuality:
    """rated: currencies that amounts are converted from."""
    rules = (times, amounts, coverage, repeats, entities, labels, leaks, late_fields, drifts)
    found = [finding for rule in rules for finding in rule(figures)]
    found += currencies(figures, rated)
    order = ("refused", "warning", "note")
    return DataQuality(figures, tuple(sorted(found, key=lambda finding: order.index(finding.severity))))


def times(figures: DataFigures) -> Iterator[Finding]:
    if not figures.events:
        yield Finding("refused", "events", "there are no events")
        return
    if figures.events >= 2 and figures.first == figures.last:
        yield Finding(
            "refused", "occurred_at", f"all {figures.events:,} events have the same time, {at(figures.first)}"
        )
    elif middle_year(figures) < EARLIEST_YEAR:
        yield Finding(
            "refused", "occurred_at", f"most events lie in {middle_year(figures)}: were seconds read as milliseconds?"
        )


def middle_year(figures: DataFigures) -> int:
    reached = 0
    for day in figures.days:
        reached += day.events
        if 2 * reached >= figures.events:
            return datetime.fromtimestamp(day.day * 86_400, UTC).year
    return EARLIEST_YEAR


def amounts(figures: DataFigures) -> Iterator[Finding]:
    if figures.events >= LEAST_EVENTS and figures.least_amount == figures.most_amount:
        yield Finding("refused", "amount", f"all {figures.events:,} amounts are {figures.least_amount:g}")
    elif figures.zero_amounts > 0.5:
        yield Finding("warning", "amount", f"{figures.zero_amounts:.0%} of the amounts are 0")


def coverage(figures: DataFigures) -> Iterator[Finding]:
    if figures.empty_days:
        days = len(figures.days) + figures.empty_days
        yield Finding("warning", "days", f"days without an event: {figures.empty_days:,} of {days:,}")
    whole = sorted(day.events for day in figures.days[1:-1])
    usual = whole[len(whole) // 2] if whole else 0
    thin = sum(events < THIN_DAY * usual for events in whole)
    if usual >= LEAST_A_DAY and thin:
        yield Finding("warning", "days", f"days with less than a tenth of the usual {usual:,} events: {thin:,}")


def repeats(figures: DataFigures) -> Iterator[Finding]:
    about = "" if figures.repeats_exact else "about "
    for subject, share, some, what in (
        ("event_id", figures.repeated_ids, SOME_REPEATED, "repeat an event_id"),
        ("payload", figures.repeated_payloads, SOME_REPEATED_PAYLOADS, "repeat account, merchant, time and amount"),
    ):
        if share > some:
            severity: Severity = "refused" if share > MOST_REPEATED else "warning"
            yield Finding(severity, subject, f"{about}{share:.1%} of the events {what} of an earlier one")


def entities(figures: DataFigures) -> Iterator[Finding]:
    if figures.events < LEAST_EVENTS:
        return
    if figures.accounts == 1:
        yield Finding("warning", "account_id", "all events are of one account")
    elif figures.single_accounts > 0.95:
        text = f"{figures.single_accounts:.1%} of the {figures.accounts:,} accounts have one event: nothing recurs"
        yield Finding("warning", "account_id", f"{text}; is account_id the id of something else?")
    if figures.merchants == 1:
        yield Finding("warning", "merchant_id", "all events are of one merchant")
    for field in figures.fields:
        if field.missing == 1.0:
            yield Finding("note", field.name, f"no event has {field.name}")
        elif field.values == 1 and field.name != "currency":
            yield Finding("note", field.name, f"{field.name} is always {field.frequent[0]!r}")


def labels(figures: DataFigures) -> Iterator[Finding]:
    known = figures.labels
    if known.given and known.unmatched == known.given:
        yield Finding("refused", "labels", f"none of {known.given:,} labels is of a known event: do event_ids agree?")
    elif known.given and known.unmatched > UNMATCHED * known.given:
        yield Finding("warning", "labels", f"{known.unmatched:,} of {known.given:,} labels belong to no event")
    if known.conflicting:
        yield Finding("warning", "labels", f"{known.conflicting:,} events have both labels; the last one counts")
    if known.matured and known.frauds == known.matured:
        yield Finding("refused", "labels", f"all {known.matured:,} matured events are frauds")
    elif known.labelled >= LEAST_LABELS and not known.frauds:
        yield Finding("refused", "labels", f"all {known.labelled:,} labels of matured events say legitimate")
    elif known.matured and known.frauds > IMPLAUSIBLE_FRAUDS * known.matured:
        share = known.frauds / known.matured
        yield Finding("warning", "labels", f"{share:.0%} of the matured events are frauds: are the labels inverted?")
    elif not known.frauds:
        yield Finding("note", "labels", "no fraud is known: a model can only learn what is unusual")
    if known.before_event:
        text = f"{known.before_event:,} of {known.timed:,} labels came before their event: do time zones agree?"
        yield Finding("warning", "labels", text)
    if figures.events and figures.events - known.matured > YOUNG_SHARE * figures.events:
        share = 1 - known.matured / figures.events
        yield Finding("warning", "labels", f"{share:.0%} of the events are younger than the label horizon")


def leaks(figures: DataFigures) -> Iterator[Finding]:
    for found in figures.separations:
        if min(found.frauds, found.others) >= LEAST_SUSPECT and found.auc >= SUSPECT_AUC:
            certain = min(found.frauds, found.others) >= LEAST_CERTAIN and found.auc >= CERTAIN_AUC
            severity: Severity = "refused" if certain and found.kind in CERTAIN_KINDS else "warning"
            yield Finding(severity, found.column, separation_text(found))
    for value in figures.fraud_only:
        if value.slices >= LASTING_SLICES:
            yield Finding("warning", value.field, fraud_only_text(value))


def separation_text(found: Separation) -> str:
    return (
        f"{found.column} alone tells frauds from other events (AUC {found.auc:.4f} on {found.frauds:,} frauds and "
        f"{found.others:,} others): does it say what was found out later?"
    )


def fraud_only_text(value: FraudOnly) -> str:
    said = f"the value {value.value!r}" if value.value is not None else "no value"
    return f"{value.field}: {said} occurs in frauds alone, in {value.frauds:,} ({value.share:.0%}) and at all times"


def late_fields(figures: DataFigures) -> Iterator[Finding]:
    known = figures.labels
    unlabelled, young = known.matured - known.labelled, figures.events - known.matured
    judged = min(known.labelled, unlabelled) >= LEAST_FILLED
    for field in figures.fields:
        if judged and only_first(field.filled_labelled, field.filled_unlabelled):
            text = f"{field.name} is filled in for events with a label alone: does it come with the label?"
            yield Finding("warning", field.name, text)
        if min(known.matured, young) >= LEAST_FILLED and only_first(filled_matured(field, figures), field.filled_young):
            text = f"{field.name} is empty in events that have not matured: is it filled in later, or given up?"
            yield Finding("warning", field.name, text)


def filled_matured(field: FieldFigures, figures: DataFigures) -> float:
    known = figures.labels
    filled = (field.filled_labelled or 0.0) * known.labelled
    filled += (field.filled_unlabelled or 0.0) * (known.matured - known.labelled)
    return filled / known.matured


def only_first(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one >= FILLED and other <= NOT_FILLED


def drifts(figures: DataFigures) -> Iterator[Finding]:
    for drift in figures.drifts:
        if drift.index > STABILITY_BOUND:
            text = f"{drift.subject} differs between first half and last quarter (stability index {drift.index:.2f})"
            yield Finding("warning", drift.subject, text)


def currencies(figures: DataFigures, rated: Collection[str]) -> Iterator[Finding]:
    """Amounts without a rate count one to one."""
    (currency,) = (field for field in figures.fields if field.name == "currency")
    several = currency.values is None or currency.values > 1
    if several and not rated:
        text = "there are several currencies and no rates: set HEADGATE_RATES, or amounts cannot be compared"
        yield Finding("warning", "currency", text)


def at(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
