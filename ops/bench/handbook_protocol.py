"""How the Fraud Detection Handbook judges a detector: four folds in time, labels a week late, three figures each.

A fold is a training week, a week of delay and seven test days; the folds' test days follow one another, so that one
score for each transaction says all. Knows transactions and scores, no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.metrics import average_precision, roc_auc
from ops.simulate.handbook import HandbookTransactions

TRAINING_DAYS, DELAY_DAYS, TEST_DAYS = 7, 7, 7
#: Cards that can be checked in a day.
CARDS_A_DAY = 100

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fold:
    """training_day: the first of the training week, in whole days since 2018-04-01."""

    training_day: int

    @property
    def training_end(self) -> int:
        """The first day after the training week."""
        return self.training_day + TRAINING_DAYS

    @property
    def test_day(self) -> int:
        """The first of the test days; what happened before `training_end` is all whose labels are known by then."""
        return self.training_end + DELAY_DAYS

    @property
    def test_days(self) -> range:
        return range(self.test_day, self.test_day + TEST_DAYS)


#: Training weeks from 25 July, 1, 8 and 15 August 2018.
FOLDS = (Fold(115), Fold(122), Fold(129), Fold(136))
#: The first day that no fold tests.
END_DAY = FOLDS[-1].test_days.stop


@dataclass(frozen=True, slots=True)
class Figures:
    """ap: average precision; auc: area under the ROC curve; cp100: of the 100 cards with the highest scores of a day,
    the share with a fraud on it, mean over the days."""

    ap: float
    auc: float
    cp100: float


def mean_figures(figures: Sequence[Figures]) -> Figures:
    ap, auc, cp100 = np.mean([(one.ap, one.auc, one.cp100) for one in figures], axis=0).tolist()
    return Figures(ap, auc, cp100)


def judged_rows(data: HandbookTransactions, fold: Fold) -> Ints:
    """The transactions that count: those of the test days, without cards of which a fraud is known by that day, that
    is of the training week, or since, up to the day eight days before."""
    day, fraud, customer = data.day, data.fraud, data.customer
    parts = []
    for today in fold.test_days:
        known = fraud & (day >= fold.training_day) & (day < today - DELAY_DAYS)
        compromised = np.unique(customer[known])
        parts.append(np.flatnonzero((day == today) & ~np.isin(customer, compromised)))
    return np.concatenate(parts)


def fold_figures(data: HandbookTransactions, fold: Fold, scores: Floats) -> Figures:
    """scores: one for each transaction, of which those outside the test days play no part. Raises ValueError where
    one of the others is no number."""
    rows = judged_rows(data, fold)
    tested, fraud = scores[rows], data.fraud[rows]
    if not np.isfinite(tested).all():
        raise ValueError(f"{int((~np.isfinite(tested)).sum())} of {len(rows)} tested transactions have no score")
    return Figures(
        ap=average_precision(tested, fraud),
        auc=roc_auc(tested, fraud),
        cp100=card_precision(tested, fraud, data.customer[rows], data.day[rows]),
    )


def card_precision(scores: Floats, fraud: Flags, customer: Ints, day: Ints, cards: int = CARDS_A_DAY) -> float:
    """The mean over the days of hits / cards, a card that was caught on one day being left out on the next ones. A
    card scores as its highest transaction of the day; among equals the lower number goes first."""
    caught = np.zeros(0, np.int64)
    shares = []
    for today in np.unique(day):
        rows = np.flatnonzero((day == today) & ~np.isin(customer, caught))
        own, place = np.unique(customer[rows], return_inverse=True)
        highest, with_fraud = np.full(len(own), -np.inf), np.zeros(len(own), bool)
        np.maximum.at(highest, place, scores[rows])
        np.logical_or.at(with_fraud, place, fraud[rows])
        checked = np.argsort(-highest, kind="stable")[:cards]
        hits = own[checked[with_fraud[checked]]]
        caught = np.concatenate([caught, hits])
        shares.append(len(hits) / cards)
    return float(np.mean(shares))
