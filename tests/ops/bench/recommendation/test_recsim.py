"""RecSim as the recommender sees it: what it is shown and told, and that a short training already beats chance."""

from typing import Any

import numpy as np
import pytest
import torch

from models.engagements import CLICK, IMPRESSION
from ops.bench.recommendation import recsim, recsim_satisfaction
from ops.bench.recommendation.recsim_learning import OnlineConfig, learn
from ops.bench.recommendation.recsim_users import PolicyChooser, RandomChooser, play, rewards_of
from ops.bench.recommendation.slate_q import SlateQChooser, learn_slate_q
from tests.ops.bench.recommendation.benchmark_environment import in_benchmark_environment

pytestmark = [*in_benchmark_environment, pytest.mark.filterwarnings("ignore")]


def silent(stage: str, share: float) -> None:
    pass


def test_sessions_hold_what_was_shown_clicked_and_earned_and_nothing_of_users_interests() -> None:
    world = recsim.interest_world()
    sessions = play(world, recsim.environments_of(3, 7), RandomChooser(world, np.random.default_rng(0)))
    told = sessions.experience
    np.testing.assert_allclose(told.reward_BDK.sum((1, 2)).numpy(), sessions.reward, rtol=1e-5)
    for user in range(3):
        slates = int((told.seen_BD[user] >= 0).sum())
        shown = told.candidates_BDC[user, :slates].gather(1, told.picks_BDK[user, :slates])
        assert told.item_BT[user, : 3 * slates].tolist() == shown.flatten().tolist()
        clicked = told.action_BT[user, : 3 * slates].reshape(slates, 3) == CLICK
        assert torch.equal(clicked, told.reward_BDK[user, :slates] > 0)
        assert torch.equal(clicked, told.value_BT[user, : 3 * slates].reshape(slates, 3).isfinite())
        assert set(told.action_BT[user, : 3 * slates].tolist()) == {CLICK, IMPRESSION}
        assert (told.action_BT[user, 3 * slates :] == -1).all()
        # Documents of the last topics are good, those of the first bad (RecSim's quality is linear in the topic).
        topics, quality = told.item_BT[user, : 3 * slates], told.value_BT[user, : 3 * slates]
        assert (quality[(topics >= 15) & quality.isfinite()] > 0).all()
        assert (quality[(topics < 12) & quality.isfinite()] < 0).all()
    assert not told.continues_B.any()


def test_users_in_parallel_differ_and_the_same_seed_repeats_them() -> None:
    world = recsim.interest_world()
    first, again = (
        play(world, recsim.environments_of(3, 7), RandomChooser(world, np.random.default_rng(0))) for _ in range(2)
    )
    assert first.reward.tolist() == again.reward.tolist()
    assert len(set(first.reward.tolist())) == 3


@pytest.mark.parametrize("sensitivity", recsim_satisfaction.SENSITIVITIES)
def test_what_is_best_for_long_depends_on_the_hidden_sensitivity(sensitivity: float) -> None:
    world, rewards = recsim_satisfaction.satisfaction_world(), []
    for score in (0.0, 1.0):
        users = recsim_satisfaction.environments_of(sensitivity, 60, 3)
        rewards.append(rewards_of(world, users, recsim_satisfaction.ConstantChooser(score), 60).mean())
    assert (rewards[0] > 2 * rewards[1]) if sensitivity == 0.3 else (rewards[1] > 1.2 * rewards[0])


def test_users_of_one_environment_see_documents_of_their_own() -> None:
    first, second = (list(user.reset()["doc"].values()) for user in recsim_satisfaction.environments_of(0.01, 2, 3))
    assert not np.allclose(first, second)


def test_some_rounds_of_learning_beat_chance_and_what_users_like_best() -> None:
    world, online = recsim.interest_world(), OnlineConfig(steps=30_000)
    network = learn(world, recsim.environments_of(online.users, 0), online, 0, silent, "")
    chooser = PolicyChooser(network, world, np.random.default_rng(0), floor=0.0, greedy=True)
    assert rewards_of(world, recsim.environments_of(60, 500), chooser, 60).mean() > 178


def test_slate_q_learns_that_no_click_is_worth_less_than_a_click() -> None:
    world, online = recsim.interest_world(), OnlineConfig(steps=3_000, users=10, batch=5)
    network = learn_slate_q(world, recsim.environments_of(10, 0), online, 0, silent)
    chooser: Any = SlateQChooser(network, world, np.random.default_rng(0), floor=0.0, greedy=True)
    reward = rewards_of(world, recsim.environments_of(20, 500), chooser, 20)
    assert np.isfinite(reward).all()
    assert reward.mean() > 120
