"""What is remembered of users: the same however the log is cut, and beside whomever they stand in a batch."""

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import item_key
from models.engagements import DISLIKE, IMPRESSION, PURCHASE, Engagements
from models.hashing import hashes
from models.state import EVENT_IDS
from models.users import BOUGHT, DISLIKED, RECENT, SHOWN, NotedBatch, Users
from tests.models.engagement_logs import BEGIN, MINUTE, engagement_logs, engagements, many_engagements
from tests.models.logs import cut, of_partition, one_at_a_time

cuts = st.lists(st.integers(0, 60), max_size=5)
LONG = many_engagements(700, users=3, items=20, seed=1)


def keys(events: Engagements) -> np.ndarray:
    return hashes(events.item_id).view(np.int64)


def noted(users: Users, batches: list[Engagements]) -> list[NotedBatch]:
    return [users.note(batch, keys(batch)) for batch in batches]


def held(users: Users, events: Engagements) -> dict[tuple[int, str], dict[str, Any]]:
    """All arrays of each user of a log."""
    owners = sorted(set(zip(events.partition.tolist(), events.user_id, strict=True)))
    slots = [users.slots.slot(*owner) for owner in owners]
    return {
        owner: {name: array[slot].tobytes() for name, array in users.arena.arrays.items()}
        for owner, slot in zip(owners, slots, strict=True)
    }


def rows_told(batches: list[NotedBatch]) -> list[list[Any]]:
    """What is said of each accepted engagement, in log order."""
    told = []
    for batch in batches:
        order = np.argsort(batch.rows)
        columns = (batch.key, batch.action, batch.value, batch.gap, batch.told)
        told += [[str(column[place]) for column in columns] for place in order]
    return told


def assert_alike(one: Users, other: Users, events: Engagements) -> None:
    assert held(one, events) == held(other, events)


@given(engagement_logs(partitions=2), cuts)
def test_users_do_not_depend_on_how_the_log_is_cut(events: Engagements, places: list[int]) -> None:
    together, cut_up, single = Users(), Users(1), Users(1)
    found = noted(together, [events])
    parts, ones = noted(cut_up, cut(events, places)), noted(single, one_at_a_time(events))
    for other, batches in ((cut_up, parts), (single, ones)):
        assert_alike(together, other, events)
        assert rows_told(found) == rows_told(batches)
        assert found[0].duplicate.tolist() == [one for batch in batches for one in batch.duplicate.tolist()]


def test_users_with_more_engagements_in_a_batch_than_a_ring_holds_are_as_one_at_a_time() -> None:
    together, cut_up, single = Users(), Users(), Users(1)
    noted(together, [LONG])
    noted(cut_up, cut(LONG, [100, 101, 350]))
    noted(single, one_at_a_time(LONG))
    assert_alike(together, single, LONG)
    assert_alike(cut_up, single, LONG)


@given(engagement_logs(partitions=3))
def test_users_of_one_partition_do_not_see_those_of_another(events: Engagements) -> None:
    together = Users()
    (batch,) = noted(together, [events])
    for partition in set(events.partition.tolist()):
        own, alone = of_partition(events, partition), Users()
        (found,) = noted(alone, [own])
        assert held(alone, own).items() <= held(together, events).items()
        assert batch.duplicate[events.partition == partition].tolist() == found.duplicate.tolist()


@given(engagement_logs(most=120))
def test_what_is_remembered_is_the_newest_of_each_kind(events: Engagements) -> None:
    """The definition, engagement by engagement."""
    users = Users()
    noted(users, [events])
    recent, shown, bought, disliked, ids = (defaultdict(list) for _ in range(5))
    newest: dict[str, int] = {}
    for place, user in enumerate(events.user_id):
        event, key, action = events.event_id[place], item_key(events.item_id[place]), int(events.action[place])
        if event in ids[user][-EVENT_IDS:]:
            continue
        ids[user].append(event)
        first = user not in newest
        time = max(int(events.occurred_at[place]), newest.get(user, 0))
        gap = np.nan if first else (time - newest[user]) / 1000
        newest[user] = time
        recent[user].append((key, action, str(np.float32(events.value[place])), str(np.float32(gap))))
        if action == IMPRESSION:
            shown[user].append((key, time))
        if action == PURCHASE:
            bought[user].append(key)
        if action == DISLIKE:
            disliked[user].append(key)
    state = users.arena.arrays
    for user in newest:
        slot = users.slots.slot(0, user)
        found = users.recent(np.array([slot]))
        columns = zip(found.key.tolist(), found.action.tolist(), found.value, found.gap, strict=True)
        assert [(key, action, str(value), str(gap)) for key, action, value, gap in columns] == recent[user][-RECENT:]
        pairs = set(zip(state["shown"][slot].tolist(), state["shown_at"][slot].tolist(), strict=True))
        assert {pair for pair in pairs if pair[0]} == set(shown[user][-SHOWN:])
        assert sorted(state["bought"][slot][state["bought"][slot] != 0]) == sorted(bought[user][-BOUGHT:])
        assert sorted(state["disliked"][slot][state["disliked"][slot] != 0]) == sorted(disliked[user][-DISLIKED:])
        assert state["events"][slot] == len(recent[user])
        assert state["told"][slot] == sum(entry[1] != IMPRESSION for entry in recent[user])
        assert state["last_time"][slot] == newest[user]


def test_recent_engagements_of_several_users_come_by_slot_and_age() -> None:
    users = Users(1)
    noted(users, [LONG, engagements([{"user": 9, "number": 9_000}])])
    slots = users.with_history
    together = users.recent(slots[::-1])
    for first, last in zip(together.runs.first, together.runs.last, strict=True):
        alone = users.recent(together.runs.slot[first : first + 1])
        assert together.key[first : last + 1].tolist() == alone.key.tolist()
        assert 1 <= len(alone.key) <= RECENT
    assert together.runs.slot[together.runs.first].tolist() == slots.tolist()


def test_the_first_engagement_has_no_gap_and_time_never_runs_backwards() -> None:
    users = Users()
    batch = users.note(events := engagements([{"minute": 10}, {"minute": 4}, {"minute": 11}]), keys(events))
    assert np.isnan(batch.gap[0])
    assert batch.gap[1:].tolist() == [0.0, 60.0]
    assert users.arena.arrays["last_time"][0] == BEGIN + 11 * MINUTE


def test_a_repeat_of_a_purchase_moves_nothing() -> None:
    users, once = Users(), Users()
    purchase = engagements([{"number": 1, "action": "purchase", "minute": 3}])
    noted(once, [purchase])
    batches = noted(users, [purchase, purchase, engagements([{"number": 1, "minute": 99}])])
    assert [batch.duplicate.tolist() for batch in batches] == [[False], [True], [True]]
    assert_alike(users, once, purchase)


def test_a_dropped_partition_is_forgotten_and_its_slots_are_empty_for_the_next() -> None:
    users, fresh = Users(1), Users(1)
    noted(users, [LONG])
    freed = users.drop_partition(0)
    assert len(freed) == 3
    assert len(users.slots) == len(users.with_history) == 0
    assert len(users.drop_partition(0)) == len(users.drop_partition(7)) == 0
    newcomers = many_engagements(50, users=5, items=4, seed=3)
    noted(users, [newcomers])
    noted(fresh, [newcomers])
    assert_alike(users, fresh, newcomers)


def test_batches_of_nothing_are_noted() -> None:
    users = Users()
    batch = users.note(empty := engagements([]), keys(empty))
    assert len(batch.rows) == len(batch.duplicate) == batch.runs.longest == 0
    assert len(users.recent(np.zeros(0, np.int64)).key) == 0
