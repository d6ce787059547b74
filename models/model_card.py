"""What a registered version says of itself: on which data it was made, how good it is for whom, and what nobody knows.

Computed once, at training, from what training and the look at its data found; kept as JSON with the version's metrics.
Limits are sentences that follow from the figures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.calibration import ScoreKind
from models.curves import calibration_bins
from models.data_quality import DataQuality
from models.events import MILLISECONDS_A_DAY
from models.gate import LEAST_ACCOUNTS
from models.labels import History
from models.metrics import calibration_error
from models.segments import LEAST_FRAUDS, PARTED_BY, JudgedSlice, Segment, segments_of

#: Under which name a version's metrics hold its card.
CARD = "card"
RELIABILITY_BINS = 10
#: Counts and means of an account's month need two of them to be what they are live.
SETTLED_DAYS = 60


@dataclass(frozen=True, slots=True)
class ModelCard:
    """data: when and how much; settings: of the training; quality: parts with their measures, the whole first;
    calibration: empty where scores are no probabilities or nothing was measured; limits: sentences; code: version of
    Headgate."""

    kind: str
    data: Mapping[str, Any]
    quality: Sequence[Mapping[str, Any]]
    calibration: Mapping[str, Any]
    limits: Sequence[str]
    settings: Mapping[str, Any]
    code: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DetectorFacts:
    """What a detector's card is made of. history: what it was trained and validated on. judged: None where no fraud is
    known among what was not trained on. data: None where nobody looked."""

    history: History
    judged: JudgedSlice | None
    score_kind: ScoreKind
    settings: Mapping[str, Any]
    code: str
    data: DataQuality | None = None


def detector_card(facts: DetectorFacts) -> ModelCard:
    judged = facts.judged
    names = {} if facts.data is None else facts.data.figures.frequent_values()
    segments = [] if judged is None else segments_of(judged, names, np.random.default_rng(0))
    window = data_window(facts.history, facts.data)
    return ModelCard(
        kind="detector",
        data=window,
        quality=[asdict(segment) for segment in segments],
        calibration={} if judged is None or facts.score_kind != "probability" else calibration_of(judged),
        limits=[*limits_of_judgement(facts, segments), *limits_of_data(window, facts)],
        settings=dict(facts.settings),
        code=facts.code,
    )


def data_window(history: History, data: DataQuality | None) -> dict[str, Any]:
    """Times as RFC 3339."""
    times, labels = history.occurred_at, history.labels
    matured = times[labels >= 0]
    found: dict[str, Any] = {
        "from": moment(int(times[0])),
        "until": moment(int(times[-1])),
        "matured_until": moment(int(matured[-1])) if len(matured) else None,
        "horizon_days": history.horizon / MILLISECONDS_A_DAY,
        "events": len(times),
        "accounts": len(np.unique(history.accounts.number)),
        "merchants": len(np.unique(history.merchants.number)),
        "matured": len(matured),
        "frauds": int((labels == 1).sum()),
    }
    if data is not None:
        found["labels"] = data.figures.labels.labelled
    return found


def calibration_of(judged: JudgedSlice) -> dict[str, Any]:
    return {
        "expected_error": calibration_error(judged.scores, judged.fraud),
        "bins": [asdict(each) for each in calibration_bins(judged.scores, judged.fraud, RELIABILITY_BINS)],
    }


def limits_of_judgement(facts: DetectorFacts, segments: Sequence[Segment]) -> Iterator[str]:
    judged = facts.judged
    if judged is None:
        yield "No fraud is known among the events that judged it, so how well it finds frauds was not measured."
    else:
        whole = segments[0]
        yield (
            f"Measured on {whole.events:,} later events from {day(judged.begin)} to {day(judged.end)} with "
            f"{whole.frauds:,} frauds. They were not trained on, but chose the epoch and set calibration and "
            "threshold, so the figures are a little flattered."
        )
        if whole.measures and not whole.intervals:
            yield f"Frauds lie in fewer than {LEAST_ACCOUNTS} accounts: nobody can say how far chance made the figures."
        if not whole.measures:
            yield f"{whole.frauds:,} frauds are too few for figures that mean something; {LEAST_FRAUDS} are needed."
    few = [f"{each.kind} {each.name} ({each.frauds})" for each in segments[1:] if not each.measures]
    if few:
        yield f"Too few frauds to say how good it is for: {'; '.join(few)}."
    if judged is not None and not {each.kind for each in segments} & set(PARTED_BY):
        yield "Not measured by channel or category: no event has them, or their values were not gathered."
    if facts.score_kind == "surprise":
        yield "Scores say how unusual an event is; they are no probabilities, and severities rank and do not estimate."


def limits_of_data(window: Mapping[str, Any], facts: DetectorFacts) -> Iterator[str]:
    events, matured = window["events"], window["matured"]
    if facts.data is not None and matured:
        known = facts.data.figures.labels
        if known.labelled < known.matured:
            share = 1 - known.labelled / known.matured
            yield (
                f"{share:.1%} of the matured events have no label and count as legitimate: frauds among them that "
                "nobody reported were taught as legitimate, and count as false alerts here."
            )
    if events > matured:
        yield (
            f"{events - matured:,} of {events:,} events are younger than {span_of(window['horizon_days'])}: their "
            "labels taught nothing."
        )
    span = (int(facts.history.occurred_at[-1]) - int(facts.history.occurred_at[0])) / MILLISECONDS_A_DAY
    if span < SETTLED_DAYS:
        yield f"The history is {span_of(span)} long: what an account does in a month has hardly been seen whole."
    for finding in [] if facts.data is None else facts.data.of("warning"):
        yield f"The data was found to have a fault: {finding.text}."
    yield (
        f"Not tested: what happens after {day(int(facts.history.occurred_at[-1]))}, other accounts and merchants than "
        "these, and how frauds change once they are stopped."
    )


def span_of(days: float) -> str:
    """In the largest unit of which there are two or more: a demo is over in minutes."""
    units = {"days": 1, "hours": 24, "minutes": 24 * 60, "seconds": 24 * 3600}
    name = next((name for name, a_day_has in units.items() if days * a_day_has >= 2), "seconds")
    count = days * units[name]
    return f"{round(count, 1 if count < 10 else 0):g} {name}"


def moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def day(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d}"
