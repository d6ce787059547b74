"""Learning from slates: probabilities as slates.py has them, returns as defined, updates that go the right way."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.actor_critic import (
    Learner,
    LearnerConfig,
    actor_loss,
    click_loss,
    floored,
    log_conditionals,
    look,
    organic_loss,
    returns,
    update,
)
from models.engagements import CLICK, IMPRESSION
from models.experience import Experience
from models.item_table import ItemTable
from models.policy import PolicyConfig, PolicyNetwork
from models.slates import conditionals, draw_slates, floored_log_weights

CONFIG = PolicyConfig(content=5, hidden=12, vector=6, buckets=9)
ITEMS = ItemTable(torch.eye(5), torch.arange(1, 6))


def new_network(seed: int = 0) -> PolicyNetwork:
    torch.manual_seed(seed)
    return PolicyNetwork(CONFIG)


def experience_of(
    sequences: list[list[tuple[list[int], list[float]]]], *, candidates: int = 5, continues: bool = False
) -> Experience:
    """Each sequence is its slates, as picks among all items and their rewards; what is shown becomes an engagement."""
    size, longest = max(len(s[0]) for q in sequences for s in q), max(map(len, sequences))
    shape = (len(sequences), longest)
    item, action = np.full((*shape, size), -1), np.full((*shape, size), -1)
    seen, picks, reward = np.full(shape, -1), np.full((*shape, size), -1), np.zeros((*shape, size), np.float32)
    for row, sequence in enumerate(sequences):
        for place, (shown, earned) in enumerate(sequence):
            seen[row, place] = size * place
            picks[row, place, : len(shown)] = shown
            reward[row, place, : len(shown)] = earned
            item[row, place, : len(shown)] = shown
            action[row, place] = IMPRESSION
            action[row, place, : len(shown)] = [CLICK if worth else IMPRESSION for worth in earned]
    flat = (len(sequences), longest * size)
    return Experience(
        item_BT=torch.from_numpy(item.reshape(flat)),
        action_BT=torch.from_numpy(action.reshape(flat)),
        value_BT=torch.full(flat, torch.nan),
        gap_BT=torch.full(flat, 5.0),
        predicted_BT=torch.zeros(flat, dtype=torch.bool),
        seen_BD=torch.from_numpy(seen),
        candidates_BDC=torch.arange(candidates).expand(*shape, -1).contiguous(),
        log_weights_BDC=torch.full((*shape, candidates), -float(np.log(candidates))),
        picks_BDK=torch.from_numpy(picks),
        reward_BDK=torch.from_numpy(reward),
        continues_B=torch.full((len(sequences),), continues),
    )


masks = st.lists(st.booleans(), min_size=5, max_size=5).filter(any)


@given(
    st.lists(st.floats(-30, 30), min_size=5, max_size=5), masks, st.sampled_from([0.0, 0.05, 1.0]), st.integers(0, 9)
)
def test_weights_and_conditionals_are_those_that_slates_are_drawn_with(
    logits: list[float], allowed: list[bool], floor: float, seed: int
) -> None:
    liking, mask = np.array([logits], np.float32), np.array([allowed])
    drawn_with = floored_log_weights(liking, mask, floor)
    ours = floored(torch.from_numpy(liking), torch.from_numpy(mask), floor)
    np.testing.assert_allclose(ours.numpy()[mask], drawn_with[mask], rtol=1e-4, atol=1e-4)
    picks = draw_slates(drawn_with, np.random.default_rng(seed).random((1, 5)), 3)
    expected = np.log(conditionals(drawn_with, picks))
    found = log_conditionals(ours, torch.from_numpy(picks.astype(np.int64))).numpy()
    np.testing.assert_allclose(found[picks >= 0], expected[picks >= 0], rtol=1e-3, atol=1e-3)
    assert (found[picks < 0] == 0).all()


@torch.no_grad()
def looked_at(network: PolicyNetwork, batch: Experience) -> Any:
    return look(network, ITEMS, batch, 1.0)


@pytest.mark.parametrize("continues", [False, True])
def test_returns_of_the_logging_policy_are_lambda_returns(continues: bool) -> None:
    """By hand, from the end of the session to its beginning; the drawing policy's own weights make every ratio 1."""
    config = LearnerConfig(discount=0.9, trace=0.7)
    sequence = [([0, 1], [0.0, 2.0]), ([2, 3], [0.0, 0.0]), ([4, 0], [1.0, -3.0])]
    batch = experience_of([sequence, sequence[:1]], continues=continues)
    answers = looked_at(new_network(), batch)
    targets, advantages = returns(answers, answers.logged_NC, config)
    value, reward, last = answers.value_N[:3].tolist(), [2.0, 0.0, -2.0], float(answers.last_value_B[0])
    assert (last != 0) == continues
    expected, ahead, ahead_value = [0.0] * 3, last, last
    for place in (2, 1, 0):
        expected[place] = reward[place] + 0.9 * (0.3 * ahead_value + 0.7 * ahead)
        ahead, ahead_value = expected[place], value[place]
    assert targets[:3].tolist() == pytest.approx(expected, abs=1e-5)
    after = [0.9 * expected[1] - value[0], 0.9 * expected[2] - value[1], 0.9 * last - value[2]]
    assert advantages[0].tolist() == pytest.approx([0.0, 2.0 + after[0]], abs=1e-5)
    assert advantages[1].tolist() == [0.0, 0.0]
    assert advantages[2].tolist() == pytest.approx([1.0 + after[2] / 2, -3.0 + after[2] / 2], abs=1e-5)


def test_what_a_policy_would_hardly_show_teaches_the_critic_little() -> None:
    answers = looked_at(new_network(), experience_of([[([0, 1], [5.0, 0.0])]]))
    unlikely = answers.logged_NC.clone()
    unlikely[:, 0] -= 6.0
    targets, _ = returns(answers, unlikely, LearnerConfig())
    assert float((targets - answers.value_N).abs()[0]) < 0.05
    likely = answers.logged_NC.clone()
    likely[:, 0] += 6.0
    targets, _ = returns(answers, likely, LearnerConfig())
    assert targets.tolist() == pytest.approx([5.0], abs=1e-5)  # more than once counts as once


def test_padding_changes_nothing() -> None:
    network, short, long = new_network(), [([0, 1], [0.0, 1.0])], [([2, 3], [0.0, 0.0]), ([4, 0], [1.0, 0.0])]
    alone, together = experience_of([short]), experience_of([short, long])
    assert together.take(torch.tensor([0])).seen_BD.shape == alone.seen_BD.shape
    first, both = looked_at(network, alone), looked_at(network, together)
    for name in ("state_NH", "logits_NC", "value_N", "shown_NKV"):
        torch.testing.assert_close(getattr(both, name)[:1], getattr(first, name), rtol=0, atol=1e-6)


def test_a_slate_is_judged_by_the_engagements_before_it_alone() -> None:
    network = new_network()
    first = looked_at(network, experience_of([[([0, 1], [0.0, 1.0]), ([2, 3], [0.0, 0.0])]]))
    other = looked_at(network, experience_of([[([0, 1], [0.0, 1.0]), ([3, 4], [1.0, 0.0])]]))
    torch.testing.assert_close(first.state_NH, other.state_NH)
    assert not torch.allclose(first.state_NH[0], first.state_NH[1])
    assert torch.equal(first.state_NH[0], torch.zeros(CONFIG.hidden))


def test_the_click_loss_is_the_cross_entropy_of_what_was_clicked() -> None:
    network = new_network()
    answers = looked_at(network, experience_of([[([0, 1], [0.0, 1.0]), ([3], [0.0])]]))
    query, none = network.click_query(answers.state_NH), network.no_click(answers.state_NH)
    vectors = network.item_vectors(ITEMS)
    first = torch.stack([query[0] @ vectors[0], query[0] @ vectors[1], none[0]]).log_softmax(0)[1]
    second = torch.stack([query[1] @ vectors[3], none[1]]).log_softmax(0)[1]
    torch.testing.assert_close(click_loss(network, answers), -(first + second) / 2)


def test_an_empty_position_is_neither_shown_nor_credited() -> None:
    answers = looked_at(new_network(), experience_of([[([3, 1], [0.0, 1.0]), ([3], [0.0])]]))
    weights = floored(answers.logits_NC, answers.allowed_NC, 0.05)
    loss, _ = actor_loss(answers, weights, torch.ones(2, 2))
    alone, _ = actor_loss(
        looked_at(new_network(), experience_of([[([3, 1], [0.0, 1.0])]])), weights[:1], torch.ones(1, 2)
    )
    torch.testing.assert_close(loss * 2, alone)


def test_only_what_was_done_without_a_recommendation_is_predicted() -> None:
    network = new_network()
    batch = experience_of([[([0, 1], [0.0, 1.0]), ([2, 3], [1.0, 0.0])]])
    assert float(organic_loss(network, looked_at(network, batch), batch)) == 0.0
    alone = replace(batch, predicted_BT=batch.action_BT == CLICK)
    answers = looked_at(network, alone)
    query = network.click_query(answers.before_BTH[0, [1, 2]])
    logits = query @ answers.vectors_UV.T
    expected = -(logits[0].log_softmax(0)[1] + logits[1].log_softmax(0)[2]) / 2
    torch.testing.assert_close(organic_loss(network, answers, alone), expected)


def one_item_pays(worth: float) -> Experience:
    """Item 2 gets every reaction; everything is shown equally often."""
    rng = np.random.default_rng(0)
    sequences = []
    for _ in range(64):
        shown = rng.permutation(5)[:2].tolist()
        sequences.append([(shown, [worth if item == 2 else 0.1 for item in shown])])
    return experience_of(sequences)


def preferences(network: PolicyNetwork) -> Tensor:
    with torch.no_grad():
        vectors = network.item_vectors(ITEMS)
        return (network.query(torch.zeros(1, CONFIG.hidden)) @ vectors.T).softmax(1)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("worth", "best"), [(3.0, True), (-3.0, False)])
def test_updates_raise_what_pays_and_lower_what_is_disliked(worth: float, best: bool) -> None:
    learner, batch = Learner(new_network(), ITEMS, 0.01), one_item_pays(worth)
    before = float(preferences(learner.network)[2])
    losses = [update(learner, batch, LearnerConfig()) for _ in range(60)]
    after = preferences(learner.network)
    assert (float(after[2]) > 0.6) if best else (float(after[2]) < before / 4)
    assert losses[-1]["critic"] < losses[0]["critic"]
    assert losses[-1]["clicks"] < losses[0]["clicks"]


def test_ids_that_are_forgotten_learn_nothing_and_content_does() -> None:
    learner = Learner(new_network(), ITEMS, 0.01, torch.Generator().manual_seed(0))
    content = learner.network.from_content.weight.clone()
    for _ in range(3):
        update(learner, one_item_pays(3.0), LearnerConfig(forgotten_ids=1.0))
    assert not learner.network.from_id.weight.any()
    assert not torch.equal(learner.network.from_content.weight, content)
    update(learner, one_item_pays(3.0), LearnerConfig(forgotten_ids=0.5))
    assert learner.network.from_id.weight.any()


def test_an_actor_that_may_not_act_yet_stays_as_it_is() -> None:
    learner = Learner(new_network(), ITEMS, 0.01)
    actor = [value.clone() for value in learner.network.actor.parameters()]
    assert set(update(learner, one_item_pays(3.0), LearnerConfig(), act=False)) == {"clicks"}
    assert all(torch.equal(old, new) for old, new in zip(actor, learner.network.actor.parameters(), strict=True))


def test_a_reward_that_comes_later_is_credited_to_what_led_to_it() -> None:
    """A click on item 0 earns little now and is followed by a large reward; one on item 1 earns more and ends there."""
    sequences = [[([0, 3], [0.1, 0.0]), ([4, 2], [5.0, 0.0])], [([1, 3], [2.0, 0.0]), ([4, 2], [0.1, 0.0])]] * 20
    liking = {}
    for discount in (0.0, 0.99):
        learner = Learner(new_network(), ITEMS, 0.01)
        for _ in range(60):
            update(learner, experience_of(sequences), LearnerConfig(return_scale=5.0, discount=discount))
        after = preferences(learner.network)
        liking[discount] = float(after[0] / after[1])
    assert liking[0.0] < 1 < liking[0.99]
