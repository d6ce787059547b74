"""Runs arithmetic: whatever is computed for a batch at once equals a plain loop over its rows."""

from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runs import Runs, decayed_before, find_runs, running_maximum, window, write_ring

SLOTS = 6
slot_lists = st.lists(st.integers(0, SLOTS - 1), max_size=70)
seeds = st.integers(0, 1_000)


def sorted_rows(slots: list[int]) -> list[tuple[int, int]]:
    """(slot, batch row), by slot and then by arrival."""
    return sorted((slot, row) for row, slot in enumerate(slots))


@given(slot_lists)
def test_rows_are_sorted_by_slot_and_keep_their_arrival(slots: list[int]) -> None:
    runs = find_runs(np.array(slots, np.int64))

    assert list(zip(runs.slot.tolist(), runs.order.tolist(), strict=True)) == sorted_rows(slots)
    seen: dict[int, int] = defaultdict(int)
    for place, (slot, _) in enumerate(sorted_rows(slots)):
        assert runs.rank[place] == seen[slot]
        seen[slot] += 1
    assert runs.longest == max(seen.values(), default=0)
    assert runs.first.tolist() == [place for place, rank in enumerate(runs.rank) if rank == 0]
    assert (runs.last - runs.first + 1).tolist() == [seen[slot] for slot in sorted(seen)]


@given(slot_lists, seeds)
def test_the_running_maximum_is_that_of_a_loop(slots: list[int], seed: int) -> None:
    runs = find_runs(np.array(slots, np.int64))
    values = np.random.default_rng(seed).integers(-50, 50, len(slots))

    expected: list[int] = []
    for place, rank in enumerate(runs.rank.tolist()):
        expected.append(int(values[place]) if rank == 0 else max(expected[-1], int(values[place])))
    assert running_maximum(values, runs.rank, runs.longest).tolist() == expected


@given(slot_lists, seeds)
def test_decayed_sums_are_those_of_a_loop(slots: list[int], seed: int) -> None:
    runs, draw = find_runs(np.array(slots, np.int64)), np.random.default_rng(seed)
    count = len(slots)
    decay = np.exp(-draw.exponential(1.0, (count, 2)) * draw.choice([0.1, 1, 1_000], (count, 1)))
    start, added = draw.uniform(0, 1e6, (count, 2)), draw.uniform(0, 1e6, (count, 2))

    result = decayed_before(decay, start, added, runs)

    for column in range(2):
        total = 0.0
        for place, rank in enumerate(runs.rank.tolist()):
            before = float(start[place, column]) if rank == 0 else total + float(added[place - 1, column])
            total = float(decay[place, column]) * before
            assert result[place, column] == pytest.approx(total, rel=1e-9, abs=1e-300)


def test_a_span_of_years_between_two_events_leaves_later_sums_exact() -> None:
    runs = find_runs(np.zeros(4, np.int64))
    decay = np.array([[1.0], [0.0], [0.5], [0.5]])
    result = decayed_before(decay, np.zeros((4, 1)), np.full((4, 1), 8.0), runs)
    assert result[:, 0].tolist() == [0.0, 0.0, 4.0, 6.0]


def rings_and_entries(slots: list[int], seed: int, size: int) -> tuple[Runs, dict[int, list[int]], Any, Any, Any]:
    """Runs, what was appended to each slot before the batch, the rings that hold it, new entries, entries before."""
    draw = np.random.default_rng(seed)
    runs = find_runs(np.array(slots, np.int64))
    past = {slot: draw.integers(0, 10**6, draw.integers(0, 3 * size)).tolist() for slot in range(SLOTS)}
    ring = np.full((SLOTS, size), -1, np.int64)
    for slot, entries in past.items():
        for number, entry in enumerate(entries):
            ring[slot, number % size] = entry
    before = np.array([len(past[slot]) for slot in runs.slot.tolist()], np.int64)
    return runs, past, ring, draw.integers(0, 10**6, len(slots)), before


def ring_of(entries: list[int], size: int) -> list[int]:
    held = [-1] * size
    for number, entry in enumerate(entries):
        held[number % size] = entry
    return held


# Slots that hardly repeat and slots that often do go different ways.
ring_slots = st.one_of(slot_lists, st.permutations(range(SLOTS)), st.just([1, 2, 3, 4, 5, 0, 0]))


@given(ring_slots, seeds, st.integers(1, 9))
def test_a_window_is_what_the_ring_would_hold_if_the_rows_came_one_by_one(
    slots: list[int], seed: int, size: int
) -> None:
    runs, past, ring, new, before = rings_and_entries(slots, seed, size)

    held = window(ring, new, before, runs)

    for place, slot in enumerate(runs.slot.tolist()):
        assert held[place].tolist() == ring_of(past[slot], size)
        past[slot].append(int(new[place]))


@given(ring_slots, seeds, st.integers(1, 9))
def test_a_written_ring_is_that_of_appending_one_by_one(slots: list[int], seed: int, size: int) -> None:
    runs, past, ring, new, before = rings_and_entries(slots, seed, size)

    write_ring(ring, new, before, runs)

    for place, slot in enumerate(runs.slot.tolist()):
        past[slot].append(int(new[place]))
    assert ring.tolist() == [ring_of(past[slot], size) for slot in range(SLOTS)]


def test_a_window_of_rows_keeps_their_other_axes() -> None:
    ring = np.zeros((2, 3, 4))
    runs = find_runs(np.array([1, 1, 1, 1, 1]))
    rows: npt.NDArray[np.float64] = np.arange(20.0).reshape(5, 4)
    write_ring(ring, rows, np.zeros(5, np.int64), runs)
    assert ring[1].tolist() == [rows[3].tolist(), rows[4].tolist(), rows[2].tolist()]
    assert not ring[0].any()


def test_the_decayed_sums_of_a_hot_key_stay_exact_over_thousands_of_rows() -> None:
    count = 10_000
    halves = np.full((count, 1), 0.5)
    result = decayed_before(halves, np.zeros((count, 1)), np.ones((count, 1)), find_runs(np.zeros(count, np.int64)))
    assert result[:4, 0].tolist() == [0.0, 0.5, 0.75, 0.875]
    assert result[60:, 0].tolist() == [1.0] * (count - 60)
