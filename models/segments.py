"""How good a detector is for parts of what judged it: by amount, by how well it knew the account, by channel and by
category. Each measure comes with what it rests on; parts with too few frauds have counts alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.feature_schema import CATEGORIES, CATEGORY_BUCKETS, FEATURES
from models.hashing import BucketMemory
from models.intervals import Integers, intervals
from models.metrics import Floats, Positives, average_precision, precision_at_threshold, roc_auc

#: Below each, in the base currency.
AMOUNT_BOUNDS = (10.0, 100.0, 1_000.0, 10_000.0)
#: An account with fewer earlier events is new.
KNOWN_FROM = 5
#: A part with fewer frauds is counted and not measured.
LEAST_FRAUDS = 20
#: Texts whose values are parts, and of each the most frequent.
PARTED_BY = ("channel", "category")
MOST_VALUES = 12
_AMOUNT, _HISTORY = FEATURES.index("amount"), FEATURES.index("history")


@dataclass(frozen=True, slots=True)
class JudgedSlice:
    """n later events with matured labels: scores float64[n], fraud bool[n], account int64[n] (numbers from 0), amount
    float32[n] in the base currency, earlier float32[n]: the account's events before, buckets int16[n, C] as
    feature_schema.CATEGORIES orders them. threshold: from which scores are flagged; begin, end: their times, epoch
    milliseconds."""

    scores: Floats
    fraud: Positives
    account: Integers
    amount: npt.NDArray[np.float32]
    earlier: npt.NDArray[np.float32]
    buckets: npt.NDArray[np.int16]
    threshold: float
    begin: int
    end: int

    @staticmethod
    def of(
        scores: Floats,
        fraud: Positives,
        account: Integers,
        features: npt.NDArray[np.float32],
        buckets: npt.NDArray[np.int16],
        threshold: float,
        span: tuple[int, int],
    ) -> "JudgedSlice":
        """features float32[n, F]; span: times of the first and the last, epoch milliseconds."""
        amount, earlier = np.expm1(features[:, _AMOUNT]), np.expm1(features[:, _HISTORY])
        return JudgedSlice(scores, fraud, account, amount, earlier, buckets, threshold, *span)


@dataclass(frozen=True, slots=True)
class Segment:
    """kind: amount, account, channel, category, or all. measures: empty where there are too few frauds; precision and
    recall are those of what is flagged. intervals: (low, high) of 95 %, where enough accounts have a fraud."""

    kind: str
    name: str
    events: int
    frauds: int
    accounts: int
    flagged: int
    measures: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]


def segments_of(
    judged: JudgedSlice, names: Mapping[str, Sequence[str]], generator: np.random.Generator
) -> list[Segment]:
    """All of it first. names: of channel and category, the values that are parts, the most frequent first."""
    everything = np.ones(len(judged.fraud), np.bool_)
    parts = [("all", "all", everything), *amount_parts(judged), *account_parts(judged), *named_parts(judged, names)]
    return [measured(kind, name, judged, rows, generator) for kind, name, rows in parts if rows.any()]


def amount_parts(judged: JudgedSlice) -> Iterator[tuple[str, str, Positives]]:
    bounds = (0.0, *AMOUNT_BOUNDS, np.inf)
    for least, below in pairwise(bounds):
        name = f"{least:,.0f} to below {below:,.0f}" if np.isfinite(below) else f"{least:,.0f} and more"
        yield "amount", name, (judged.amount >= least) & (judged.amount < below)


def account_parts(judged: JudgedSlice) -> Iterator[tuple[str, str, Positives]]:
    known = judged.earlier > KNOWN_FROM - 0.5
    yield "account", f"new (fewer than {KNOWN_FROM} events before)", ~known
    yield "account", "known", known


def named_parts(judged: JudgedSlice, names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, Positives]]:
    """The network sees texts as buckets, so values of one bucket are one part."""
    for kind in PARTED_BY:
        column = CATEGORIES.index(kind)
        memory, of_bucket = BucketMemory(CATEGORY_BUCKETS[column]), dict[int, list[str]]()
        for name in names.get(kind, ())[:MOST_VALUES]:
            of_bucket.setdefault(memory[name], []).append(name)
        for bucket, together in of_bucket.items():
            yield kind, " or ".join(together), judged.buckets[:, column] == bucket


def measured(kind: str, name: str, judged: JudgedSlice, rows: Positives, generator: np.random.Generator) -> Segment:
    scores, fraud, account = judged.scores[rows], judged.fraud[rows], judged.account[rows]
    flagged = scores >= judged.threshold
    counts = int(rows.sum()), int(fraud.sum()), len(np.unique(account)), int(flagged.sum())
    if fraud.sum() < LEAST_FRAUDS:
        return Segment(kind, name, *counts, {}, {})
    measures = {
        "average_precision": average_precision(scores, fraud),
        "auc": roc_auc(scores, fraud),
        "precision": precision_at_threshold(scores, fraud, judged.threshold),
        "recall": float(flagged[fraud].mean()),
    }
    found = intervals(scores, fraud, account, judged.threshold, generator)
    bounds = {name.removesuffix("_at_budget"): bound for name, bound in found.items()}
    return Segment(kind, name, *counts, {name: value for name, value in measures.items() if np.isfinite(value)}, bounds)
