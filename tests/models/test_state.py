"""Slots, arenas and hidden states: found again, grown without loss, used again only when cleared."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.slots import Slots
from models.state import Arena, HiddenStates, account_arena, merchant_arena

entities = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcde")), max_size=30)
#: Batches of entities, and between them partitions that are dropped.
histories = st.lists(st.one_of(entities, st.integers(0, 2)), max_size=12)


def find(slots: Slots, batch: list[tuple[int, str]]) -> tuple[list[int], list[int]]:
    partitions = np.array([partition for partition, _ in batch], np.int32)
    found, unseen = slots.find(partitions, [name for _, name in batch])
    return found.tolist(), unseen.tolist()


@given(histories)
def test_every_entity_keeps_a_slot_of_its_own_until_its_partition_is_dropped(
    history: list[list[tuple[int, str]] | int],
) -> None:
    slots, resident = Slots(), dict[tuple[int, str], int]()
    for step in history:
        if isinstance(step, int):
            freed = sorted(slot for (partition, _), slot in resident.items() if partition == step)
            assert sorted(slots.drop(step).tolist()) == freed
            resident = {entity: slot for entity, slot in resident.items() if entity[0] != step}
        else:
            found, unseen = find(slots, step)
            assert {step[row] for row in unseen} == set(step) - resident.keys()
            assert len(unseen) == len({step[row] for row in unseen})
            for entity, slot in zip(step, found, strict=True):
                assert resident.setdefault(entity, slot) == slot == slots.slot(*entity)
        assert len(slots) == len(resident) == len(set(resident.values()))
        assert all(slot < slots.highest for slot in resident.values())


def test_slots_of_a_dropped_partition_are_used_again() -> None:
    slots = Slots()
    find(slots, [(0, "a"), (0, "b"), (1, "a")])
    slots.drop(0)
    find(slots, [(2, "x"), (2, "y")])
    assert slots.highest == len(slots) == 3


def test_dropping_a_partition_that_holds_nothing_frees_nothing() -> None:
    assert Slots().drop(7).tolist() == []


def small_arena() -> Arena:
    return Arena({"time": ((), "int64", -1), "ring": ((2,), "float32", np.inf)}, 2)


def test_an_arena_grows_without_losing_what_it_holds() -> None:
    arena = small_arena()
    arena.grow_to(2)
    arena.arrays["time"][1] = 5
    arena.arrays["ring"][1] = (1, 2)
    for slots in (3, 7):
        arena.grow_to(slots)
        assert arena.capacity >= slots
        assert arena.arrays["time"][:slots].tolist() == [-1, 5] + [-1] * (slots - 2)
        assert arena.arrays["ring"][1].tolist() == [1, 2]
        assert np.isinf(arena.arrays["ring"][2:slots]).all()


def test_an_arena_never_shrinks() -> None:
    arena = small_arena()
    arena.grow_to(1)
    assert arena.capacity == 2


def test_growth_doubles_so_that_it_is_rare() -> None:
    arena, sizes = small_arena(), set[int]()
    for slots in range(1, 1_000):
        arena.grow_to(slots)
        sizes.add(arena.capacity)
    assert len(sizes) <= 10


def test_a_cleared_slot_holds_what_a_new_one_does() -> None:
    arena = account_arena(3, features=4, categories=2, sums=5)
    arena.grow_to(3)
    new = {name: array[2].copy() for name, array in arena.arrays.items()}
    for array in arena.arrays.values():
        array[:2] = 3
    arena.clear(np.array([1]))
    for name, array in arena.arrays.items():
        np.testing.assert_array_equal(array[1], new[name])
        assert (array[0] == 3).all()


def test_bytes_per_slot_count_every_array() -> None:
    assert small_arena().bytes_per_slot == 8 + 2 * 4
    assert merchant_arena(5, sums=6, labels=13).bytes_per_slot == 8 + 6 * 8 + 8 + 13 * 4 + 8


def filled(units: int, slots: int) -> HiddenStates:
    """Grown and written as scoring does, in inference mode."""
    states = HiddenStates(units, 2, torch.device("cpu"))
    with torch.inference_mode():
        states.grow_to(slots)
        states.values[:slots] = 1.0
    return states


def zeros(states: HiddenStates) -> npt.NDArray[np.bool_]:
    rows: npt.NDArray[np.bool_] = (states.values == 0).all(1).numpy()
    return rows


def test_hidden_states_that_have_grown_can_be_cleared() -> None:
    states = filled(units=3, slots=5)
    states.clear(np.array([0, 4]))
    assert zeros(states)[:5].tolist() == [True, False, False, False, True]


def test_hidden_states_keep_their_values_when_they_grow() -> None:
    states = filled(units=3, slots=5)
    states.grow_to(50)
    assert not zeros(states)[:5].any()
    assert zeros(states)[5:].all()


def test_clearing_no_hidden_state_changes_none() -> None:
    states = filled(units=3, slots=2)
    states.clear(np.zeros(0, np.int64))
    assert not zeros(states)[:2].any()


def test_room_without_slots_costs_no_memory() -> None:
    before = resident_bytes()
    arena = account_arena(2_000_000, features=44, categories=4, sums=8)
    states = HiddenStates(64, 2_000_000, torch.device("cpu"))
    arena.grow_to(1_000)
    states.grow_to(1_000)
    assert 2_000_000 * arena.bytes_per_slot > 3e9
    assert resident_bytes() - before < 200e6


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
