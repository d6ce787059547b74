"""How sure the figures of one model are: intervals by a bootstrap over accounts.

An account's events depend on each other, so whole accounts are drawn again (Efron and Tibshirani, 1993), as in gate.py,
which compares two models. Events are sorted once. The measures move only at frauds, so each draw needs no more than the
sums of events between them; a block of draws is summed at once. Shape suffixes: K groups of equal scores that hold a
fraud, S segments of events between them, A accounts, R draws.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.gate import LEAST_ACCOUNTS
from models.metrics import Floats, Positives

CONFIDENCE = 0.95
RESAMPLES = 200
#: Draws that are summed at once: they take 4 bytes for each account and each segment.
BLOCK = 25
MEASURES = ("average_precision", "auc", "precision_at_budget")
Integers = npt.NDArray[np.int64]


def intervals(
    scores: Floats,
    fraud: Positives,
    account: Integers,
    threshold: float,
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Mapping[str, tuple[float, float]]:
    """95 % intervals of average precision, AUC and precision from the threshold on, each where most draws have one.
    account int64[n]: numbers from 0. Empty where fewer than LEAST_ACCOUNTS accounts have a fraud."""
    if len(np.unique(account[fraud])) < LEAST_ACCOUNTS:
        return {}
    present = np.bincount(account) > 0
    ranking = RankedFrauds(scores, fraud, (np.cumsum(present) - 1)[account], threshold)
    measured = np.concatenate(
        [ranking.measures(times) for times in draws(int(present.sum()), resamples, generator)], axis=1
    )
    found = {}
    for name, values in zip(MEASURES, measured, strict=True):
        known = values[np.isfinite(values)]  # a draw may hold nothing that is flagged
        if 2 * len(known) > resamples:
            low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            found[name] = (float(low), float(high))
    return found


def draws(accounts: int, resamples: int, generator: np.random.Generator) -> Iterator[npt.NDArray[np.float32]]:
    """How often each account counts, [A, R] for each block: as many draws as there are accounts, with replacement."""
    for first in range(0, resamples, BLOCK):
        count = min(BLOCK, resamples - first)
        drawn = generator.integers(0, accounts, (count, accounts), dtype=np.int32)
        times = [np.bincount(one, minlength=accounts).astype(np.float32) for one in drawn]
        yield np.stack(times, axis=1)


class RankedFrauds:
    """One model's events from the highest score down, as sums between the frauds."""

    def __init__(self, scores: Floats, fraud: Positives, account: Integers, threshold: float) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered, ordered_account = scores[order], account[order]
        fraud_rows = np.flatnonzero(fraud[order])
        group_start = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
        group = np.searchsorted(group_start, fraud_rows, "right") - 1
        own, first_fraud = np.unique(group, return_index=True)
        start, end = group_start[own], np.append(group_start[1:], len(order))[own]
        bounds = np.unique(np.concatenate([[0], start, end, [len(order)]]))
        self._segments = _bags(ordered_account, bounds[:-1])
        self._groups = _bags(ordered_account[fraud_rows], first_fraud)
        self._start, self._end = np.searchsorted(bounds, start), np.searchsorted(bounds, end)
        self._flagged = _count(account[scores >= threshold], account)
        self._true = _count(account[(scores >= threshold) & fraud], account)

    def measures(self, times_AR: npt.NDArray[np.float32]) -> Floats:
        """[3, R], in the order of MEASURES; NaN where a draw holds nothing to measure."""
        weights = torch.from_numpy(times_AR)
        taken_SR = np.cumsum(_sums(self._segments, weights), axis=0)
        taken_SR = np.concatenate([np.zeros((1, taken_SR.shape[1])), taken_SR])
        frauds_KR = _sums(self._groups, weights)
        hits_KR = np.cumsum(frauds_KR, axis=0)
        until_KR, before_KR = taken_SR[self._end], taken_SR[self._start]
        frauds_R = hits_KR[-1]
        legitimate_R = taken_SR[-1] - frauds_R
        precision_KR = hits_KR / np.maximum(until_KR, 1)  # 0 taken: the group's frauds do not count either
        legitimate_before_KR = before_KR - (hits_KR - frauds_KR)
        tied_KR = until_KR - before_KR - frauds_KR
        outranked_R = (frauds_KR * (legitimate_before_KR + tied_KR / 2)).sum(0)
        flagged_R, true_R = self._flagged @ times_AR, self._true @ times_AR
        with np.errstate(divide="ignore", invalid="ignore"):
            average_precision_R = (frauds_KR * precision_KR).sum(0) / frauds_R
            return np.stack([average_precision_R, 1 - outranked_R / (frauds_R * legitimate_R), true_R / flagged_R])


def _bags(account: Integers, first: npt.NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.ascontiguousarray(account)), torch.from_numpy(first)


def _sums(bags: tuple[torch.Tensor, torch.Tensor], weights: torch.Tensor) -> Floats:
    """float64[bags, R]. The sums are of whole numbers far below 2**24, so exact in whatever order."""
    with torch.inference_mode():
        found: Floats = functional.embedding_bag(bags[0], weights, bags[1], mode="sum").double().numpy()
    return found


def _count(some: Integers, account: Integers) -> Floats:
    return np.bincount(some, minlength=int(account.max()) + 1).astype(np.float64)
