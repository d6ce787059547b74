"""Why a score is high, in words and numbers that an analyst reads.

A reason's contribution is how far the raw output falls when what belongs to it is replaced by the usual, with the
step computed again from the state before the event. Usual is: the account's own median for the amount, no novelty,
nothing near the limit, the mean of the training data for everything else, no embedding, an empty state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.artifact import TrainedDetector
from models.detector import AMOUNT, EMBEDDINGS, INPUTS, MEMO_SIZE
from models.events import Events
from models.feature_schema import FEATURES, MEMO_CHARACTERS
from models.features import FeatureBatch
from models.merchant_labels import LABEL_FEATURES, MOST_DAYS
from models.text_reading import HIDDEN_CHARACTER, MIXED_ALPHABETS, signs_of

MOST_REASONS = 5
#: So many characters of a memo are told.
MOST_OF_MEMO = 60
DISGUISES = {
    MIXED_ALPHABETS: "letters of several alphabets in one word",
    HIDDEN_CHARACTER: "an invisible character within a word",
}
HOURS_A_MONTH = 720
#: The reason that stands for everything that labels say of the merchant.
MERCHANT_LABELS = "merchant_labels"


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
    """What one flagged event's reasons are told with. usual: the account's median amount, NaN without history; counts
    by feature name, without the event itself; fraud_share: of the merchant's matured events within about a month;
    run_frauds and run_days: its latest run of frauds, and how long ago the last of them was; typical: what the training
    data is like."""

    amount: float
    usual: float
    counts: dict[str, float]
    gap_seconds: float
    time: datetime
    merchant: str
    country: str | None
    memo: str | None
    category: str | None
    channel: str | None
    new_merchant: bool
    new_country: bool
    fraud_share: float
    run_frauds: float
    run_days: float
    near_limit: float
    limit: float
    history: int
    typical: "Typical"


@dataclass(frozen=True, slots=True)
class Typical:
    """Means of the training data: hour of the day, amount, events of a merchant in a month, share of frauds among a
    merchant's matured events."""

    hour: float
    amount: float
    merchant_month: float
    fraud_share: float


@dataclass(frozen=True, slots=True)
class NetworkPass:
    """Inputs [m, X], categories [m, C], states before [m, H] and what labels say of the merchant [m, L], of the
    accepted events, sorted as the feature batch is; kept to explain flagged rows."""

    inputs: torch.Tensor
    categories: torch.Tensor
    before: torch.Tensor
    labels: torch.Tensor


Telling = tuple[float, float, str]


def _tell_amount(f: Facts) -> Telling:
    if f.history == 0:
        return f.amount, f.typical.amount, f"amount {f.amount:,.2f} in the account's first event"
    times = f.amount / max(f.usual, 0.01)
    ratio = "less than 0.1" if times < 0.1 else f"{times:.1f}" if times < 10 else f"{times:,.0f}"
    return f.amount, f.usual, f"amount {f.amount:,.2f} is {ratio} times the usual {f.usual:,.2f}"


def _tell_pace(f: Facts) -> Telling:
    hour, usual = 1 + f.counts["account_count_hour"], f.counts["account_count_month"] / HOURS_A_MONTH
    if f.history == 0:
        return hour, usual, "first event of the account"
    return (
        hour,
        usual,
        f"{hour:.0f} in about an hour, usually {_rate(usual)}; the one before {_ago(f.gap_seconds)} earlier",
    )


def _tell_time(f: Facts) -> Telling:
    hour = f.time.hour + f.time.minute / 60
    return hour, f.typical.hour, f"at {f.time:%H:%M} UTC on a {f.time:%A}"


def _tell_merchant(f: Facts) -> Telling:
    novelty = "first recent event at" if f.new_merchant else "at"
    return float(f.new_merchant), 0.0, f"{novelty} merchant {f.merchant}"


def _tell_labels(f: Facts) -> Telling:
    said = f"{f.fraud_share:.1%} of the events at merchant {f.merchant} with known outcome were frauds"
    if f.run_frauds >= 1 and f.run_days < MOST_DAYS:
        said = (
            f"a run of {_several(f.run_frauds, 'fraud')} at merchant {f.merchant}, the last {f.run_days:.0f} days ago"
        )
    return f.fraud_share, f.typical.fraud_share, said


def _tell_traffic(f: Facts) -> Telling:
    seen = f.counts["merchant_count_month"]
    return seen, f.typical.merchant_month, f"merchant {f.merchant} had {_several(seen, 'event')} within about a month"


def _tell_country(f: Facts) -> Telling:
    novelty = "first recent event in" if f.new_country else "in"
    return float(f.new_country), 0.0, f"{novelty} {f.country or 'an unknown country'}"


def _tell_limit(f: Facts) -> Telling:
    if round(f.near_limit) == 0:
        return f.near_limit, 0.0, f"an amount just below {f.limit:,.0f} some weeks ago"
    return f.near_limit, 0.0, f"{_several(f.near_limit, 'amount')} just below {f.limit:,.0f} within about a week"


def _tell_kind(f: Facts) -> Telling:
    return 1.0, 0.0, f"category {f.category or 'unknown'}, channel {f.channel or 'unknown'}"


def _tell_memo(f: Facts) -> Telling:
    """As text only: what cannot be printed is escaped."""
    if not f.memo:
        return 0.0, 0.0, "no memo"
    beginning = f.memo if len(f.memo) <= MOST_OF_MEMO else f"{f.memo[:MOST_OF_MEMO]}..."
    shown = [DISGUISES[sign] for sign in signs_of(f.memo[:MEMO_CHARACTERS]) if sign in DISGUISES]
    return 1.0, 0.0, f"memo: {beginning!r}" + (f" ({', '.join(shown)})" if shown else "")


def _tell_sequence(f: Facts) -> Telling:
    return float(f.history), 0.0, f"what the account did before, in its order ({_several(f.history, 'event')})"


@dataclass(frozen=True, slots=True)
class Group:
    """Features and embeddings that make one reason. usual: their features' usual value in the units of
    feature_schema, None for the mean of the training data. Features of MOVED_WITH_AMOUNT have none of their own."""

    name: str
    features: tuple[str, ...]
    embeddings: tuple[str, ...]
    usual: float | None
    tell: Callable[[Facts], Telling]


def _named(beginning: str) -> tuple[str, ...]:
    return tuple(name for name in FEATURES if name.startswith(beginning))


GROUPS = (
    Group("amount", _named("amount"), (), 0.0, _tell_amount),
    Group("pace", ("gap", *_named("account_")), (), None, _tell_pace),
    Group("time", (*_named("hour_"), *_named("weekday_")), (), None, _tell_time),
    Group("merchant", ("new_merchant",), (), 0.0, _tell_merchant),
    Group(MERCHANT_LABELS, (), (), None, _tell_labels),
    Group("country", ("new_country",), ("country",), 0.0, _tell_country),
    Group("reporting_limit", _named("below_limit"), (), 0.0, _tell_limit),
    Group("merchant_traffic", _named("merchant_count"), (), None, _tell_traffic),
    Group("kind", (), ("category", "channel"), None, _tell_kind),
    Group("memo", (), ("memo",), None, _tell_memo),
    Group("sequence", (), (), None, _tell_sequence),
)
_NAMES = [group.name for group in GROUPS]
AMOUNT_GROUP, LABELS_GROUP, SEQUENCE_GROUP = map(_NAMES.index, ("amount", MERCHANT_LABELS, "sequence"))
#: The amount itself and its ratios to what the merchant sees.
MOVED_WITH_AMOUNT = ("amount", *(name for name in _named("amount") if "merchant" in name))


class Explainer:
    """Of one model. Shape suffixes: G groups, m events, X inputs."""

    def __init__(self, model: TrainedDetector) -> None:
        self._model = model
        self._typical = _typical(model)
        network = model.network
        replaced_GX = torch.zeros(len(GROUPS), INPUTS, dtype=torch.bool)
        usual_GX = torch.zeros(len(GROUPS), INPUTS)
        mean_F, scale_F = network.mean_F.cpu(), network.scale_F.cpu()
        for place, group in enumerate(GROUPS):
            columns = [FEATURES.index(name) for name in group.features if name not in MOVED_WITH_AMOUNT]
            replaced_GX[place, columns] = True
            if group.usual is not None:
                usual_GX[place, columns] = (group.usual - mean_F[columns]) / scale_F[columns]
            for start, stop in _embedding_columns(group):
                replaced_GX[place, start:stop] = True
        self._replaced_GX, self._usual_GX = replaced_GX.to(network.device), usual_GX.to(network.device)
        self._moved = torch.tensor([FEATURES.index(name) for name in MOVED_WITH_AMOUNT], device=network.device)

    def explain(
        self,
        built: FeatureBatch,
        network: NetworkPass,
        events: Events,
        places: npt.NDArray[np.int64],
        rows: npt.NDArray[np.intp],
    ) -> list[list[Reason]]:
        """places: sorted rows of the feature batch; rows: the same events' batch rows."""
        contributions = self._contributions(built, network, places)
        return [
            _strongest(contributions[:, index], _facts(self._model, built, events, int(place), int(row), self._typical))
            for index, (place, row) in enumerate(zip(places, rows, strict=True))
        ]

    def _contributions(
        self, built: FeatureBatch, network: NetworkPass, places: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """[G, m]: how far the raw output falls without each group. All in one pass, as small ones cost the same: the
        events once for each group, then as they are."""
        at = torch.from_numpy(places).to(network.inputs.device)
        copies = len(GROUPS) + 1
        x_mX = network.inputs[at]
        without_GmX = torch.where(self._replaced_GX[:, None], self._usual_GX[:, None], x_mX)
        self._use_own_median(without_GmX[AMOUNT_GROUP], torch.from_numpy(built.usual[places]).to(at.device))
        states = network.before[at].repeat(copies, 1, 1)
        states[SEQUENCE_GROUP] = 0.0
        labels = network.labels[at].repeat(copies, 1, 1)
        labels[LABELS_GROUP] = self._model.network.label_mean_L
        raw = self._raw(
            torch.cat([without_GmX.flatten(0, 1), x_mX]),
            states.flatten(0, 1),
            network.categories[at].repeat(copies, 1),
            labels.flatten(0, 1),
        ).view(copies, len(places))
        return (raw[-1] - raw[:-1]).double().cpu().numpy()

    def _raw(self, inputs: Tensor, before: Tensor, categories: Tensor, labels: Tensor) -> Tensor:
        network = self._model.network
        surprises, unusual = network.surprise(before, inputs, categories)
        return self._model.raw(network.logits(network.step(inputs, before), inputs, surprises, labels), unusual)

    def _use_own_median(self, inputs_mX: Tensor, usual_m: Tensor) -> None:
        """The same events with their account's median amount; the mean of all for an account without history. What
        stands for the amount or its ratio to the merchant's moves with it; ratios to the account's own past are none
        already."""
        scale, mean = self._model.network.scale_F, self._model.network.mean_F
        amount = inputs_mX[:, AMOUNT] * scale[AMOUNT] + mean[AMOUNT]
        lowered = torch.where(usual_m.isnan(), mean[AMOUNT], usual_m.nan_to_num().log1p()) - amount
        inputs_mX[:, self._moved] += lowered[:, None] / scale[self._moved]


def _embedding_columns(group: Group) -> list[tuple[int, int]]:
    """The input columns [start, stop) of a group's embeddings."""
    columns, start = [], len(FEATURES)
    for name, size in {**EMBEDDINGS, "memo": MEMO_SIZE}.items():
        if name in group.embeddings:
            columns.append((start, start + size))
        start += size
    return columns


def _typical(model: TrainedDetector) -> Typical:
    mean = dict(zip(FEATURES, model.network.mean_F.tolist(), strict=True))
    labels = dict(zip(LABEL_FEATURES, model.network.label_mean_L.tolist(), strict=True))
    return Typical(
        hour=round(float(np.arctan2(mean["hour_sin"], mean["hour_cos"]) / (2 * np.pi) * 24 % 24), 2),
        amount=round(float(np.expm1(mean["amount"])), 2),
        merchant_month=round(float(np.expm1(mean["merchant_count_month"])), 2),
        fraud_share=round(float(np.exp(labels["fraud_rate_month"])), 4),
    )


def _facts(
    model: TrainedDetector, built: FeatureBatch, events: Events, place: int, row: int, typical: Typical
) -> Facts:
    features = dict(zip(FEATURES, built.features[place].tolist(), strict=True))
    labels = dict(zip(LABEL_FEATURES, built.labels[place].tolist(), strict=True))
    return Facts(
        amount=float(events.amount[row]),
        usual=float(built.usual[place]),
        counts={name: float(np.expm1(value)) for name, value in features.items() if "_count" in name},
        gap_seconds=float(np.expm1(features["gap"])),
        time=datetime.fromtimestamp(int(events.occurred_at[row]) / 1000, UTC),
        merchant=events.merchant_id[row],
        country=events.country[row],
        memo=events.memo[row],
        category=events.category[row],
        channel=events.channel[row],
        new_merchant=features["new_merchant"] > 0,
        new_country=features["new_country"] > 0,
        fraud_share=float(np.exp(labels["fraud_rate_month"])),
        run_frauds=float(np.expm1(labels["run_frauds"])),
        run_days=labels["days_since_run_fraud"],
        near_limit=float(np.expm1(features["below_limit_count"])) + features["below_limit"],
        limit=model.network.config.reporting_limit,
        history=int(built.age[place]),
        typical=typical,
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
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return _several(seconds / size, unit)
    return _several(seconds, "second")


def _rate(number: float) -> str:
    """Two digits that matter, never as a power of ten."""
    if number < 0.001:
        return "less than 0.001"
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _several(number: float, thing: str) -> str:
    return f"{number:,.0f} {thing}{'' if round(number) == 1 else 's'}"
