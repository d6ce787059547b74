"""A policy's card against the same counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.engagements import CLICK, Engagements
from models.item_table import ItemTable
from models.policy_card import LEAST_SLATES, PolicyFacts, policy_card
from models.policy_history import PolicyHistory
from tests.models.slate_logs import log

USERS, ITEMS = 60, 6
SLATES = log(900, seed=3, users=USERS).slates


def told() -> PolicyHistory:
    """Each slate answers the engagement at its own place; two of six items are never candidates."""
    count = len(SLATES)
    engagements = Engagements(
        partition=np.zeros(count, np.int32),
        offset=np.arange(count),
        day=np.zeros(count, np.int32),
        event_id=[f"e{row}" for row in range(count)],
        occurred_at=SLATES.made_at,
        user_id=[f"u{user}" for user in SLATES.user.tolist()],
        item_id=["i"] * count,
        action=np.full(count, CLICK, np.int8),
        value=np.full(count, np.nan),
        recommendation_id=[None] * count,
    )
    items = ItemTable(torch.zeros((ITEMS, 3)), torch.arange(ITEMS))
    return PolicyHistory(engagements, np.zeros(count, np.int32), SLATES, np.arange(count), items)


FACTS = PolicyFacts(told(), {"click_loss": 0.5, "reward_estimate": 0.31, "seconds": 4.0}, {"hidden": 8}, 24.0, "0.1.0")
CARD = policy_card(FACTS)


def test_the_window_counts_slates_users_and_items() -> None:
    data = CARD.data
    assert (data["slates"], data["users"], data["items"]) == (900, len(np.unique(SLATES.user)), ITEMS)
    assert (data["items_shown"], data["engagements"]) == (4, 900)
    assert data["reactions"] == (SLATES.reward != 0).sum()


def test_estimates_come_first_and_slates_of_new_and_known_users_add_up() -> None:
    estimates, whole, *parts = CARD.quality
    assert estimates["measures"] == {"click_loss": 0.5, "reward_estimate": 0.31}
    assert whole["measures"]["reward_per_slate"] == pytest.approx(SLATES.reward.sum(1).mean())
    by_user = [part for part in parts if part["kind"] == "user"]
    assert sum(part["slates"] for part in by_user) == 900
    seen: dict[int, int] = {}
    new = 0
    for user in SLATES.user.tolist():
        new += seen.get(user, 0) < 5
        seen[user] = seen.get(user, 0) + 1
    assert by_user[0]["slates"] == new
    assert [part["name"] for part in parts if part["kind"] == "chosen by"] == ["recommender:1"]


def test_an_interval_takes_users_for_independent_and_slates_not() -> None:
    alone = {part["name"]: part for part in CARD.quality}["all"]
    low, high = alone["intervals"]["reward_per_slate"]
    assert low < alone["measures"]["reward_per_slate"] < high
    one_person = replace(FACTS, taught=replace(FACTS.taught, slates=replace(SLATES, user=np.zeros(900, np.int64))))
    assert policy_card(one_person).quality[1]["intervals"] == {}
    doubled = np.repeat(np.arange(900), 2)
    history = replace(FACTS.taught, slates=SLATES.take(doubled), cause=doubled)
    twice = policy_card(replace(FACTS, taught=history)).quality[1]
    assert twice["intervals"]["reward_per_slate"] == pytest.approx((low, high))


def test_limits_name_what_was_never_shown_and_what_was_too_seldom() -> None:
    said = "\n".join(CARD.limits)
    assert "2 of 6 items were never shown" in said
    few = replace(FACTS, taught=replace(FACTS.taught, slates=SLATES.take(np.arange(50)), cause=np.arange(50)))
    assert LEAST_SLATES > 50
    assert "Too few slates to say what is earned by: logged all (50 slates)" in "\n".join(policy_card(few).limits)


def test_a_card_is_json_with_finite_numbers_alone() -> None:
    assert json.loads(json.dumps(CARD.as_json(), allow_nan=False))["kind"] == "policy"
