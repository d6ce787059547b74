"""A policy over users' engagements: its states are the fold of each user's own, and vectors follow the catalogue."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import BadModel
from models.catalogue import Catalogue
from models.engagements import Engagements
from models.guard_rails import SlateRules
from models.item_content import Item
from models.item_table import ItemTable
from models.pictures import SIDE
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.recommending import Recommender
from models.running_policy import RunningPolicy
from models.users import RECENT
from tests.models.engagement_logs import engagement_logs, engagements, items, many_engagements, shop, untrained_policy
from tests.models.logs import cut, of_partition, one_at_a_time

POLICY, OTHER = untrained_policy(), untrained_policy(hidden=5, seed=9)
#: Engagements are with items up to item-11: some are unknown.
SHOP = shop(9)
cuts = st.lists(st.integers(0, 60), max_size=5)


def recommender(policy: TrainedPolicy | None = POLICY, catalogue: Catalogue = SHOP, capacity: int = 1) -> Recommender:
    found = Recommender(catalogue, SlateRules(), capacity=capacity)
    if policy is not None:
        found.use_policy(found.prepare(policy), "recommender:1")
    return found


def folded(batches: list[Engagements], policy: TrainedPolicy | None = POLICY) -> Recommender:
    found = recommender(policy)
    for batch in batches:
        found.fold(batch)
    return found


def states(found: Recommender, events: Engagements) -> np.ndarray:
    """Of each user of a log, by partition and name."""
    owners = sorted(set(zip(events.partition.tolist(), events.user_id, strict=True)))
    slots = [found._users.slots.slot(*owner) for owner in owners]
    assert found._running is not None
    assert found._running._hidden.current[slots].all()
    return found._running._hidden.values[slots].numpy()


def assert_alike(one: Recommender, other: Recommender, events: Engagements) -> None:
    np.testing.assert_allclose(states(one, events), states(other, events), rtol=0, atol=1e-5)


def told_of(found: Recommender, events: Engagements) -> np.ndarray:
    """How many engagements the user of each event has had."""
    slots = [found._users.slots.slot(*owner) for owner in zip(events.partition.tolist(), events.user_id, strict=True)]
    return found._users.arena.arrays["events"][slots]


def by_hand(events: Engagements) -> np.ndarray:
    """The state of one user after a log without repeats and in the order of time, step by step."""
    network, hidden, before = POLICY.network, torch.zeros(1, POLICY.network.config.hidden), None
    with torch.inference_mode():
        vectors = network.item_vectors(SHOP.table())
        for place, row in enumerate(SHOP.rows_of(events.item_id).tolist()):
            now = int(events.occurred_at[place])
            gap = torch.tensor([np.nan if before is None else (now - before) / 1000], dtype=torch.float32)
            vector = vectors[row] if row >= 0 else torch.zeros(vectors.shape[1])
            value = torch.tensor([events.value[place]], dtype=torch.float32)
            action = torch.tensor([int(events.action[place])])
            hidden, before = network.step(hidden, vector[None], action, value, gap), now
    return hidden.numpy()


def test_a_state_is_what_the_network_makes_of_the_engagements_one_after_the_other() -> None:
    rows = [
        {"item": 3, "minute": 0},
        {"item": 11, "minute": 1, "action": "like"},
        {"item": 3, "minute": 500, "action": "dwell", "value": 31.5},
        {"item": 0, "minute": 501, "action": "purchase", "value": 20.0},
    ]
    events = engagements(rows)
    np.testing.assert_allclose(states(folded([events]), events), by_hand(events), rtol=0, atol=1e-6)


@settings(max_examples=30)
@given(engagement_logs(partitions=2), cuts)
def test_states_do_not_depend_on_how_the_log_is_cut(events: Engagements, places: list[int]) -> None:
    single = folded(one_at_a_time(events))
    assert_alike(folded([events]), single, events)
    assert_alike(folded(cut(events, places)), single, events)


def test_a_user_with_hundreds_of_engagements_in_a_batch_is_as_one_at_a_time() -> None:
    few = many_engagements(120, users=40, items=12, seed=1)
    hot = engagements(
        [{"number": 1_000 + place, "user": 3, "item": place % 12, "minute": place} for place in range(300)]
    )
    events = Engagements.concatenate([few, hot])
    assert_alike(folded([events]), folded(one_at_a_time(events)), events)


@settings(max_examples=30)
@given(engagement_logs(partitions=3))
def test_states_do_not_depend_on_the_other_partitions_of_a_batch(events: Engagements) -> None:
    together = folded([events])
    for partition in set(events.partition.tolist()):
        own = of_partition(events, partition)
        np.testing.assert_allclose(states(together, own), states(folded([own]), own), rtol=0, atol=1e-5)


@settings(max_examples=30)
@given(engagement_logs(most=RECENT), engagement_logs(most=40), cuts)
def test_a_policy_that_came_late_has_the_states_of_one_that_saw_all_where_rings_hold_all(
    before: Engagements, after: Engagements, places: list[int]
) -> None:
    saw, late = folded([before, after]), folded(cut(before, places), policy=None)
    late.use_policy(late.prepare(POLICY), "recommender:2")
    late.fold(after)
    if len(after):
        assert_alike(late, saw, after)


@settings(max_examples=30)
@given(engagement_logs(most=60), engagement_logs(most=40), cuts)
def test_a_late_policy_does_not_depend_on_who_decided_before_nor_on_the_cut(
    before: Engagements, after: Engagements, places: list[int]
) -> None:
    """A worker that was killed after the activation comes to the states of one that lived through it."""
    lived, restored = folded(cut(before, places), policy=OTHER), recommender(None)
    restored.remember(before)
    for found, batches in ((lived, cut(after, places)), (restored, [after])):
        found.use_policy(found.prepare(POLICY), "recommender:2")
        for batch in batches:
            found.fold(batch)
    if len(after):
        assert_alike(lived, restored, after)


@settings(max_examples=30)
@given(engagement_logs(most=30), engagement_logs(most=30))
def test_a_policy_that_comes_back_has_seen_what_happened_meanwhile(before: Engagements, after: Engagements) -> None:
    """Where rings hold all of it."""
    found = recommender()
    running = found._running
    found.fold(before)
    found.use_policy(None)
    found.fold(after)
    found.use_policy(running, "recommender:1")
    last = engagements([{"user": user, "number": 500 + user, "minute": 40_000} for user in range(4)])
    found.fold(last)
    kept = last.take(np.flatnonzero(told_of(found, last) <= RECENT))
    if len(kept):
        assert_alike(found, folded([before, after, last]), kept)


def test_engagements_that_are_only_remembered_reach_the_states_at_the_next_touch() -> None:
    events = many_engagements(40, users=3, items=9, seed=4)
    first, middle, last = cut(events, [15, 30])
    found = folded([first])
    found.remember(middle)
    found.fold(last)
    assert_alike(found, folded([events]), last)


def test_a_dropped_partition_leaves_nothing_in_the_states_of_its_slots() -> None:
    found = folded([many_engagements(60, users=6, items=9, seed=1)])
    found.drop_partition(0)
    assert found.resident_users == 0
    newcomers = engagements([{"user": 50 + place % 4, "item": place % 9, "partition": 3} for place in range(12)])
    found.fold(newcomers)
    assert_alike(found, folded([newcomers]), newcomers)


def test_dropping_a_partition_and_folding_its_log_again_changes_no_state() -> None:
    draw = np.random.default_rng(3)
    events = engagements(
        [
            {"user": int(draw.integers(4)), "item": int(draw.integers(12)), "partition": int(draw.integers(2))}
            for _ in range(80)
        ]
    )
    found = folded([events])
    found.drop_partition(0)
    found.fold(of_partition(events, 0))
    assert_alike(found, folded([events]), events)


@pytest.mark.parametrize("config", [PolicyConfig(content=7), PolicyConfig(buckets=100), PolicyConfig(text_buckets=9)])
def test_a_policy_that_was_made_for_other_items_is_refused(config: PolicyConfig) -> None:
    with pytest.raises(BadModel, match="which have 98, 16384 and 16384"):
        recommender(TrainedPolicy(PolicyNetwork(config)))


# Item vectors.


def vectors(running: RunningPolicy, count: int) -> np.ndarray:
    return running._vectors[:count].numpy()


def test_vectors_follow_a_catalogue_that_grows_and_changes() -> None:
    catalogue = Catalogue(1)
    found = recommender(catalogue=catalogue)
    running = found._running
    assert running is not None
    for change in (items(3), items(40), [Item("item-5", title="other words")], [Item("item-7", available=False)]):
        catalogue.put(change)
        found.fold(engagements([{"number": 77}]))
        fresh = recommender(catalogue=catalogue)._running
        assert fresh is not None
        np.testing.assert_allclose(vectors(running, len(catalogue)), vectors(fresh, len(catalogue)), rtol=0, atol=1e-6)
        assert np.array_equal(running._available.numpy(), catalogue.available)
    catalogue.delete(["item-0"])
    found.fold(engagements([]))
    assert np.array_equal(running._available.numpy(), catalogue.available)


def test_only_items_whose_content_changed_are_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    red, blue = bytes([255, 0, 0]) * (SIDE * SIDE), bytes([0, 0, 255]) * (SIDE * SIDE)
    shown = [replace(item, thumbnail=red, title="a title") for item in items(6)]
    catalogue = Catalogue(1)
    catalogue.put(shown)
    found, encoded = recommender(catalogue=catalogue), list[int]()
    network = found._running.policy.network
    vectors_of = network.item_vectors

    def noted(table: ItemTable) -> torch.Tensor:
        encoded.append(len(table))
        return vectors_of(table)

    monkeypatch.setattr(network, "item_vectors", noted)
    for change, expected in (
        ([replace(shown[0], available=False)], []),
        (shown, []),
        ([replace(shown[1], thumbnail=blue)], [1]),
        ([replace(shown[1], thumbnail=bytes(blue))], []),
        ([replace(shown[2], title="another", thumbnail=red), shown[3]], [1]),
        ([replace(shown[4], thumbnail=None)], [1]),
    ):
        catalogue.put(change)
        found.fold(engagements([{"number": 77}]))
        assert encoded == expected
        encoded.clear()
    assert found._running._available.tolist() == catalogue.available.tolist() == [True] * 6


def test_a_catalogue_that_changes_while_a_policy_is_prepared_is_seen_whole_later() -> None:
    """As from another thread: half of a change is there when the policy looks."""
    catalogue = shop(3)

    class Halfway(Catalogue):
        @property
        def key(self) -> np.ndarray:
            raise AssertionError("a policy has no use for keys")

    halfway = Halfway(1)
    halfway.__dict__.update(catalogue.__dict__)
    seen = halfway.changed_since

    def changed_since(version: int) -> np.ndarray:
        rows = seen(version)
        halfway.put(items(8)[3:])  # after the version and the length were read
        return np.union1d(rows, seen(version))

    halfway.changed_since = changed_since
    found = Recommender(halfway, SlateRules())
    running = found.prepare(POLICY)
    halfway.changed_since = seen
    with torch.inference_mode():
        running.follow_catalogue()
    fresh = recommender(catalogue=shop(8))._running
    assert fresh is not None
    np.testing.assert_allclose(vectors(running, 8), vectors(fresh, 8), rtol=0, atol=1e-6)
    assert len(running._available) == 8


def test_the_best_items_and_what_is_thought_of_them_agree() -> None:
    found = recommender(catalogue=shop(60))
    running = found._running
    assert running is not None
    with torch.inference_mode():
        query = running.query(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), np.arange(3))
        best, every = running.best(query, 70), running.likings(query, np.tile(np.arange(60), (3, 1)))
    assert (best[:, 60:] == -1).all()
    for row in range(3):
        assert sorted(best[row, :60].tolist()) == list(range(60))
        ranked = every[row, best[row, :60]]
        assert (np.diff(ranked) <= 1e-5).all()


def test_items_are_liked_by_nobody_while_no_item_is_known() -> None:
    running = recommender(catalogue=shop(0))._running
    assert running is not None
    with torch.inference_mode():
        query = running.query(torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), np.arange(2))
        assert running.likings(query, np.full((2, 3), -1)).tolist() == [[0.0] * 3] * 2
