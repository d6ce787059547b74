"""Entities that leave memory and come back, and snapshots of what changed: results are those of nobody ever leaving."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engagements import Engagements
from models.events import Events
from models.guard_rails import SlateRules
from models.recommending import Answer, Recommender
from models.residents import Changes, Kept, Packed, added_up
from models.scoring import Scorer
from models.slots import Slots
from tests.models.engagement_logs import engagement_logs, many_engagements, seeds, shop, untrained_policy
from tests.models.logs import busy_log, cut, log_of, logs, of_partition, untrained

MODEL, POLICY = untrained(), untrained_policy()
RULES = SlateRules(holdout=0.2)
cuts = st.lists(st.integers(0, 60), min_size=1, max_size=8)
evictions = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), max_size=9)


def scorer() -> Scorer:
    return Scorer(MODEL, initial_capacity=1)


def recommender(policy: bool = True) -> Recommender:
    found = Recommender(shop(9), RULES, capacity=1)
    if policy:
        found.use_policy(found.prepare(POLICY), "recommender:1")
    return found


def state_of(kept: Kept, partition: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, id) -> what is kept of it; taking changes twice leaves nothing to take."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, residents in kept.kinds.items():
        slots = residents._slots.longest_untouched(partition, 10**6)
        packed = residents._pack(slots)
        for place, entity in enumerate(packed.ids):
            row = packed.rows[place]
            found[kind, entity] = {name: np.array(row[name]) for name in row.dtype.names or ()} | {
                "touched": packed.touched[place],
                "hidden": packed.hidden[place],
                "current": packed.current[place],
            }
    return found


def assert_same(found: Kept, expected: Kept, partition: int = 0, tolerance: float = 0.0) -> None:
    """Integers, ids and rings of integers exactly, floats within the tolerance."""
    own, other = state_of(found, partition), state_of(expected, partition)
    assert own.keys() == other.keys()
    for entity, values in own.items():
        for name, value in values.items():
            wanted = other[entity][name]
            if np.asarray(value).dtype.kind == "f" and tolerance:
                np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance, err_msg=f"{entity} {name}")
            else:
                np.testing.assert_array_equal(value, wanted, err_msg=f"{entity} {name}")


@dataclass
class Cold:
    """Stands in for the cold tier: (partition, id) -> the entity alone."""

    kept: Kept
    held: dict[tuple[int, str], Packed] = field(default_factory=dict)

    def evict(self, partition: int, count: int) -> None:
        packed = self.kept.leaving.evict(partition, count)
        for place, entity in enumerate(packed.ids):
            self.held[partition, entity] = packed.take(np.array([place]))

    def fetch(self, partition: int, ids: Sequence[str]) -> None:
        """Before a batch that names these."""
        missing = self.kept.leaving.missing(partition, ids)
        found = [self.held.pop((partition, entity)) for entity in missing if (partition, entity) in self.held]
        if found:
            self.kept.leaving.admit(partition, Packed.concatenate(found), changed=True)

    def fetch_all(self) -> None:
        for partition in {partition for partition, _ in self.held}:
            self.fetch(partition, [entity for number, entity in list(self.held) if number == partition])


def fetch_for(cold: Cold, events: Events | Engagements, ids: Sequence[str]) -> None:
    for partition in set(events.partition.tolist()):
        rows = np.flatnonzero(events.partition == partition)
        cold.fetch(partition, [ids[row] for row in rows])


def batches(events: Any, places: list[int], leaving: list[tuple[int, int]]) -> Iterator[tuple[Any, tuple[int, int]]]:
    for number, batch in enumerate(cut(events, places)):
        yield batch, leaving[number] if number < len(leaving) else (0, 0)


def slates_by_row(answer: Answer) -> dict[int, tuple[Any, Any]]:
    """Batch row -> candidates and their log-weights; the order of slates follows that of slots."""
    made = answer.slates
    if made is None:
        return {}
    return dict(zip(made.rows.tolist(), zip(made.candidates, made.log_weights, strict=True), strict=True))


@settings(max_examples=40)
@given(logs(partitions=2), cuts, evictions)
def test_accounts_that_leave_and_come_back_score_as_if_they_had_stayed(
    events: Events, places: list[int], leaving: list[tuple[int, int]]
) -> None:
    stayed, moved = scorer(), scorer()
    cold = Cold(moved.kept)
    for batch, (partition, count) in batches(events, places, leaving):
        fetch_for(cold, batch, batch.account_id)
        found, expected = moved.score(batch), stayed.score(batch)
        assert found.duplicate.tolist() == expected.duplicate.tolist()
        np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=1e-5)
        cold.evict(partition, count)
        assert moved.outdated_accounts == stayed.outdated_accounts == 0
    cold.fetch_all()
    for partition in (0, 1):
        assert_same(moved.kept, stayed.kept, partition, tolerance=1e-5)


@settings(max_examples=25)
@given(engagement_logs(partitions=2), cuts, evictions, st.booleans())
def test_users_that_leave_and_come_back_are_answered_as_if_they_had_stayed(
    events: Engagements, places: list[int], leaving: list[tuple[int, int]], policy: bool
) -> None:
    stayed, moved = recommender(policy), recommender(policy)
    cold = Cold(moved.kept)
    for batch, (partition, count) in batches(events, places, leaving):
        fetch_for(cold, batch, batch.user_id)
        found, expected = moved.respond(batch, seeds()), stayed.respond(batch, seeds())
        assert found.duplicate.tolist() == expected.duplicate.tolist()
        own, other = slates_by_row(found), slates_by_row(expected)
        assert own.keys() == other.keys()
        for row, (candidates, log_weights) in own.items():
            np.testing.assert_array_equal(candidates, other[row][0])
            np.testing.assert_allclose(log_weights, other[row][1], atol=1e-4)
        cold.evict(partition, count)
    cold.fetch_all()
    for partition in (0, 1):
        assert_same(moved.kept, stayed.kept, partition, tolerance=1e-5)


@settings(max_examples=40)
@given(logs(), cuts, evictions, st.integers(0, 8))
def test_snapshots_and_the_rest_of_the_log_give_the_state_of_the_whole_log(
    events: Events, places: list[int], leaving: list[tuple[int, int]], used: int
) -> None:
    """Whichever of the snapshots is used, with accounts leaving in between."""
    stayed, source = scorer(), scorer()
    cold, layers, rests, parts = Cold(source.kept), list[Changes](), list[int](), cut(events, places)
    stayed.score(events)
    snapshots_of_cold: list[dict[tuple[int, str], Packed]] = []
    for number, batch in enumerate(parts):
        fetch_for(cold, batch, batch.account_id)
        source.score(batch)
        cold.evict(0, leaving[number][1] if number < len(leaving) else 0)
        layers.append(source.kept.take_changes(0))
        snapshots_of_cold.append(dict(cold.held))
        rests.append(number + 1)
    used = min(used, len(layers) - 1)
    restored = scorer()
    for changes in added_up(reversed(layers[: used + 1])):
        restored.kept.admit(0, changes)
    others = Cold(restored.kept, snapshots_of_cold[used])
    for batch in parts[rests[used] :]:
        fetch_for(others, batch, batch.account_id)
        restored.fold(batch)
    others.fetch_all()
    assert_same(restored.kept, stayed.kept, tolerance=1e-5)


@settings(max_examples=25)
@given(engagement_logs(), cuts, st.integers(0, 8))
def test_snapshots_of_users_hold_what_items_earned(events: Engagements, places: list[int], used: int) -> None:
    together, source, layers, parts = recommender(), recommender(), list[Changes](), cut(events, places)
    together.fold(events)
    for batch in parts:
        source.fold(batch)
        layers.append(source.kept.take_changes(0))
    used = min(used, len(layers) - 1)
    restored = recommender()
    for changes in added_up(reversed(layers[: used + 1])):
        restored.kept.admit(0, changes)
    for batch in parts[used + 1 :]:
        restored.fold(batch)
    assert_same(restored.kept, together.kept, tolerance=1e-5)
    earned, expected = (one._popularity.of_all(9) for one in (restored, together))
    np.testing.assert_allclose(earned, expected, rtol=1e-9, atol=1e-12)


def test_packed_and_unpacked_is_the_same_to_the_last_bit() -> None:
    source, copy = scorer(), scorer()
    source.score(busy_log())
    changes = source.kept.take_changes(0)
    copy.score(log_of([{"account": 900 + place, "partition": 1} for place in range(5)]))  # other slots
    copy.kept.admit(0, changes)
    assert_same(copy.kept, source.kept)
    assert len(changes.entities["accounts"]) == 20
    again = copy.kept.take_changes(0)
    assert len(again) == 0


def test_changes_are_taken_once_and_only_those_that_moved() -> None:
    source = scorer()
    source.score(log_of([{"account": place, "number": place} for place in range(6)]))
    assert len(source.kept.take_changes(0).entities["accounts"]) == 6
    source.score(log_of([{"account": 2, "number": 7}, {"account": 3, "number": 3}]))  # the second is a repeat
    changes = source.kept.take_changes(0)
    assert list(changes.entities["accounts"].ids) == ["account-2"]
    assert changes.gone["accounts"] == []
    assert len(source.kept.take_changes(0)) == 0


def test_changes_that_came_to_nothing_are_taken_again() -> None:
    source = scorer()
    first, second = cut(log_of([{"account": place} for place in (0, 1, 2, 3, 4, 5, 1, 2, 3)]), [6])
    source.score(first)
    source.kept.take_changes(0)
    source.score(second)
    assert source.kept.leaving.evict(0, 1).ids == ["account-0"]
    lost = source.kept.take_changes(0)
    assert sorted(source.kept.leaving.evict(0, 3).ids) == ["account-1", "account-4", "account-5"]
    source.kept.change_again(0, lost.ids)
    changes = source.kept.take_changes(0)
    assert sorted(changes.entities["accounts"].ids) == ["account-2", "account-3"]
    assert sorted(changes.gone["accounts"]) == ["account-0", "account-1", "account-4", "account-5"]
    assert list(changes.entities["merchants"].ids) == ["merchant-0"]


def test_who_left_is_remembered_only_for_one_who_takes_changes() -> None:
    source = scorer()
    source.score(log_of([{"account": place} for place in range(6)]))
    source.kept.leaving.evict(0, 2)
    assert source.kept.leaving.gone(0) == 0
    assert source.kept.take_changes(0).gone["accounts"] == []
    source.kept.leaving.evict(0, 1)
    assert source.kept.leaving.gone(0) == 1
    source.kept.change_everything(0)
    source.kept.leaving.evict(0, 1)
    assert source.kept.leaving.gone(0) == 0
    assert len(source.kept.take_changes(0).entities["accounts"]) == 2


def test_who_left_after_a_restore_is_told_to_one_who_knows_the_snapshot() -> None:
    source, restored = scorer(), scorer()
    source.score(log_of([{"account": place} for place in range(6)]))
    restored.kept.admit(0, source.kept.take_changes(0))
    left = restored.kept.leaving.evict(0, 2)
    changes = restored.kept.take_changes(0)
    assert sorted(changes.gone["accounts"]) == sorted(left.ids)
    assert len(changes) == 0


def test_the_longest_untouched_leave_first() -> None:
    source = scorer()
    source.score(log_of([{"account": place % 5} for place in (0, 1, 2, 3, 4, 1, 0)]))
    assert sorted(source.kept.leaving.evict(0, 3).ids) == ["account-2", "account-3", "account-4"]
    assert source.resident_accounts == 2
    assert source.kept.leaving.evict(0, 99).ids
    assert source.resident_accounts == 0
    assert len(source.kept.leaving.evict(7, 5)) == 0


def test_a_state_of_another_network_is_built_anew_as_after_an_activation() -> None:
    """An account that is away while the model is replaced comes back as it would have been found."""
    stayed, moved, other = scorer(), scorer(), untrained(seed=4, hidden=5)
    events = busy_log()
    for one in (stayed, moved):
        one.score(events)
    away = moved.kept.leaving.evict(0, 7)
    for one in (stayed, moved):
        one.replace_model(other)
    moved.kept.leaving.admit(0, away.without_hidden(moved.kept.leaving.units), changed=True)
    assert moved.outdated_accounts == stayed.outdated_accounts == 20
    later = log_of([{"account": place, "number": 900 + place, "minute": 9_000} for place in range(20)])
    np.testing.assert_allclose(moved.score(later).score, stayed.score(later).score, rtol=0, atol=1e-6)
    assert moved.outdated_accounts == stayed.outdated_accounts == 0


def test_accounts_that_are_not_current_are_counted_when_they_leave_and_return() -> None:
    found = scorer()
    found.score(busy_log())
    found.replace_model(untrained(seed=4))
    away = found.kept.leaving.evict(0, 6)
    assert found.outdated_accounts == 14
    assert not away.current.any()
    assert not away.hidden.any()
    found.kept.leaving.admit(0, away, changed=True)
    assert found.outdated_accounts == 20


def test_a_shadow_builds_the_states_of_those_that_return() -> None:
    stayed, moved, shadow = scorer(), scorer(), untrained(seed=9)
    events, later = busy_log(), log_of([{"account": place, "number": 900 + place} for place in range(20)])
    for one in (stayed, moved):
        one.score(events)
        one.start_shadow(shadow)
    away = moved.kept.leaving.evict(0, 20)
    moved.kept.leaving.admit(0, away, changed=True)
    found, expected = moved.score(later).shadow, stayed.score(later).shadow
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=1e-6)


def test_layouts_differ_where_rows_mean_something_else() -> None:
    plain = scorer().kept.layout
    assert Scorer(untrained(seed=5, hidden=3)).kept.layout == plain
    assert Scorer(untrained(reporting_limit=5.0)).kept.layout != plain
    assert recommender().kept.layout == recommender(policy=False).kept.layout
    other = Recommender(shop(9), SlateRules(popularity_half_life=7))
    assert other.kept.layout != recommender().kept.layout


def test_merchants_are_told_what_labels_say_after_they_return() -> None:
    source, copy, events = scorer(), scorer(), busy_log()
    source.score(events)
    copy.kept.admit(0, source.kept.take_changes(0))
    later = log_of([{"account": 1, "merchant": 3, "number": 990, "minute": 5_000}])
    assert source.score(later).score.tolist() == pytest.approx(copy.score(later).score.tolist(), abs=1e-6)


ids = st.sampled_from("abcde")
steps = st.one_of(
    st.tuples(st.just("touch"), st.lists(ids, max_size=5)),
    st.tuples(st.just("evict"), st.integers(0, 3)),
    st.tuples(st.just("take"), st.just(0)),
)


@given(st.lists(steps, max_size=30))
def test_what_changed_and_what_left_adds_up_to_who_is_there(history: list[tuple[str, Any]]) -> None:
    """A reader that applies all changes taken so far knows exactly the residents and their last offsets."""
    slots, known, offset = Slots(), dict[str, int](), 0
    last: dict[str, int] = {}
    for what, argument in [*history, ("take", 0)]:
        if what == "touch":
            here = dict.fromkeys(argument)
            found, _ = slots.find(np.zeros(len(here), np.int32), list(here))
            offsets = offset + np.arange(len(here))
            slots.moved_on(found, offsets)
            last |= dict(zip(here, offsets.tolist(), strict=True))
            offset += len(here)
        elif what == "evict":
            leaving = slots.longest_untouched(0, argument)
            for entity in slots.ids(leaving):
                del last[entity]
            if len(leaving):
                slots.remove(0, leaving)
        else:
            changed, gone = slots.take_changes(0)
            known |= dict(zip(slots.ids(changed), slots.touched(changed).tolist(), strict=True))
            for entity in gone:
                known.pop(entity, None)
            assert known == last
    assert len(slots) == len(last) == slots.residents().get(0, 0)


def concatenated(parts: Sequence[Packed]) -> npt.NDArray[np.int64]:
    return Packed.concatenate(parts).touched


def test_packed_entities_are_concatenated_in_order() -> None:
    source = scorer()
    source.score(busy_log())
    packed = source.kept.take_changes(0).entities["accounts"]
    parts = [packed.take(np.arange(start, min(start + 7, len(packed)))) for start in range(0, len(packed), 7)]
    together = Packed.concatenate(parts)
    assert together.ids == packed.ids
    assert together.rows.tobytes() == packed.rows.tobytes()
    np.testing.assert_array_equal(concatenated(parts), packed.touched)
    np.testing.assert_array_equal(together.hidden, packed.hidden)


def test_a_dropped_partition_leaves_no_changes_behind() -> None:
    source = recommender()
    source.respond(many_engagements(30, users=5, items=9), seeds())
    source.kept.leaving.evict(0, 2)
    source.drop_partition(0)
    changes = source.kept.take_changes(0)
    assert len(changes) == 0
    assert changes.gone["users"] == []
    assert not len(changes.whole["item"])
    assert source.kept.leaving.by_partition() == {}


def test_partitions_leave_one_another_alone() -> None:
    events = log_of([{"account": place % 3, "partition": place % 2, "number": place} for place in range(12)])
    source, alone = scorer(), scorer()
    source.score(events)
    alone.score(of_partition(events, 1))
    source.kept.leaving.evict(0, 3)
    assert_same(source.kept, alone.kept, 1, tolerance=1e-6)
    assert source.kept.leaving.by_partition()[0] == 0


@pytest.mark.parametrize("swap", ["replace_model", "start_shadow"])
def test_after_a_swap_others_find_room_that_was_there_before(swap: str) -> None:
    """Restores and replays come outside of scoring, and so outside of its inference mode."""
    before, after = log_of([{"account": 0}, {"account": 1}]), log_of([{"account": 2, "number": 2}])
    gone = Scorer(MODEL, initial_capacity=64)
    gone.score(before)
    snapshot = gone.kept.take_changes(0)
    scorer = Scorer(MODEL, initial_capacity=64)
    getattr(scorer, swap)(untrained(seed=4))
    scorer.kept.admit(0, snapshot)
    scorer.remember(after)
    assert scorer.resident_accounts == 3
    assert len(scorer.kept.leaving.evict(0, 3)) == 3
