"""Estimators: without error where every slate is enumerated, and wrong where their assumptions do not hold."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.logged_slates import LoggedSlates
from models.off_policy import (
    ESTIMATORS,
    EvaluatedPolicy,
    Rewards,
    contributions,
    effective_sample_size,
    evaluate,
    logged_probabilities,
    mean_over_users,
    mean_weight,
)
from models.reward_model import PredictedRewards
from models.slates import conditionals
from tests.models.slate_logs import CANDIDATES, CHALLENGER, CHAMPION, SIZE, expected, log, true_value

KIND = np.repeat([0, 1], 12)
PICKS = np.array([*permutations(range(CANDIDATES), SIZE)] * 2, np.int16)


def all_slates(above: float) -> tuple[LoggedSlates, Any]:
    """Every slate of both kinds of users with its mean reward, and the champion's probability of it."""
    log_weights = CHAMPION[KIND]
    slates = LoggedSlates(
        user=np.arange(24),
        made_at=np.zeros(24, np.int64),
        policy=["recommender:1"] * 24,
        candidates=np.tile(np.arange(CANDIDATES, dtype=np.int32), (24, 1)),
        log_weights=log_weights,
        picks=PICKS,
        reward=expected(KIND, PICKS, above),
        matured=np.ones(24, bool),
    )
    return slates, conditionals(log_weights, PICKS).prod(axis=1) / 2


def enumerated(above: float, predictions: PredictedRewards | None = None) -> dict[str, float]:
    """What each estimate of the challenger is on average over all logs that the champion can leave."""
    slates, probability = all_slates(above)
    policy = evaluate(slates, logged_probabilities(slates), CHALLENGER[KIND], predictions)
    predicted = np.zeros(PICKS.shape) if predictions is None else predictions.of(PICKS)
    found = contributions(Rewards(slates.user, slates.reward, PICKS >= 0, predicted), policy, clip=1e9)
    return {name: float(probability @ found[name]) for name in ESTIMATORS if name != "snips"}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_every_estimator_is_exact_over_all_slates_whatever_rewards_were_predicted(seed: int) -> None:
    draw = np.random.default_rng(seed)
    appeal = draw.normal(size=(2, CANDIDATES))[KIND]
    line = draw.normal(size=(2, 2, SIZE))[:, KIND]
    for value in enumerated(0.0, PredictedRewards(appeal, line[0], line[1])).values():
        assert value == pytest.approx(true_value(CHALLENGER))


def test_where_items_change_what_stands_below_them_only_estimators_that_allow_it_stay_exact() -> None:
    found, truth = enumerated(0.3), true_value(CHALLENGER, 0.3)
    assert found["ips"] == pytest.approx(truth)
    assert found["cascade"] == pytest.approx(truth)
    assert abs(found["item_position"] - truth) > 0.01
    assert abs(found["doubly_robust"] - truth) > 0.01


def test_conditional_probabilities_alone_are_biased_and_the_mean_weight_does_not_tell() -> None:
    slates, probability = all_slates(0.0)
    weights = conditionals(CHALLENGER[KIND], PICKS) / conditionals(CHAMPION[KIND], PICKS)
    assert probability @ weights == pytest.approx([1.0, 1.0], abs=1e-9)
    assert abs(probability @ (weights * slates.reward).sum(axis=1) - true_value(CHALLENGER)) > 0.001


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_from_a_log_lie_within_their_error_of_the_truth(name: str) -> None:
    made = log(30_000, 1)
    policy = evaluate(made.slates, logged_probabilities(made.slates), made.challenger, None)
    rewards = Rewards(made.slates.user, made.slates.reward, made.slates.picks >= 0, np.zeros((30_000, SIZE)))
    found = mean_over_users(contributions(rewards, policy, clip=1e9)[name], made.slates.user)
    assert abs(found.value - true_value(CHALLENGER)) < 4 * found.standard_error
    assert 0 < found.standard_error < 0.03


def test_the_logged_policy_itself_has_weights_of_one_and_earns_what_was_earned() -> None:
    made = log(500, 2)
    policy = evaluate(made.slates, logged_probabilities(made.slates), made.champion, None)
    rewards = Rewards(made.slates.user, made.slates.reward, made.slates.picks >= 0, np.zeros((500, SIZE)))
    for weights in (policy.whole, policy.prefix, policy.position):
        assert weights == pytest.approx(np.ones(weights.shape))
    for values in contributions(rewards, policy, clip=10.0).values():
        assert values.mean() == pytest.approx(made.slates.reward.sum(axis=1).mean())


def test_empty_positions_count_for_nothing_in_any_estimator() -> None:
    made = log(200, 3)
    picks, reward = made.slates.picks.copy(), made.slates.reward.copy()
    log_weights = made.champion.copy()
    log_weights[:, 1:] = -np.inf
    picks[:, 0], picks[:, 1], reward[:, 1] = 0, -1, np.nan
    slates = LoggedSlates(
        made.slates.user, made.slates.made_at, made.slates.policy, made.slates.candidates, log_weights, picks, reward,
        made.slates.matured,
    )  # fmt: skip
    predictions = PredictedRewards(np.ones((200, 4)), np.ones((200, 2)), np.ones((200, 2)))
    policy = evaluate(slates, logged_probabilities(slates), log_weights, predictions)
    rewards = Rewards(slates.user, reward, picks >= 0, predictions.of(picks))
    assert (policy.position == [1.0, 0.0]).all()
    assert (policy.direct == [2.0, 0.0]).all()
    for values in contributions(rewards, policy, clip=10.0).values():
        assert values.mean() == pytest.approx(reward[:, 0].mean())
    assert mean_weight(policy.position, picks >= 0, slates.user).value == 1.0


def test_errors_of_estimates_count_users_not_their_slates() -> None:
    user = np.repeat(np.arange(50), 20)
    of_users = np.random.default_rng(0).normal(size=50)
    same = mean_over_users(of_users[user], user)
    assert same.standard_error == pytest.approx(of_users.std(ddof=1) / np.sqrt(50))
    assert mean_over_users(of_users[user], np.arange(1_000)).standard_error < same.standard_error / 4
    assert mean_over_users(np.ones(3), np.zeros(3, np.int64)).standard_error == np.inf


def test_the_error_of_the_mean_weight_is_that_of_repeated_logs() -> None:
    def found(seed: int) -> Any:
        made = log(400, seed)
        policy = evaluate(made.slates, logged_probabilities(made.slates), made.challenger, None)
        return mean_weight(policy.position, made.slates.picks >= 0, made.slates.user)

    means = [found(seed) for seed in range(60)]
    spread = float(np.std([one.value for one in means]))
    assert np.mean([one.value for one in means]) == pytest.approx(1.0, abs=4 * spread / np.sqrt(60))
    assert np.mean([one.standard_error for one in means]) == pytest.approx(spread, rel=0.4)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0.001, 1e3))
def test_the_effective_sample_size_is_at_most_the_number_of_weights_and_knows_no_scale(
    weights: list[float], scale: float
) -> None:
    found = effective_sample_size(np.array(weights))
    assert 0 <= found <= len(weights) * (1 + 1e-9)
    assert effective_sample_size(np.full(7, scale)) == pytest.approx(7)
    assert effective_sample_size(np.array([0.0, scale, 0.0])) == pytest.approx(1)


def test_single_items_are_evaluated_by_their_weights_alone() -> None:
    weights, reward = np.array([0.5, 2.0, 4.0]), np.array([1.0, 0.0, 1.0])
    rewards = Rewards.of_single_items(np.arange(3), reward)
    found = contributions(rewards, EvaluatedPolicy.of_single_items(weights), clip=3.0)
    assert {name: float(values.mean()) for name, values in found.items()} == pytest.approx(
        {
            **dict.fromkeys(("ips", "cascade", "item_position", "doubly_robust"), 4.5 / 3),
            **{"snips": 4.5 / 6.5, "doubly_robust_clipped": 3.5 / 3},
        }
    )


def test_what_cannot_have_been_logged_is_refused() -> None:
    made = log(10, 1)
    broken = made.champion.copy()
    broken[3, made.slates.picks[3, 1]] = -np.inf
    slates = LoggedSlates(
        made.slates.user, made.slates.made_at, made.slates.policy, made.slates.candidates, broken, made.slates.picks,
        made.slates.reward, made.slates.matured,
    )  # fmt: skip
    with pytest.raises(ValueError, match="slate 3"):
        logged_probabilities(slates)
    with pytest.raises(ValueError, match="each candidate"):
        evaluate(made.slates, logged_probabilities(made.slates), made.champion[:, :2], None)
    with pytest.raises(ValueError, match="finite"):
        Rewards.of_single_items(np.arange(1), np.array([np.nan]))
