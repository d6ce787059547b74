"""What a policy would have earned on slates that others showed: estimators and what they can be trusted for.

Every estimator is a mean over slates of one number per slate, so that two policies are compared slate by slate and
intervals come from the spread between users. They differ in what they assume about slates:

- `ips`, `snips`: nothing; the weight is that of the whole slate, so they are noisy.
- `cascade`: a position's reward depends on what stands above it, not below.
- `item_position`: it depends on the item and its position alone.
- `doubly_robust`: as item_position, less noise through predicted rewards (reward_model.py).

docs/off-policy.md has the formulas and their sources. Pure numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.logged_slates import LoggedSlates
from models.reward_model import PredictedRewards
from models.slate_race import LogWeights
from models.slates import conditionals, marginals_and_means

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ESTIMATORS = ("ips", "snips", "cascade", "item_position", "doubly_robust", "doubly_robust_clipped")


@dataclass(frozen=True, slots=True)
class EvaluatedPolicy:
    """A policy's view of n logged slates. Weights are its probability of what was shown over the logged one: whole
    float64[n] (the slate), prefix and position float64[n, K] (down to a position; at it), 0 where nothing stood.
    direct float64[n, K]: the predicted reward of what it would have drawn, 0 without predictions."""

    whole: Floats
    prefix: Floats
    position: Floats
    direct: Floats

    @staticmethod
    def of_single_items(weights: Floats) -> "EvaluatedPolicy":
        """From importance weights float64[n] of single items, where no more than these are known."""
        return EvaluatedPolicy(weights, weights[:, None], weights[:, None], np.zeros((len(weights), 1)))


@dataclass(frozen=True, slots=True)
class Rewards:
    """user int64[n]; reward float64[n, K]; shown bool[n, K]: an item stood there; predicted float64[n, K]: the reward
    expected of it, 0 without predictions. Raises ValueError."""

    user: npt.NDArray[np.int64]
    reward: Floats
    shown: Flags
    predicted: Floats

    def __post_init__(self) -> None:
        if not np.isfinite(self.reward[self.shown]).all():
            raise ValueError("a reward is no finite number")

    @staticmethod
    def of_single_items(user: npt.NDArray[np.int64], reward: Floats) -> "Rewards":
        one = reward[:, None]
        return Rewards(user, one, np.ones(one.shape, bool), np.zeros(one.shape))


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    standard_error: float


def logged_probabilities(logged: LoggedSlates) -> tuple[Floats, Floats]:
    """(conditionals, marginals), each float64[n, K], of what was shown under the weights it was drawn with. Raises
    ValueError where something was shown that these weights cannot choose."""
    conditional = conditionals(logged.log_weights, logged.picks)
    marginal, _ = marginals_and_means(logged.log_weights, logged.picks, None)
    if (conditional == 0).any():
        row = int(np.flatnonzero((conditional == 0).any(axis=1))[0])
        raise ValueError(f"slate {row} shows an item that its own weights cannot choose")
    return conditional, marginal


def evaluate(
    logged: LoggedSlates,
    probabilities: tuple[Floats, Floats],
    log_weights: LogWeights,
    predictions: PredictedRewards | None,
) -> EvaluatedPolicy:
    """A policy by its log_weights float[n, C] on the logged candidates. probabilities: of `logged_probabilities`."""
    if log_weights.shape != logged.log_weights.shape:
        raise ValueError("log-weights must be given for each candidate of each slate")
    shown, size = logged.picks >= 0, logged.picks.shape[1]
    appeal = None if predictions is None else predictions.appeal
    marginal, means = marginals_and_means(log_weights, logged.picks, appeal)
    would_show = np.arange(size) < np.isfinite(log_weights).sum(axis=1, keepdims=True)
    step = np.where(shown, conditionals(log_weights, logged.picks) / probabilities[0], 1.0)
    return EvaluatedPolicy(
        whole=step.prod(axis=1),
        prefix=np.where(shown, step.cumprod(axis=1), 0.0),
        position=np.where(shown, marginal / probabilities[1], 0.0),
        direct=np.zeros(logged.picks.shape) if predictions is None else predictions.mean(means, would_show),
    )


def contributions(rewards: Rewards, policy: EvaluatedPolicy, clip: float) -> Mapping[str, Floats]:
    """Estimator -> float64[n]: the mean is the estimate of the reward per slate. clip: the highest position weight of
    the clipped estimate. SNIPS is no mean; its numbers have its value as mean and its error as theirs."""
    reward = np.where(rewards.shown, rewards.reward, 0.0)
    residual = reward - rewards.predicted
    whole_reward = reward.sum(axis=1)
    total = float(policy.whole.sum())
    normalised = float(policy.whole @ whole_reward) / total if total > 0 else 0.0
    scaled = policy.whole * (len(policy.whole) / total if total > 0 else 0.0)
    return {
        "ips": policy.whole * whole_reward,
        "snips": normalised + scaled * (whole_reward - normalised),
        "cascade": (policy.prefix * reward).sum(axis=1),
        "item_position": (policy.position * reward).sum(axis=1),
        "doubly_robust": (policy.direct + policy.position * residual).sum(axis=1),
        "doubly_robust_clipped": (policy.direct + np.minimum(policy.position, clip) * residual).sum(axis=1),
    }


def mean_over_users(values: Floats, user: npt.NDArray[np.int64]) -> Estimate:
    """The mean of float64[n] with a standard error that lets a user's slates depend on each other (users int64[n];
    Liang and Zeger, 1986). With a single user the error is not known: infinite."""
    _, number = np.unique(user, return_inverse=True)
    mean = float(values.mean())
    of_users = np.bincount(number, values - mean)
    users = len(of_users)
    if users < 2:
        return Estimate(mean, np.inf)
    variance = float(of_users @ of_users) * users / (users - 1)
    return Estimate(mean, float(np.sqrt(variance)) / len(values))


def effective_sample_size(weights: Floats) -> float:
    """So many equally weighted observations say as much (Kish, 1965); 0 where all weights are."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def mean_weight(weights: Floats, shown: Flags, user: npt.NDArray[np.int64]) -> Estimate:
    """Of weights float64[n, K] where an item was shown: 1 where logged and evaluated probabilities are right and the
    logged policy can choose all that the evaluated one can."""
    each = max(float(shown.sum(axis=1).mean()), 1e-12)
    # A ratio of two means over slates; its error is that of what each slate has more than its share (delta method).
    mean = float(weights[shown].mean()) if shown.any() else 0.0
    excess = np.where(shown, weights - mean, 0.0).sum(axis=1) / each
    return Estimate(mean, mean_over_users(excess, user).standard_error)
