"""The gate's benchmark: its simulated truth, the bound it is compared with, and what it counts."""

from dataclasses import replace

import numpy as np
import pytest

from models.policy_gate import PolicyGateRules, PolicyVerdict
from models.slates import conditionals
from ops.bench.recommendation.gate import (
    CONTESTANTS,
    LOOKS,
    RESAMPLES,
    JudgedLog,
    bootstrap_lower_bound,
    gate_benchmark,
    judged_log,
    looks,
    summary,
)
from ops.bench.recommendation.gate_world import GateWorld, simulated_log

SMALL = GateWorld(challenger=1.0, users=250, candidates=8, size=3, slates=4.0)


def test_challengers_with_as_much_signal_are_worth_the_same_and_those_with_more_are_worth_more() -> None:
    gains = [simulated_log(replace(SMALL, challenger=signal, seed=2)).true_gain for signal in (0.0, 0.5, 1.0, 1.5, 3.0)]
    assert gains == sorted(gains)
    assert gains[2] == 0.0
    assert gains[1] < 0 < gains[3]


def test_exchanging_the_policies_errors_changes_nothing_on_average() -> None:
    """Which is why challengers of equal signal are worth exactly the same."""
    gains = []
    for seed in range(12):
        log = simulated_log(replace(SMALL, challenger=1.0 + 1e-9, seed=seed))
        gains.append(log.true_gain / log.true_reward)
    assert abs(np.mean(gains)) < 4 * np.std(gains) / np.sqrt(len(gains))


def test_the_log_was_drawn_with_the_champions_weights_and_rewards_only_what_was_shown() -> None:
    log = simulated_log(SMALL)
    assert np.array_equal(log.slates.log_weights, log.champion)
    assert (conditionals(log.champion, log.slates.picks) > 0).all()
    assert log.slates.reward.shape == (len(log.slates), SMALL.size)
    assert set(np.unique(log.slates.reward).tolist()) == {0.0, 1.0, 6.0}
    assert log.slates.reward.sum(axis=1).mean() == pytest.approx(log.true_reward, rel=0.2)
    assert (np.diff(log.slates.made_at) >= 0).all()


def test_the_gate_stops_looking_once_it_promotes() -> None:
    world = replace(SMALL, challenger=4.0, users=1_000)
    log = simulated_log(world)
    verdicts = looks(log, world, PolicyGateRules(least_effective_rewards=50))
    assert [one.settled for one in verdicts[:-1]] == [False] * (len(verdicts) - 1)
    assert verdicts[-1].decision == "promote"
    assert len(verdicts) < len(LOOKS)


def test_the_bootstrap_bound_lies_two_errors_below_the_mean() -> None:
    values = np.random.default_rng(0).exponential(size=4_000)
    error = values.std() / np.sqrt(len(values))
    bound = bootstrap_lower_bound(values, np.random.default_rng(1))
    assert bound == pytest.approx(values.mean() - 1.96 * error, abs=0.5 * error)
    assert RESAMPLES >= 200


def test_promotions_of_challengers_that_are_not_better_are_false() -> None:
    verdict = PolicyVerdict("refuse", "design", ("No.",), True, 0.025)

    def judged(signal: float, *promoted: str) -> JudgedLog:
        return JudgedLog("new design", signal, signal - 1, {name: name in promoted for name in CONTESTANTS}, verdict)

    found = summary(
        [judged(1.0, "obp_ipw"), judged(0.5), judged(1.5, "headgate", "obp_ipw"), judged(2.0, "headgate")], 3
    )
    assert (found["not_better"], found["better"]) == (2, 2)
    assert (found["headgate"]["false_promotions"], found["headgate"]["true_promotions"]) == (0, 2)
    assert (found["obp_ipw"]["false_promotion_rate"], found["obp_ipw"]["true_promotion_rate"]) == (0.5, 0.5)
    assert found["by_relation"]["new design"]["1.5"]["promotions"] == {"headgate": 1, "obp_ipw": 1, "obp_dr": 0}


def test_one_log_is_judged_by_all_contestants_and_the_same_seed_gives_the_same_figures() -> None:
    found = judged_log(replace(SMALL, challenger=2.0), "new design")
    assert set(found.promoted) == set(CONTESTANTS)
    assert found.true_lift > 0
    assert judged_log(replace(SMALL, challenger=2.0), "new design") == found
    told: list[str] = []
    assert gate_benchmark(0, lambda stage, share: told.append(stage), logs=0)["logs"] == 0
    assert told
