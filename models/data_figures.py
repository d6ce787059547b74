"""What a profile of a history (data_profile.py) says in numbers: coverage, fields, labels, separations, drift, repeats.
Nothing here is judged."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.data_profile import (
    AMOUNT,
    AMOUNT_WIDTH,
    EVENT_NUMBER,
    IDS,
    PRECISIONS,
    TEXT_FIELDS,
    DataProfile,
    feature_column,
)
from models.drift import stability_index
from models.events import MILLISECONDS_A_DAY
from models.separation import FraudOnly, Separation, by_size, by_value, filled, fraud_only_values
from models.value_counts import FRAUD, LEGITIMATE, MISSING, OTHERS, UNLABELLED, YOUNG, Numbers

#: Values of a field that are compared one by one between two times; the rarer ones together.
COMPARED_VALUES = 20
#: Inner edges of the bins in which amounts are compared: quantiles of the first half.
AMOUNT_PARTS = 10
#: A part of a history with fewer events is not compared with another.
LEAST_COMPARED = 1_000
#: The last part of a history, which is compared with its first half.
LAST_PART = 0.25
#: A value that occurs in frauds only counts from so many on.
LEAST_FRAUD_ONLY = 30
#: For pictures.
BINS_A_BAND, DELAY_BANDS = 5, 30
#: Values of a field that are named.
MOST_FREQUENT = 12
DELAY_QUANTILES = (0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """day: since 1970; matured, labelled and frauds of its events by now."""

    day: int
    events: int
    accounts: int
    merchants: int
    matured: int
    labelled: int
    frauds: int


@dataclass(frozen=True, slots=True)
class FieldFigures:
    """missing: share of the events without it; values: how many different ones (None: too many to count); frequent: the
    most frequent of them, the first one first; commonest: its share of the events that have one. filled_...: share of
    the events that have it, of matured ones with and without a label, and of younger ones; None where there are none
    of these."""

    name: str
    missing: float
    values: int | None
    frequent: tuple[str, ...]
    commonest: float
    filled_labelled: float | None
    filled_unlabelled: float | None
    filled_young: float | None


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """matured: events older than the label horizon; labelled: those of them with a label; early: labels of younger
    events. delay_days: quantiles of the days from event to label, of timed labels; before_event: labels given before
    their event. unmatched: labels of a file that belong to no event, of given; conflicting: events that have both."""

    matured: int
    labelled: int
    legitimate: int
    frauds: int
    early: int
    timed: int
    before_event: int
    delay_days: dict[str, float]
    given: int | None = None
    unmatched: int = 0
    conflicting: int = 0


@dataclass(frozen=True, slots=True)
class DriftFigures:
    """index: population stability of the history's last quarter against its first half."""

    subject: str
    index: float


@dataclass(frozen=True, slots=True)
class AmountBand:
    """Events with amounts from `least` to below `below`: frauds, and all others whatever is known of them."""

    least: float
    below: float
    frauds: int
    others: int


@dataclass(frozen=True, slots=True)
class DelayBand:
    """Labels of a sample that came so many days after their event, and how many of them said fraud."""

    least: float
    below: float
    labels: int
    frauds: int


@dataclass(frozen=True, slots=True)
class LabelFile:
    """What joining a file of labels showed."""

    given: int
    unmatched: int
    conflicting: int


@dataclass(frozen=True, slots=True)
class DataFigures:
    """Times in epoch milliseconds, 0 without events. single_accounts: share of the accounts that have one event;
    repeated_ids, repeated_payloads: share of the events that repeat an id, or all of account, merchant, time and amount
    under whatever id; repeats_exact: of all events, not of a sample."""

    events: int
    first: int
    last: int
    matured_until: int
    accounts: int
    merchants: int
    single_accounts: float
    median_events_per_account: float
    least_amount: float
    most_amount: float
    zero_amounts: float
    amounts: tuple[AmountBand, ...]
    days: tuple[DayFigures, ...]
    empty_days: int
    fields: tuple[FieldFigures, ...]
    labels: LabelFigures
    delays: tuple[DelayBand, ...]
    separations: tuple[Separation, ...]
    fraud_only: tuple[FraudOnly, ...]
    drifts: tuple[DriftFigures, ...]
    repeated_ids: float
    repeated_payloads: float
    repeats_exact: bool

    def frequent_values(self) -> dict[str, tuple[str, ...]]:
        """Of each field."""
        return {field.name: field.frequent for field in self.fields}

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures_of(profile: DataProfile, label_file: LabelFile | None = None) -> DataFigures:
    days = tuple(DayFigures(number, **asdict(day)) for number, day in sorted(profile.days.items()))
    accounts = profile.entities["account_id"].events
    count = max(len(profile), 1)
    return DataFigures(
        events=len(profile),
        first=profile.first,
        last=profile.last,
        matured_until=profile.matured_until,
        accounts=len(accounts),
        merchants=len(profile.entities["merchant_id"].events),
        single_accounts=float((accounts == 1).mean()) if len(accounts) else 0.0,
        median_events_per_account=float(np.median(accounts)) if len(accounts) else 0.0,
        least_amount=profile.least_amount if len(profile) else 0.0,
        most_amount=profile.most_amount if len(profile) else 0.0,
        zero_amounts=profile.zero_amounts / count,
        amounts=tuple(amount_bands(profile)),
        days=days,
        empty_days=days[-1].day - days[0].day + 1 - len(days) if days else 0,
        fields=tuple(field_figures(name, profile) for name in TEXT_FIELDS),
        labels=label_figures(profile, label_file),
        delays=tuple(delay_bands(profile)),
        separations=tuple(separations(profile)),
        fraud_only=tuple(fraud_only(profile)),
        drifts=tuple(drifts(profile)),
        repeated_ids=profile.event_ids.repeated,
        repeated_payloads=profile.payloads.repeated,
        repeats_exact=profile.event_ids.exact and profile.payloads.exact,
    )


def field_figures(name: str, profile: DataProfile) -> FieldFigures:
    field = profile.texts[name]
    totals = field.counts.sum((0, 1))
    named = totals.copy()
    named[[MISSING, OTHERS]] = 0
    given = int(totals.sum() - totals[MISSING])
    frequent = np.argsort(-named, kind="stable")[:MOST_FREQUENT]
    shares = filled(field.counts)
    labelled = filled(field.counts[:, [LEGITIMATE, FRAUD]].sum(1, keepdims=True))[0]
    return FieldFigures(
        name,
        missing=float(totals[MISSING] / max(int(totals.sum()), 1)),
        values=None if field.overflowed else int((named > 0).sum()),
        frequent=tuple(str(field.names[place]) for place in frequent[named[frequent] > 0].tolist()),
        commonest=float(named.max() / max(given, 1)),
        filled_labelled=_known(labelled),
        filled_unlabelled=_known(shares[UNLABELLED]),
        filled_young=_known(shares[YOUNG]),
    )


def label_figures(profile: DataProfile, label_file: LabelFile | None) -> LabelFigures:
    days = profile.days.values()
    labelled, frauds = sum(day.labelled for day in days), sum(day.frauds for day in days)
    delays = profile.delays.column("days")
    quantiles = np.quantile(delays, DELAY_QUANTILES).tolist() if len(delays) else []
    return LabelFigures(
        matured=sum(day.matured for day in days),
        labelled=labelled,
        legitimate=labelled - frauds,
        frauds=frauds,
        early=profile.known_early,
        timed=profile.timed_labels,
        before_event=profile.labelled_before,
        delay_days={f"{share:.0%}": value for share, value in zip(DELAY_QUANTILES, quantiles, strict=False)},
        **({} if label_file is None else asdict(label_file)),
    )


def amount_bands(profile: DataProfile) -> list[AmountBand]:
    counts = profile.amounts.counts.sum(0)
    bands = counts.reshape(len(counts), -1, BINS_A_BAND).sum(2)
    edges = np.expm1(np.arange(bands.shape[1] + 1) * AMOUNT_WIDTH * BINS_A_BAND).tolist()
    return [
        AmountBand(edges[place], edges[place + 1], int(bands[FRAUD, place]), int(bands[:FRAUD, place].sum()))
        for place in np.flatnonzero(bands.sum(0)).tolist()
    ]


def delay_bands(profile: DataProfile) -> list[DelayBand]:
    """Up to the delay that one in a hundred exceeds; what takes longer is in the last band."""
    days, fraud = profile.delays.column("days"), profile.delays.column("fraud") > 0
    if not len(days):
        return []
    longest = max(float(np.quantile(days, 0.99)), 1e-3)
    edges = np.linspace(min(float(days.min()), 0.0), longest, DELAY_BANDS + 1)
    place = np.clip(np.searchsorted(edges, days, "right") - 1, 0, DELAY_BANDS - 1)
    every, frauds = (np.bincount(chosen, minlength=DELAY_BANDS).tolist() for chosen in (place, place[fraud]))
    bands = zip(edges[:-1].tolist(), edges[1:].tolist(), every, frauds, strict=True)
    return [DelayBand(least, below, labels, of_fraud) for least, below, labels, of_fraud in bands]


def separations(profile: DataProfile) -> list[Separation]:
    """The most telling first."""
    counted = [(name, "field", profile.texts[name]) for name in TEXT_FIELDS]
    counted += [(f"look of {name}", "id", profile.patterns[name]) for name in IDS]
    found = [by_value(name, kind, counts.counts) for name, kind, counts in counted]
    found += [
        by_value("hour of the day", "time", profile.hours.counts),
        by_value("precision of occurred_at", "time", profile.precisions.counts),
        by_size(AMOUNT, "amount", profile.frauds, profile.others),
        by_size(EVENT_NUMBER, "id", profile.frauds, profile.others),
    ]
    found += [by_size(feature_column(name), "feature", profile.frauds, profile.others) for name in profile.features]
    return sorted(found, key=lambda each: -each.auc)


def fraud_only(profile: DataProfile) -> list[FraudOnly]:
    found = []
    for name in TEXT_FIELDS:
        found += fraud_only_values(name, profile.texts[name].names, profile.texts[name].counts, LEAST_FRAUD_ONLY)
    for name in IDS:
        counts = profile.patterns[name]
        found += fraud_only_values(f"look of {name}", counts.names, counts.counts, LEAST_FRAUD_ONLY)
    found += fraud_only_values(
        "precision of occurred_at", PRECISIONS, profile.precisions.counts, LEAST_FRAUD_ONLY, mixed_bin=None
    )
    return sorted(found, key=lambda each: -each.frauds)


def drifts(profile: DataProfile) -> list[DriftFigures]:
    """The farthest first; none of a short history."""
    used = profile.slicing.used
    half, last = slice(0, used // 2), slice(used - max(round(used * LAST_PART), 1), used)
    subjects = {name: profile.texts[name].counts for name in TEXT_FIELDS} | {"amount": profile.amounts.counts}
    found = []
    for name, counts in subjects.items():
        before, after = counts[half].sum((0, 1)), counts[last].sum((0, 1))
        if min(before.sum(), after.sum()) < LEAST_COMPARED:
            return []
        parts = amount_parts(before) if name == "amount" else value_parts(before)
        old, new = np.bincount(parts, before), np.bincount(parts, after)
        found.append(DriftFigures(name, stability_index(old / old.sum(), new.astype(np.int64))))
    return sorted(found, key=lambda each: -each.index)


def value_parts(before: Numbers) -> Numbers:
    """int64[bins]: missing, each frequent value, and the others, as parts to be compared."""
    parts = np.full(len(before), 1, np.int64)
    parts[MISSING] = 0
    frequent = np.argsort(-before, kind="stable")
    frequent = frequent[frequent > OTHERS][:COMPARED_VALUES]
    parts[frequent] = 2 + np.arange(len(frequent))
    return parts


def amount_parts(before: Numbers) -> Numbers:
    """int64[bins]: about tenths of what was before."""
    middle = (np.cumsum(before) - before / 2) / max(int(before.sum()), 1)
    return np.minimum((middle * AMOUNT_PARTS).astype(np.int64), AMOUNT_PARTS - 1)


def _known(share: float) -> float | None:
    return float(share) if np.isfinite(share) else None


def span_days(figures: DataFigures) -> float:
    return (figures.last - figures.first) / MILLISECONDS_A_DAY
