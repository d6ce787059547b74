"""Our estimators and gate beside obp's on its bundled sample of the Open Bandit data (Saito and others, 2021).

A fashion shop showed items at random, and by Bernoulli Thompson sampling. Each side's log is asked what the other side
earns. Random to Thompson sampling is what importance weighting can do; the reverse direction is what it cannot: some
items were so unlikely that a single click would decide everything. Runs in the benchmark environment.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.off_policy import EvaluatedPolicy, Rewards, contributions, effective_sample_size, mean_over_users
from models.policy_evidence import weigh
from models.policy_gate import PolicyGateRules, PolicyVerdict, decide
from ops.bench.packages import package

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]
CAMPAIGNS = ("all", "men", "women")
#: Slots of a page, each with item probabilities of its own, and simulations that obp estimates them from.
POSITIONS, SIMULATIONS = 3, 100_000


def open_bandit_benchmark(progress: Progress) -> dict[str, Any]:
    """By campaign: what each side's log says of the other."""
    found = {}
    for number, campaign in enumerate(CAMPAIGNS):
        progress("Open Bandit sample", number / len(CAMPAIGNS))
        found[campaign] = compared(campaign)
    progress("Open Bandit sample", 1.0)
    return found


def compared(campaign: str) -> dict[str, Any]:
    """{"random_to_bts", "bts_to_random"}: each with our estimates, obp's, and the gate's verdict."""
    thompson = thompson_probabilities(campaign)
    uniform = np.full(thompson.shape, 1 / len(thompson))
    return {
        "random_to_bts": figures(sample("random", campaign), thompson),
        "bts_to_random": figures(sample("bts", campaign), uniform),
    }


def sample(policy: str, campaign: str) -> Any:
    """obp's dataset. policy: "random" or "bts", who logged it."""
    dataset: Any = package("obp.dataset").OpenBanditDataset

    class Sample(dataset):  # type: ignore[misc]
        def pre_process(self) -> None:
            """Features of users and items, which nothing here reads; obp's own code needs a pandas of before 2.0."""
            self.context, self.action_context = np.zeros((self.n_rounds, 1)), np.zeros((self.n_actions, 1))

    logging.getLogger("obp.dataset.real").setLevel(logging.WARNING)
    return Sample(behavior_policy=policy, campaign=campaign)


def thompson_probabilities(campaign: str) -> Floats:
    """float64[items, positions]: of each item at each position under the shop's Thompson sampling."""
    items = sample("random", campaign).n_actions
    policy = package("obp.policy").BernoulliTS(
        n_actions=items, len_list=POSITIONS, is_zozotown_prior=True, campaign=campaign, random_state=12345
    )
    found: Floats = policy.compute_batch_action_dist(n_sim=SIMULATIONS, n_rounds=1)[0]
    return found


def figures(data: Any, probabilities: Floats) -> dict[str, Any]:
    """probabilities float64[items, positions]: of the policy that did not log."""
    obp = package("obp.ope")
    weights = probabilities[data.action, data.position] / data.pscore
    reward = data.reward.astype(np.float64)
    by_round = np.broadcast_to(probabilities, (len(reward), *probabilities.shape))
    arguments = {
        "reward": reward,
        "action": data.action,
        "position": data.position,
        "pscore": data.pscore,
        "action_dist": by_round,
    }
    ours = own_estimates(weights, reward)
    verdict = verdict_on(weights, reward)
    return {
        **ours,
        "on_policy": float(reward.mean()),
        "obp": {
            "ipw": float(obp.InverseProbabilityWeighting().estimate_policy_value(**arguments)),
            "snipw": float(obp.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**arguments)),
        },
        "verdict": verdict.decision,
        "reasons": list(verdict.reasons),
    }


def own_estimates(weights: Floats, reward: Floats) -> dict[str, float]:
    """The sample names no users: each round counts as one."""
    rounds = np.arange(len(reward))
    by_slate = contributions(
        Rewards.of_single_items(rounds, reward), EvaluatedPolicy.of_single_items(weights), clip=np.inf
    )
    estimate = mean_over_users(by_slate["ips"], rounds)
    return {
        "ips": estimate.value,
        "low": estimate.value - 1.96 * estimate.standard_error,
        "high": estimate.value + 1.96 * estimate.standard_error,
        "snips": float(by_slate["snips"].mean()),
        "effective_sample_size": effective_sample_size(weights),
        "mean_weight": float(weights.mean()),
        "largest_weight": float(weights.max()),
    }


def verdict_on(weights: Floats, reward: Floats) -> PolicyVerdict:
    """The gate's, were the policy that did not log the challenger, and the one that did the champion."""
    rules = PolicyGateRules()
    champion = EvaluatedPolicy.of_single_items(np.ones(len(reward)))
    challenger = EvaluatedPolicy.of_single_items(weights)
    rewards = Rewards.of_single_items(np.arange(len(reward)), reward)
    return decide(weigh(rewards, champion, challenger, clip=rules.clip), "design", rules, rules.error / 2)
