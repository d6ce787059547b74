"""The checks before registration: a sound policy passes, each kind of unfit one is named."""

import numpy as np
import pytest
import torch

from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.policy_checks import failed_policy_checks
from models.policy_history import sort_history, windows_between
from tests.models.policy_shop import history_of, shop_log

HISTORY = history_of(shop_log(users=8, visits=3, seed=4))
WINDOWS = windows_between(sort_history(HISTORY), -np.inf, np.inf, 16)
PROBE = WINDOWS.experience(np.arange(len(WINDOWS)))


def policy() -> TrainedPolicy:
    torch.manual_seed(0)
    return TrainedPolicy(PolicyNetwork(PolicyConfig(hidden=8, vector=6)))


def failed(model: TrainedPolicy) -> list[str]:
    return failed_policy_checks(model, HISTORY.items, PROBE)


def test_a_sound_policy_passes() -> None:
    assert failed(policy()) == []


def test_weights_that_are_no_numbers_are_named() -> None:
    model = policy()
    with torch.no_grad():
        model.network.from_id.weight[3, 1] = torch.inf
        dict(model.network.named_parameters())["critic.2.bias"][0] = torch.nan
    (found,) = failed(model)
    assert found.startswith("weights that are not finite")
    assert "from_id.weight" in found
    assert "critic.2.bias" in found


def test_the_same_slate_for_everyone_is_refused() -> None:
    model = policy()
    with torch.no_grad():
        model.network.actor_liking.zero_()
        dict(model.network.named_parameters())["actor.2.weight"].zero_()
    assert failed(model) == ["the same slate for everyone"]


def test_preferences_that_are_no_numbers_are_refused() -> None:
    model = policy()
    with torch.no_grad():
        dict(model.network.named_parameters())["actor.2.bias"].fill_(3e38)
        model.network.from_content.bias.fill_(3e38)
    assert "preferences that are no numbers" in failed(model)


def test_a_policy_for_other_item_content_is_refused() -> None:
    model = TrainedPolicy(PolicyNetwork(PolicyConfig(content=7, hidden=8, vector=6)))
    assert failed(model) == ["made for 7 columns of item content, not 98"]


def test_steps_that_differ_from_sequences_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    step = PolicyNetwork.step
    monkeypatch.setattr(PolicyNetwork, "step", lambda self, *columns: step(self, *columns) + 0.5)
    (found,) = failed(policy())
    assert "between steps and sequences" in found
