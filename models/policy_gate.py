"""Whether a challenging policy may replace the champion, from slates that were logged while neither was learning.

The paired doubly robust difference in reward per slate decides, with bounds that hold over repeated looks and several
challengers. A refresh must not be worse by more than the margin, a new design must be better. Before a bound counts,
what it rests on has to hold: enough effective rewards, mean weights of 1, estimators that do not contradict it. The
estimators are in off_policy.py; who logs, trains and promotes is not known here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.logged_slates import LoggedSlates
from models.policy_evidence import Evidence, gather
from models.reward_model import FitRules
from models.sequential_test import one_sided_width, share_of_error
from models.slate_race import LogWeights

Kind = Literal["refresh", "design"]
Decision = Literal["promote", "refuse", "not enough evidence"]

#: What is estimated, for reports.
ESTIMAND = (
    "the mean reward of one slate chosen by the challenger instead of the champion, at the moments and in the users' "
    "states that the logged policies led to, with all other slates as they were (one-step deviations); what a policy "
    "does to users over weeks is not in it"
)


@dataclass(frozen=True, slots=True)
class PolicyGateRules:
    """margin: how much worse a refresh may be, as a share of the champion's reward per slate. error: the chance that
    any challenger of one champion is promoted without being good enough, over all looks. tightest_at: slates, fixed
    before the first look. clip: the highest weight of the clipped estimate. contradiction: standard errors between two
    estimators. off_one: how far a mean weight may be off 1 at most; off_one_surely: how far where that is beyond doubt
    (four standard errors). fit: of predicted rewards."""

    margin: float = 0.02
    error: float = 0.05
    tightest_at: int = 10_000
    least_users: int = 100
    least_effective_rewards: float = 400.0
    clip: float = 20.0
    contradiction: float = 3.0
    off_one: float = 0.1
    off_one_surely: float = 0.02
    fit: FitRules = field(default_factory=FitRules)


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """The decision with its reasons, as sentences. low and high bound the difference in reward per slate at all looks;
    it must exceed floor. error: the chance that low is ever too high, and so for high. settled: more slates cannot
    change the decision. evidence is None where there was too little to compare on."""

    decision: Decision
    kind: Kind
    reasons: tuple[str, ...]
    settled: bool
    error: float
    floor: float = 0.0
    low: float = -np.inf
    high: float = np.inf
    evidence: Evidence | None = None

    def figures(self) -> dict[str, Any]:
        """What a report or a table keeps: texts and finite numbers."""
        found = {name: getattr(self, name) for name in ("decision", "kind", "settled", "error")}
        found |= {"reason": " ".join(self.reasons), "reasons": list(self.reasons), "estimand": ESTIMAND}
        if self.evidence is not None:
            robust = self.evidence.estimators["doubly_robust"]
            rewards = {"champion": robust.champion, "challenger": robust.challenger, "low": self.low, "high": self.high}
            found |= {"floor": self.floor, "reward_per_slate": rewards} | asdict(self.evidence)
            for name, one in self.evidence.estimators.items():
                found["estimators"][name]["difference"] = one.difference
        return found


def judge(
    slates: LoggedSlates,
    champion: LogWeights,
    challenger: LogWeights,
    kind: Kind,
    *,
    trained_until: int,
    number: int = 1,
    rules: PolicyGateRules | None = None,
    features: npt.NDArray[np.floating[Any]] | None = None,
) -> PolicyVerdict:
    """champion and challenger float[n, C]: log-weights on the logged candidates, with floor and masks as live.

    trained_until: epoch milliseconds; no slate up to then counts, since one of the policies may have learned from it.
    number: of this challenger (from 1) among those that challenged this champion; it stays the same at later looks.
    features float[n, C, F] predict rewards, the policies' own log-weights if None. Raises ValueError."""
    rules = rules or PolicyGateRules()
    error = share_of_error(rules.error, number)
    rows = np.flatnonzero(slates.matured & (slates.made_at > trained_until))
    users = len(np.unique(slates.user[rows]))
    if users < rules.least_users:
        reason = f"Only {users} users have matured slates to judge by; at least {rules.least_users} are needed."
        return PolicyVerdict("not enough evidence", kind, (reason,), False, error)
    own = None if features is None else features[rows]
    counted = slates.take(rows)
    evidence = gather(counted, champion[rows], challenger[rows], clip=rules.clip, fit=rules.fit, features=own)
    return decide(evidence, kind, rules, error)


def decide(evidence: Evidence, kind: Kind, rules: PolicyGateRules, error: float) -> PolicyVerdict:
    """error: what this challenger may spend on either bound."""
    robust = evidence.estimators["doubly_robust"]
    floor = -rules.margin * abs(robust.champion) if kind == "refresh" else 0.0
    width = one_sided_width(robust.standard_error, evidence.slates, error, rules.tightest_at)
    low, high = robust.difference - width, robust.difference + width
    bad = f"worse by more than {rules.margin:.0%}" if kind == "refresh" else "no better"
    found = (
        f"The challenger earns {robust.challenger:.4g} per slate, the champion {robust.champion:.4g}; over all looks "
        f"the difference of {robust.difference:+.4g} lies between {low:+.4g} and {high:+.4g}"
    )
    doubts = tuple(doubts_about(evidence, floor, rules)) or tuple(doubts_about_clipping(evidence, floor, low, rules))
    decision: Decision
    if doubts:
        decision, reasons = "refuse", (*doubts, f"{found}, which does not count.")
    elif high <= floor:
        decision, reasons = "refuse", (f"{found}: {bad}.",)
    elif low <= floor:
        decision, reasons = "not enough evidence", (f"{found}: it may still be {bad}.",)
    else:
        decision, reasons = "promote", (f"{found}: {'better' if kind == 'design' else 'not ' + bad}.",)
    settled = not doubts and decision != "not enough evidence"
    return PolicyVerdict(decision, kind, reasons, settled, error, floor, low, high, evidence)


def doubts_about(evidence: Evidence, floor: float, rules: PolicyGateRules) -> Iterator[str]:
    """Why no bound counts, whatever it says."""
    if evidence.effective_rewards < rules.least_effective_rewards:
        yield (
            f"By their weights the logged positions are worth {evidence.effective_sample_size:,.0f} equal ones, with "
            f"{evidence.effective_rewards:,.0f} rewards; at least {rules.least_effective_rewards:,.0f} are needed: "
            f"more slates, or a challenger closer to what was logged."
        )
    for name, weight in zip(("champion", "challenger"), evidence.mean_weights, strict=True):
        off = abs(weight.value - 1)
        if off > rules.off_one or off > max(rules.off_one_surely, 4 * weight.standard_error):
            yield (
                f"The {name}'s mean weight is {weight.value:.3f} (standard error {weight.standard_error:.3f}), not 1: "
                f"logged probabilities are wrong, or it would show what could not be logged."
            )
    robust = evidence.estimators["doubly_robust"]
    for name in consulted(evidence, rules):
        other, gap = evidence.estimators[name], evidence.gaps[name]
        apart = abs(gap.value) > rules.contradiction * gap.standard_error
        if apart and (other.difference > floor) != (robust.difference > floor):
            yield (
                f"The estimators contradict each other: the difference is {robust.difference:+.4g} by doubly_robust "
                f"and {other.difference:+.4g} by {name}, more than {rules.contradiction:g} standard errors apart."
            )


def doubts_about_clipping(evidence: Evidence, floor: float, low: float, rules: PolicyGateRules) -> Iterator[str]:
    """Why a bound above the floor does not count."""
    clipped = evidence.estimators["doubly_robust_clipped"].difference
    if clipped <= floor < low:
        yield (
            f"With weights clipped at {rules.clip:g} the difference is {clipped:+.4g}, on the other side of "
            f"{floor:+.4g}: a few large weights make the result."
        )


def consulted(evidence: Evidence, rules: PolicyGateRules) -> tuple[str, ...]:
    """The estimators that may contradict. Those with weights of whole slates only where these leave enough rewards:
    else they miss the slates that count, with an error that looks small."""
    enough = evidence.effective_rewarded_slates >= rules.least_effective_rewards
    return ("item_position", "cascade", "snips") if enough else ("item_position",)
