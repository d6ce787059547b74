"""How well one column alone tells frauds from the other matured events: what no honest column does too well.

Of values that are counted, the share of frauds in half of the time slices orders those of the other half, and the
other way round, so that values which hardly recur tell nothing. Of numbers, their size orders them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.metrics import roc_auc
from models.samples import Floats, RowSample
from models.value_counts import FRAUD, LEGITIMATE, OTHERS, UNLABELLED, Numbers

#: So many events of a value weigh as much as what is known without it.
PRIOR = 2.0


@dataclass(frozen=True, slots=True)
class Separation:
    """auc: how often a fraud stands above another event by the column alone, 0.5 to 1; frauds, others: of how many."""

    column: str
    kind: str
    auc: float
    frauds: int
    others: int


def by_value(column: str, kind: str, counts: Numbers) -> Separation:
    """counts int64[slices, 4, bins]."""
    frauds, others = counts[:, FRAUD], counts[:, UNLABELLED] + counts[:, LEGITIMATE]
    areas: list[float] = []
    for judged in (0, 1):
        own = np.arange(len(counts)) % 2 == judged
        if frauds[own].any() and others[own].any() and frauds[~own].any() and others[~own].any():
            areas.append(grouped_auc(fraud_share(frauds[~own].sum(0), others[~own].sum(0)), frauds[own], others[own]))
    auc = float(np.mean(areas)) if areas else 0.5
    return Separation(column, kind, max(auc, 0.5), int(frauds.sum()), int(others.sum()))


def fraud_share(frauds: Numbers, others: Numbers) -> Floats:
    """float64[bins]: of each value, pulled to that of all."""
    usual = frauds.sum() / max(int(frauds.sum() + others.sum()), 1)
    share: Floats = (frauds + PRIOR * usual) / (frauds + others + PRIOR)
    return share


def grouped_auc(score: Floats, frauds: Numbers, others: Numbers) -> float:
    """Of events that come in bins of equal score; frauds, others int64[slices, bins]."""
    _, group = np.unique(score, return_inverse=True)
    fraud_count, other_count = np.bincount(group, frauds.sum(0)), np.bincount(group, others.sum(0))
    below = np.cumsum(other_count) - other_count
    return float((fraud_count * (below + other_count / 2)).sum() / (fraud_count.sum() * other_count.sum()))


def by_size(column: str, kind: str, frauds: RowSample, others: RowSample) -> Separation:
    """Of a column of numbers, in whichever direction; NaN is no number and stands for neither."""
    of_frauds, of_others = (_finite(sample.column(column)) for sample in (frauds, others))
    auc = roc_auc(np.concatenate([of_frauds, of_others]), np.arange(len(of_frauds) + len(of_others)) < len(of_frauds))
    auc = max(auc, 1 - auc) if np.isfinite(auc) else 0.5
    return Separation(column, kind, auc, len(of_frauds), len(of_others))


@dataclass(frozen=True, slots=True)
class FraudOnly:
    """A value that no matured event has but frauds. value: None for a missing one; share: of all frauds; slices: in
    which share of the time slices with frauds."""

    field: str
    value: str | None
    frauds: int
    share: float
    slices: float


def fraud_only_values(
    field: str, names: Sequence[str | None], counts: Numbers, least: int, mixed_bin: int | None = OTHERS
) -> list[FraudOnly]:
    """Those with so many frauds at least, the most frequent first. mixed_bin: stands for several values."""
    frauds, others = counts[:, FRAUD], (counts[:, UNLABELLED] + counts[:, LEGITIMATE]).sum(0)
    total, held = frauds.sum(0), max(int(frauds.any(1).sum()), 1)
    slices = (frauds > 0).sum(0) / held
    chosen = [place for place in np.flatnonzero((total >= least) & (others == 0)).tolist() if place != mixed_bin]
    found = [
        FraudOnly(field, names[place], int(total[place]), float(total[place] / total.sum()), float(slices[place]))
        for place in chosen
    ]
    return sorted(found, key=lambda each: -each.frauds)


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def filled(counts: Numbers) -> npt.NDArray[np.float64]:
    """float64[4]: with each knowledge, the share of events that have the field; NaN without events."""
    of_each = counts.sum((0, 2))
    with np.errstate(invalid="ignore"):
        share: Floats = 1 - counts[:, :, 0].sum(0) / of_each
    return share
