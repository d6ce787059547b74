"""Why an item: what leaving out an engagement does to its logit, in words for people; asking moves nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import item_key
from models.engagements import ACTIONS, Engagements
from models.guard_rails import SlateRules
from models.policy import TrainedPolicy
from models.recommending import Recommender
from models.users import RECENT, Users
from models.why_item import (
    CHANCE,
    DRAWN,
    ENGAGEMENT,
    EVERYONE,
    MOST_REASONS,
    POPULARITY,
    ItemReason,
    engagement_reason,
    left_out,
    strongest,
    why_item,
)
from tests.models.engagement_logs import BEGIN, MINUTE, engagement_logs, engagements, shop, untrained_policy

POLICY = untrained_policy()
NO_HOLDOUT = SlateRules(holdout=0.0)


def recommender(
    events: Engagements, policy: TrainedPolicy | None = POLICY, rules: SlateRules = NO_HOLDOUT
) -> Recommender:
    found = Recommender(shop(9), rules)
    if policy is not None:
        found.use_policy(found.prepare(policy), "recommender:1")
    found.fold(events)
    return found


def logit(events: Engagements, item: int) -> float:
    """Of an item for the user of a log, by the live path."""
    running = recommender(events)._running
    assert running is not None
    with torch.inference_mode():
        if not len(events):
            return running.logit_of_nobody(item)
        return float(running.likings(running.query(running._hidden.values, np.array([0])), np.array([[item]]))[0, 0])


def all_reasons(found: Recommender, item: int) -> list[ItemReason]:
    """Not only the strongest, of the user in slot 0."""
    assert found._running is not None
    with torch.inference_mode():
        return why_item(found._running, found.catalogue, found._users.recent(np.array([0])), item, 0.0)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(ACTIONS), st.integers(0, 900)), min_size=1, max_size=8))
def test_a_contribution_is_what_the_logit_loses_when_an_item_had_never_been_touched(rows: list) -> None:
    rows = sorted(rows, key=lambda row: row[2])
    events = engagements([{"item": item, "action": action, "minute": minute} for item, action, minute in rows])
    expected = []
    for item in {row[0] for row in rows}:
        without = events.take(np.flatnonzero([name != f"item-{item}" for name in events.item_id]))
        expected.append(logit(events, 4) - logit(without, 4))
    found = sorted(one.contribution for one in all_reasons(recommender(events), 4) if one.feature == ENGAGEMENT)
    np.testing.assert_allclose(found, sorted(expected), atol=1e-4)


@given(engagement_logs(most=80))
def test_each_sequence_leaves_out_one_item_and_bridges_its_gaps(events: Engagements) -> None:
    users = Users()
    users.note(events, np.array([item_key(item) for item in events.item_id], np.int64))
    for slot in users.with_history.tolist():
        recent = users.recent(np.array([slot]))
        assert len(recent.key) <= RECENT
        found = left_out(recent)
        sequence = found.events.runs.slot
        assert np.array_equal(found.source[sequence == 0], np.arange(len(recent.key)))
        np.testing.assert_array_equal(found.events.gap[sequence == 0], recent.gap)
        total = np.cumsum(np.nan_to_num(recent.gap).astype(np.float64))
        for number, key in enumerate(found.key.tolist(), 1):
            own = sequence == number
            assert found.source[own].tolist() == np.flatnonzero(recent.key != key).tolist()
            assert recent.key[found.last[number - 1]] == key
            assert not (recent.key[found.last[number - 1] + 1 :] == key).any()
            gaps, places = found.events.gap[own], found.source[own]
            if len(gaps):
                assert np.isnan(gaps[0]) == np.isnan(recent.gap[0])
                start = total[places[0]] if np.isnan(gaps[0]) else 0.0
                assert np.nansum(gaps, dtype=np.float64) == pytest.approx(total[places[-1]] - start, rel=1e-3, abs=1)


def test_reasons_are_few_positive_and_the_strongest_come_first() -> None:
    rows = [{"item": place % 11, "action": "like", "minute": place} for place in range(30)]
    found = recommender(engagements(rows))
    for item in range(9):
        reasons = found.why(0, "user-0", f"item-{item}")
        contributions = [one.contribution for one in reasons]
        assert 1 <= len(reasons) <= MOST_REASONS
        assert contributions == sorted(contributions, reverse=True)
        assert min(contributions) > 0 or [one.feature for one in reasons] == [CHANCE]
        assert len({(one.feature, one.item_id) for one in reasons if one.item_id}) == len(
            [r for r in reasons if r.item_id]
        )


def test_reasons_are_told_with_the_latest_engagement_and_its_age() -> None:
    found = recommender(
        engagements([{"item": 2}, {"item": 2, "action": "like", "minute": 60}, {"item": 5, "minute": 90}])
    )
    at = BEGIN + 60 * MINUTE + 2 * 86_400_000
    every = {
        one.item_id: one
        for item in range(9)
        for one in found.why(0, "user-0", f"item-{item}", at)
        if one.feature == ENGAGEMENT
    }
    assert every["item-2"].text == "because you liked item-2 2 days ago"
    assert every["item-2"].seconds_ago == pytest.approx(2 * 86_400)
    assert every["item-5"].text == "because you clicked on item-5 2 days ago"
    assert every["item-5"].seconds_ago == pytest.approx(2 * 86_400 - 30 * 60)


def test_what_the_policy_thinks_of_an_item_for_everyone_is_a_reason() -> None:
    policy = untrained_policy()
    with torch.no_grad():
        policy.network.from_id.weight[shop(9).bucket[4], -1] += 50.0
    found = recommender(engagements([{"item": 1}, {"item": 2}]), policy)
    first = found.why(0, "user-0", "item-4")[0]
    assert (first.feature, first.text) == (POPULARITY, EVERYONE)
    assert first.contribution == pytest.approx(50 * 8 / 9, abs=3)


def test_new_users_and_users_without_a_policy_see_what_is_popular_with_everyone() -> None:
    bought = engagements([{"number": 90, "user": 3, "item": 6, "action": "purchase"}, {"number": 91, "item": 1}])
    for policy in (POLICY, None):
        found = recommender(bought, policy)
        assert [one.text for one in found.why(0, "user-0", "item-6")] == [EVERYONE]
        assert [one.text for one in found.why(0, "user-0", "item-7")] == [DRAWN]


def test_the_holdout_is_told_of_chance() -> None:
    found = recommender(engagements([{"item": 1}, {"item": 2}]), rules=SlateRules(holdout=1.0))
    assert found.why(0, "user-0", "item-2") == [ItemReason(CHANCE, 0.0, DRAWN)]


def test_nothing_is_said_of_unknown_users_and_items() -> None:
    found = recommender(engagements([{"item": 1}, {"item": 2}]))
    assert found.why(0, "nobody", "item-1") == found.why(7, "user-0", "item-1") == found.why(0, "user-0", "x") == []
    assert found.resident_users == 1


def test_asking_moves_nothing() -> None:
    events = engagements([{"item": place % 4, "minute": place} for place in range(20)])
    asked, silent = recommender(events), recommender(events)
    asked.why(0, "user-0", "item-3")
    assert asked._running is not None
    assert silent._running is not None
    slots = slice(asked._users.slots.highest)  # the room behind them was never written to
    assert asked.resident_users == silent.resident_users > 0
    assert torch.equal(asked._running._hidden.values[slots], silent._running._hidden.values[slots])
    for name, array in asked._users.arena.arrays.items():
        assert np.array_equal(array[slots], silent._users.arena.arrays[name][slots], equal_nan=array.dtype.kind == "f")


def test_a_policy_without_numbers_gives_chance_as_the_reason() -> None:
    broken = untrained_policy()
    with torch.no_grad():
        broken.network.gru.weight_hh_l0[0, 0] = torch.nan
    reasons = recommender(engagements([{"item": 1}, {"item": 2}]), broken).why(0, "user-0", "item-2")
    assert {one.feature for one in reasons} <= {CHANCE, POPULARITY}


@pytest.mark.parametrize(
    ("action", "seconds", "text"),
    [
        ("like", 172_800.0, "because you liked X 2 days ago"),
        ("purchase", 3_600.0, "because you bought X 1 hour ago"),
        ("dwell", 61.0, "because you spent time with X 1 minute ago"),
        ("impression", 3.0, "because you were shown X just now"),
        ("skip", 86_399.0, "because you skipped X 1 day ago"),
    ],
)
def test_a_reason_reads_well(action: str, seconds: float, text: str) -> None:
    assert engagement_reason("X", ACTIONS.index(action), seconds, 1.0).text == text


def test_every_action_has_its_words_and_lost_items_are_named_so() -> None:
    for action in range(len(ACTIONS)):
        assert "an item that is no longer known" in engagement_reason(None, action, 5.0, 1.0).text


def test_where_nothing_speaks_for_an_item_it_was_chance() -> None:
    assert strongest([ItemReason(ENGAGEMENT, -1.0, "against")]) == [ItemReason(CHANCE, 0.0, DRAWN)]
