"""What logged slates say about two policies: every estimator's difference, and how far it can be trusted.

Gathered here, judged in policy_gate.py. Pure numpy; who logged and trained is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.logged_slates import LoggedSlates
from models.off_policy import (
    ESTIMATORS,
    Estimate,
    EvaluatedPolicy,
    Rewards,
    contributions,
    effective_sample_size,
    evaluate,
    logged_probabilities,
    mean_over_users,
    mean_weight,
)
from models.reward_model import FitRules, cross_fitted, log_weight_features
from models.slate_race import LogWeights


@dataclass(frozen=True, slots=True)
class EstimatedDifference:
    """One estimator's reward per slate of both policies; standard_error: of the paired difference (challenger less
    champion)."""

    champion: float
    challenger: float
    standard_error: float

    @property
    def difference(self) -> float:
        return self.challenger - self.champion


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on.

    effective_sample_size: of the weights of single positions, and effective_slates: of whole slates, whichever policy
    has fewer; effective_rewards and effective_rewarded_slates: the rewards above 0 to be expected in so many.
    mean_weights: the champion's and the challenger's. estimators: by name (off_policy.ESTIMATORS); gaps: the doubly
    robust difference less each one's."""

    slates: int
    users: int
    effective_sample_size: float
    effective_rewards: float
    effective_slates: float
    effective_rewarded_slates: float
    mean_weights: tuple[Estimate, Estimate]
    estimators: Mapping[str, EstimatedDifference]
    gaps: Mapping[str, Estimate]


def gather(
    slates: LoggedSlates,
    champion: LogWeights,
    challenger: LogWeights,
    *,
    clip: float,
    fit: FitRules,
    features: npt.NDArray[np.floating[Any]] | None = None,
) -> Evidence:
    """From n slates, which all count; champion and challenger float[n, C]: log-weights on the logged candidates;
    features float[n, C, F] predict rewards, the policies' own log-weights if None. Raises ValueError."""
    if features is None:
        features = log_weight_features(champion, challenger)
    predictions = cross_fitted(slates, features, fit)
    probabilities = logged_probabilities(slates)
    rewards = Rewards(slates.user, slates.reward, slates.picks >= 0, predictions.of(slates.picks))
    both = [evaluate(slates, probabilities, weights, predictions) for weights in (champion, challenger)]
    return weigh(rewards, both[0], both[1], clip)


def weigh(rewards: Rewards, champion: EvaluatedPolicy, challenger: EvaluatedPolicy, clip: float) -> Evidence:
    """From two policies' weights on the same rewards."""
    both, shown, user = (champion, challenger), rewards.shown, rewards.user
    old, new = (contributions(rewards, policy, clip) for policy in both)
    differences = {name: new[name] - old[name] for name in ESTIMATORS}
    positions = min(effective_sample_size(policy.position[shown]) for policy in both)
    slates = min(effective_sample_size(policy.whole) for policy in both)
    weights = [mean_weight(policy.position, shown, user) for policy in both]
    rewarded = shown & (rewards.reward > 0)
    return Evidence(
        slates=len(user),
        users=len(np.unique(user)),
        effective_sample_size=positions,
        effective_rewards=positions * float(rewarded[shown].mean()) if shown.any() else 0.0,
        effective_slates=slates,
        effective_rewarded_slates=slates * float(rewarded.any(axis=1).mean()),
        mean_weights=(weights[0], weights[1]),
        estimators={name: _difference(old[name], new[name], user) for name in ESTIMATORS},
        gaps={name: mean_over_users(differences["doubly_robust"] - differences[name], user) for name in ESTIMATORS},
    )


def _difference(
    old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], user: npt.NDArray[np.int64]
) -> EstimatedDifference:
    error = mean_over_users(new - old, user).standard_error
    return EstimatedDifference(float(old.mean()), float(new.mean()), error)
