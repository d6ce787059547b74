"""Why a score is high, in words and numbers that an analyst reads.

A reason's contribution is how far the logit falls when what belongs to it is replaced by the usual (the training
mean of its features, the empty embedding), with the step computed again from the state before the event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from models.artifact import TrainedDetector
from models.detector import EMBEDDING_SIZES, MEMO_SIZE
from models.events import Events
from models.feature_schema import CATEGORIES, FEATURES
from models.features import FeatureBatch

if TYPE_CHECKING:
    from models.scoring import NetworkPass

MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """value and usual in human units; contribution in units of the logit (0.7 doubles the odds)."""

    feature: str
    value: float
    usual: float
    contribution: float
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What one flagged event's reasons are told with."""

    amount: float
    usual: float
    counts: npt.NDArray[np.float64]
    gap_seconds: float
    hour: datetime
    merchant: str
    country: str | None
    memo: str | None
    category: str | None
    new_merchant: bool
    new_country: bool
    merchant_month: float
    near_limit: float
    limit: float
    history: int


Telling = tuple[float, float, str]


def _tell_amount(f: Facts) -> Telling:
    if f.history == 0:
        return f.amount, 0.0, f"amount {f.amount:,.2f} in the account's first event"
    times = f.amount / max(f.usual, 0.01)
    size = f"{times:,.1f} times" if times >= 1 else "below"
    return f.amount, f.usual, f"amount {f.amount:,.2f} is {size} the account's usual {f.usual:,.2f}"


def _tell_pace(f: Facts) -> Telling:
    hour, month = float(f.counts[0]), float(f.counts[3]) / 720
    return (
        hour,
        month,
        f"{hour:.1f} events within about an hour, usually {month:.2f}; the last one {_ago(f.gap_seconds)}",
    )


def _tell_time(f: Facts) -> Telling:
    hour = f.hour.hour + f.hour.minute / 60
    return hour, 12.0, f"at {f.hour:%H:%M} UTC on a {f.hour:%A}"


def _tell_merchant(f: Facts) -> Telling:
    novelty = "first recent event at" if f.new_merchant else "at"
    return float(f.new_merchant), 0.0, f"{novelty} merchant {f.merchant} (about {f.merchant_month:.0f} events a month)"


def _tell_country(f: Facts) -> Telling:
    novelty = "first recent event in" if f.new_country else "in"
    return float(f.new_country), 0.0, f"{novelty} country {f.country or 'unknown'}"


def _tell_limit(f: Facts) -> Telling:
    return f.near_limit, 0.0, f"{f.near_limit:.0f} amounts just below {f.limit:,.0f} within about a week"


def _tell_kind(f: Facts) -> Telling:
    return 1.0, 0.0, f"category {f.category or 'unknown'} through this channel"


def _tell_memo(f: Facts) -> Telling:
    return 1.0, 0.0, f"wording of the memo: {(f.memo or '')[:60]!r}"


def _tell_sequence(f: Facts) -> Telling:
    return float(f.history), 0.0, f"the order and rhythm of the account's last events ({f.history} known)"


@dataclass(frozen=True, slots=True)
class Group:
    """Features and embeddings that make one reason."""

    name: str
    features: tuple[str, ...]
    embeddings: tuple[str, ...]
    tell: Callable[[Facts], Telling]


GROUPS = (
    Group(
        "amount",
        tuple(name for name in FEATURES if name.startswith("amount") or name == "account_amount_day"),
        (),
        _tell_amount,
    ),
    Group("pace", ("gap", *(name for name in FEATURES if name.startswith("account_count"))), (), _tell_pace),
    Group("time", ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"), (), _tell_time),
    Group(
        "merchant",
        ("new_merchant", *(name for name in FEATURES if name.startswith("merchant_count"))),
        ("merchant",),
        _tell_merchant,
    ),
    Group("country", ("new_country",), ("country",), _tell_country),
    Group("reporting_limit", ("below_limit", "below_limit_count"), (), _tell_limit),
    Group("kind", (), ("category", "channel"), _tell_kind),
    Group("memo", (), ("memo",), _tell_memo),
    Group("sequence", ("history",), (), _tell_sequence),
)


def explain_rows(
    model: TrainedDetector,
    built: FeatureBatch,
    network: "NetworkPass",
    events: Events,
    places: npt.NDArray[np.int64],
    rows: npt.NDArray[np.intp],
) -> list[list[Reason]]:
    """places: sorted rows of the feature batch; rows: the same events' batch rows."""
    contributions = _contributions(model, network, torch.from_numpy(places).to(network.inputs.device))
    return [
        _strongest(contributions[:, index], _facts(model, built, events, int(places[index]), int(rows[index])))
        for index in range(len(rows))
    ]


def _contributions(model: TrainedDetector, network: "NetworkPass", places: torch.Tensor) -> npt.NDArray[np.float64]:
    """[groups, m]: the logit (or surprise) lost without each group."""
    inputs, before, categories = network.inputs[places], network.before[places], network.categories[places]
    full = _raw(model, inputs, before, categories)
    lost = []
    for group in GROUPS:
        without = inputs.clone()
        for start, stop in _columns(group):
            without[:, start:stop] = 0.0
        state = torch.zeros_like(before) if group.name == "sequence" else before
        lost.append(full - _raw(model, without, state, categories))
    return torch.stack(lost).double().cpu().numpy()


def _raw(model: TrainedDetector, inputs: torch.Tensor, before: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
    surprises, unusual = model.network.surprise(before, inputs, categories)
    return model.raw(model.network.logits(model.network.step(inputs, before), inputs, surprises), unusual)


def _columns(group: Group) -> list[tuple[int, int]]:
    """The input columns [start, stop) of a group."""
    columns = [(FEATURES.index(name), FEATURES.index(name) + 1) for name in group.features]
    start = len(FEATURES)
    for name, size in zip((*CATEGORIES, "memo"), (*EMBEDDING_SIZES, MEMO_SIZE), strict=True):
        if name in group.embeddings:
            columns.append((start, start + size))
        start += size
    return columns


def _facts(model: TrainedDetector, built: FeatureBatch, events: Events, place: int, row: int) -> Facts:
    features = dict(zip(FEATURES, built.features[place].tolist(), strict=True))
    counts = np.expm1([features[f"account_count_{span}"] for span in ("hour", "day", "week", "month")])
    return Facts(
        amount=float(events.amount[row]),
        usual=float(np.nan_to_num(built.usual[place])),
        counts=counts,
        gap_seconds=float(np.expm1(features["gap"])),
        hour=datetime.fromtimestamp(int(events.occurred_at[row]) / 1000, UTC),
        merchant=events.merchant_id[row],
        country=events.country[row],
        memo=events.memo[row],
        category=events.category[row],
        new_merchant=features["new_merchant"] > 0,
        new_country=features["new_country"] > 0,
        merchant_month=float(np.expm1(features["merchant_count_month"])),
        near_limit=float(np.expm1(features["below_limit_count"])) + features["below_limit"],
        limit=model.network.config.reporting_limit,
        history=int(built.age[place]),
    )


def _strongest(contributions: npt.NDArray[np.float64], facts: Facts) -> list[Reason]:
    """The groups that raised the score, strongest first; the strongest one even where none did."""
    order = np.argsort(-contributions)
    chosen = [index for index in order[:MOST_REASONS] if contributions[index] > 0] or [order[0]]
    reasons = []
    for index in chosen:
        value, usual, text = GROUPS[index].tell(facts)
        reasons.append(Reason(GROUPS[index].name, value, usual, round(float(contributions[index]), 4), text))
    return reasons


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} before"
    return f"{seconds:.0f} seconds before"
