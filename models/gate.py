"""Whether a challenger may replace the champion, from the scores of both on the same later events with known labels.

The difference in average precision decides, with an interval by a paired bootstrap over accounts: an account's events
depend on each other, and both models meet the same accounts, so whole accounts are drawn again and both models are
measured on each draw (Efron and Tibshirani, 1993). A refresh must not be worse by more than the margin, a new design
must be better. Each model's events are sorted once; a draw only weighs them anew.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Kind = Literal["refresh", "design"]
Decision = Literal["promote", "refuse", "not enough evidence"]
#: So many accounts must have a fraud: a bootstrap that draws accounts says nothing of fewer.
LEAST_ACCOUNTS = 20


@dataclass(frozen=True, slots=True)
class GateRules:
    """margin: how much worse a refresh may be, in average precision and in precision at the budget. confidence: of the
    two-sided intervals. least_accounts: so many accounts must have a fraud."""

    margin: float = 0.02
    confidence: float = 0.95
    resamples: int = 500
    least_frauds: int = 30
    least_accounts: int = LEAST_ACCOUNTS


@dataclass(frozen=True, slots=True)
class JudgedEvents:
    """n events that neither model was trained on: fraud bool[n], account int64[n] (numbers from 0), champion and
    challenger float64[n] (their scores). budget_share: alerts over events, in (0, 1]. Raises ValueError."""

    fraud: npt.NDArray[np.bool_]
    account: npt.NDArray[np.int64]
    champion: Floats
    challenger: Floats
    budget_share: float

    def __post_init__(self) -> None:
        if not len(self.fraud) == len(self.account) == len(self.champion) == len(self.challenger):
            raise ValueError("labels, accounts and scores must be equally many")
        if not (np.isfinite(self.champion).all() and np.isfinite(self.challenger).all()):
            raise ValueError("a score is no finite number")
        if not 0 < self.budget_share <= 1:
            raise ValueError(f"the budget must be a share above 0 and up to 1, not {self.budget_share}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measure of both models, and the interval of its difference (challenger less champion)."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.challenger - self.champion

    def in_words(self, name: str, confidence: float) -> str:
        return (
            f"{name} {self.challenger:.3f} against {self.champion:.3f}, difference {self.difference:+.3f} "
            f"({confidence:.0%} interval {self.low:+.3f} to {self.high:+.3f})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision with what it rests on. Both comparisons are None where there was too little to compare on."""

    decision: Decision
    kind: Kind
    events: int
    frauds: int
    accounts_with_fraud: int
    reason: str
    average_precision: Comparison | None = None
    precision_at_budget: Comparison | None = None

    def figures(self) -> dict[str, Any]:
        """What a report or a table keeps."""
        found: dict[str, Any] = {
            "decision": self.decision,
            "reason": self.reason,
            "kind": self.kind,
            "events": self.events,
            "frauds": self.frauds,
            "accounts_with_fraud": self.accounts_with_fraud,
        }
        for name in ("average_precision", "precision_at_budget"):
            comparison: Comparison | None = getattr(self, name)
            if comparison is not None:
                found[name] = {part: getattr(comparison, part) for part in ("champion", "challenger", "low", "high")}
        return found


def judge(judged: JudgedEvents, kind: Kind, rules: GateRules, generator: np.random.Generator) -> Verdict:
    """Promotes only what is shown to be good enough; refuses what is shown not to be; else says that it cannot tell."""
    verdict = too_few(judged.fraud, judged.account, kind, rules)
    if verdict is not None:
        return verdict
    precision, at_budget = compare(judged, rules, generator)
    decision, reason = decide(precision, at_budget, kind, rules)
    with_fraud = len(np.unique(judged.account[judged.fraud]))
    counts = len(judged.fraud), int(judged.fraud.sum()), with_fraud
    return Verdict(decision, kind, *counts, reason, precision, at_budget)


def too_few(
    fraud: npt.NDArray[np.bool_], account: npt.NDArray[np.int64], kind: Kind, rules: GateRules
) -> Verdict | None:
    """The verdict where no scores could change it, for want of frauds or of legitimate events."""
    frauds, accounts = int(fraud.sum()), len(np.unique(account[fraud]))
    if frauds < rules.least_frauds:
        reason = f"{frauds} frauds to judge by, at least {rules.least_frauds} are needed"
    elif accounts < rules.least_accounts:
        reason = f"all {frauds} frauds lie in {accounts} accounts, at least {rules.least_accounts} are needed"
    elif frauds == len(fraud):
        reason = "no legitimate events to judge by"
    else:
        return None
    return Verdict("not enough evidence", kind, len(fraud), frauds, accounts, reason)


def decide(precision: Comparison, at_budget: Comparison, kind: Kind, rules: GateRules) -> tuple[Decision, str]:
    """Average precision has to be shown good enough; precision at the budget has a veto where it is shown worse."""
    floor = -rules.margin if kind == "refresh" else 0.0
    worse = f"worse by more than {rules.margin:g}"
    figures = precision.in_words("average precision", rules.confidence)
    if precision.high <= floor:
        return "refuse", f"{figures}: {worse if kind == 'refresh' else 'no better'}"
    if at_budget.high < floor:
        figures = at_budget.in_words("precision at the alert budget", rules.confidence)
        return "refuse", f"{figures}: {worse if kind == 'refresh' else 'worse'}"
    if precision.low <= floor:
        asked = f"whether it is {worse}" if kind == "refresh" else "whether it is better"
        return "not enough evidence", f"{figures}: cannot be told {asked}"
    return "promote", f"{figures}: {'not ' + worse if kind == 'refresh' else 'better'}"


def compare(judged: JudgedEvents, rules: GateRules, generator: np.random.Generator) -> tuple[Comparison, Comparison]:
    """Average precision and precision at the budget, with the intervals of their differences."""
    champion = Ranking(judged.champion, judged.fraud, judged.account)
    challenger = Ranking(judged.challenger, judged.fraud, judged.account)
    accounts = int(judged.account.max()) + 1
    present = np.unique(judged.account)
    differences = np.full((rules.resamples, 2), np.nan)
    for row in differences:
        drawn = present[generator.integers(0, len(present), len(present))]
        times = np.bincount(drawn, minlength=accounts).astype(np.int32)
        row[:] = challenger.measures(times, judged.budget_share) - champion.measures(times, judged.budget_share)
    tail = (1 - rules.confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail], axis=0)  # a draw without any fraud measures nothing
    once = np.ones(accounts, np.int32)
    old, new = champion.measures(once, judged.budget_share), challenger.measures(once, judged.budget_share)
    found = [Comparison(*map(float, of_one)) for of_one in zip(old, new, low, high, strict=True)]
    return found[0], found[1]


class Ranking:
    """One model's events from the highest score down, equal scores as one group."""

    def __init__(self, scores: Floats, fraud: npt.NDArray[np.bool_], account: npt.NDArray[np.int64]) -> None:
        order = np.argsort(-scores, kind="stable")
        ordered, is_fraud = scores[order], fraud[order]
        changes = ordered[1:] != ordered[:-1]
        self._account = account[order]
        self._group_start = np.append(0, np.flatnonzero(changes) + 1)
        self._group_end = np.append(self._group_start[1:], len(order))
        self._fraud_rows = np.flatnonzero(is_fraud)
        #: Frauds before each row, and before the end.
        self._frauds_before = np.append(0, np.cumsum(is_fraud))
        group = np.searchsorted(self._group_start, self._fraud_rows, "right") - 1
        self._end_of_fraud = self._group_end[group]

    def measures(self, times: npt.NDArray[np.int32], budget_share: float) -> Floats:
        """(average precision, precision at the budget) with each account's events counted `times` often; NaN where no
        fraud counts. Of the group in which the budget ends, a share is taken."""
        weight = times[self._account]
        taken = np.concatenate([[0], np.cumsum(weight, dtype=np.int64)])
        of_frauds = weight[self._fraud_rows]
        hits = np.concatenate([[0], np.cumsum(of_frauds, dtype=np.int64)])
        if not hits[-1]:
            return np.full(2, np.nan)
        hits_then = hits[self._frauds_before[self._end_of_fraud]]
        precision = hits_then / np.maximum(taken[self._end_of_fraud], 1)  # 0 taken: the fraud itself does not count
        return np.array([(of_frauds * precision).sum() / hits[-1], self._at_budget(taken, hits, budget_share)])

    def _at_budget(self, taken: npt.NDArray[np.int64], hits: npt.NDArray[np.int64], budget_share: float) -> float:
        budget = budget_share * taken[-1]
        row = min(int(np.searchsorted(taken, budget, "left")), len(taken) - 1) - 1
        group = int(np.searchsorted(self._group_start, row, "right")) - 1
        start, end = self._group_start[group], self._group_end[group]
        before, until = hits[self._frauds_before[start]], hits[self._frauds_before[end]]
        share = (budget - taken[start]) / (taken[end] - taken[start])
        return float((before + share * (until - before)) / budget)
