"""The promotion gate on simulated logs whose truth is known, beside lower bounds as the obp package computes them.

Half of the challengers are worse than the champion or worth exactly the same, half are better, by little or by much.
The gate looks several times while the log grows and may promote at each look. A lower bound of obp (Open Bandit
Pipeline 0.4: inverse probability weighting, doubly robust) looks once, at the whole log, and promotes where the
challenger's 95 % interval lies above the champion's mean reward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.off_policy import Rewards, evaluate, logged_probabilities
from models.policy_gate import PolicyGateRules, PolicyVerdict, judge
from models.reward_model import cross_fitted, log_weight_features
from ops.bench.recommendation.gate_world import DAY, START, GateLog, GateWorld, simulated_log

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]

#: Signals of the challengers; the champion's is 1. Of the first, half are worth exactly the same.
NOT_BETTER = (1.0, 0.9, 1.0, 0.75, 1.0, 0.5, 1.0, 0.0)
BETTER = (1.1, 1.2, 1.35, 1.5, 2.0)
#: Correlations of both policies' errors: a new design, and a champion that was trained again.
SHARED = {"new design": 0.0, "trained again": 0.8}
#: Shares of the log at which the gate looks.
LOOKS = (1 / 3, 2 / 3, 1.0)
#: Draws of obp's bootstrap, and its confidence.
RESAMPLES, CONFIDENCE = 200, 0.95
CONTESTANTS = ("headgate", "obp_ipw", "obp_dr")


@dataclass(frozen=True, slots=True)
class JudgedLog:
    """relation: a key of SHARED; signal: of the challenger; promoted: contestant -> whether it would have promoted."""

    relation: str
    signal: float
    true_lift: float
    promoted: dict[str, bool]
    verdict: PolicyVerdict


def gate_benchmark(seed: int, progress: Progress, logs: int = 200) -> dict[str, Any]:
    """The figures as a report keeps them. logs: half not better, half better."""
    pairs = [*_challengers(NOT_BETTER, logs // 2), *_challengers(BETTER, logs - logs // 2)]
    judged = []
    for number, (signal, relation) in enumerate(pairs):
        progress("simulated logs through the gate", number / logs)
        world = GateWorld(challenger=signal, shared=SHARED[relation], seed=seed * 1_000_003 + number)
        judged.append(judged_log(world, relation))
    progress("simulated logs through the gate", 1.0)
    return summary(judged, seed)


def _challengers(signals: Sequence[float], count: int) -> list[tuple[float, str]]:
    """All signals of one relation, then all of the next, and so on around."""
    relations = list(SHARED)
    rounds = [divmod(number, len(signals)) for number in range(count)]
    return [(signals[place], relations[turn % len(relations)]) for turn, place in rounds]


def judged_log(world: GateWorld, relation: str) -> JudgedLog:
    log = simulated_log(world)
    verdicts = looks(log, world, PolicyGateRules())
    lower = obp_lower_bounds(log, np.random.default_rng(world.seed))
    on_policy = float(log.slates.reward.mean())
    promoted = {"headgate": any(one.decision == "promote" for one in verdicts)}
    promoted |= {name: bound > on_policy for name, bound in lower.items()}
    return JudgedLog(relation, world.challenger, log.true_gain / log.true_reward, promoted, verdicts[-1])


def looks(log: GateLog, world: GateWorld, rules: PolicyGateRules) -> list[PolicyVerdict]:
    """The verdicts as the log grows, up to a promotion or to what is settled."""
    verdicts = []
    for share in LOOKS:
        rows = np.flatnonzero(log.slates.made_at < START + share * world.days * DAY)
        seen = log.slates.take(rows)
        verdicts.append(
            judge(seen, log.champion[rows], log.challenger[rows], "design", trained_until=START - 1, rules=rules)
        )
        if verdicts[-1].settled:
            break
    return verdicts


def obp_lower_bounds(log: GateLog, draw: np.random.Generator) -> dict[str, float]:
    """Lower ends of obp's bootstrap intervals, in reward per position: each position is a round of its own there, with
    the probability of its item at that position. The doubly robust one gets the same cross-fitted predictions."""
    slates = log.slates
    features = log_weight_features(log.champion, log.challenger)
    predictions = cross_fitted(slates, features, PolicyGateRules().fit)
    policy = evaluate(slates, logged_probabilities(slates), log.challenger, predictions)
    rewards = Rewards(slates.user, slates.reward, slates.picks >= 0, predictions.of(slates.picks))
    rounds = {
        "obp_ipw": policy.position * rewards.reward,
        "obp_dr": policy.direct + policy.position * (rewards.reward - rewards.predicted),
    }
    return {name: bootstrap_lower_bound(values.ravel(), draw) for name, values in rounds.items()}


def bootstrap_lower_bound(values: Floats, draw: np.random.Generator) -> float:
    """The percentile bootstrap of a mean of independent rounds."""
    means = [values[draw.integers(0, len(values), len(values), np.int32)].mean() for _ in range(RESAMPLES)]
    return float(np.percentile(means, 100 * (1 - CONFIDENCE) / 2))


def summary(judged: Sequence[JudgedLog], seed: int) -> dict[str, Any]:
    """Promotions by contestant, false ones of challengers that are not better and true ones; and by signal."""
    not_better = [one for one in judged if one.signal <= 1]
    better = [one for one in judged if one.signal > 1]
    return {
        "seed": seed,
        "logs": len(judged),
        "not_better": len(not_better),
        "better": len(better),
        **{name: _promotions(name, not_better, better) for name in CONTESTANTS},
        "by_relation": {
            relation: _by_signal([one for one in judged if one.relation == relation]) for relation in SHARED
        },
    }


def _promotions(name: str, not_better: Sequence[JudgedLog], better: Sequence[JudgedLog]) -> dict[str, float]:
    false, true = (sum(one.promoted[name] for one in group) for group in (not_better, better))
    return {
        "false_promotions": false,
        "true_promotions": true,
        "false_promotion_rate": false / max(1, len(not_better)),
        "true_promotion_rate": true / max(1, len(better)),
    }


def _by_signal(judged: Sequence[JudgedLog]) -> dict[str, Any]:
    signals = sorted({one.signal for one in judged})
    return {f"{signal:g}": _of_signal([one for one in judged if one.signal == signal]) for signal in signals}


def _of_signal(judged: Sequence[JudgedLog]) -> dict[str, Any]:
    decisions = [one.verdict.decision for one in judged]
    return {
        "logs": len(judged),
        "true_lift": float(np.mean([one.true_lift for one in judged])),
        "promotions": {name: sum(one.promoted[name] for one in judged) for name in CONTESTANTS},
        "last_verdicts": {decision: decisions.count(decision) for decision in sorted(set(decisions))},
    }
