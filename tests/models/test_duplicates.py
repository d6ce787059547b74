"""Repeats: an id that its account has among its newest accepted ones, found the same however the log is cut."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from models.duplicates import find_duplicates
from models.runs import find_runs, write_ring
from tests.models.logs import random_hashes

SIZE, SLOTS = 5, 3
rows = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 12)), max_size=60)
cuts = st.lists(st.integers(0, 60), max_size=5)
#: Hashes of the ids 0 to 12. An empty place in a ring is 0, so one of them is 0.
HASHES = np.append(random_hashes(12, seed=1), np.uint64(0))


def by_a_loop(log: list[tuple[int, int]]) -> list[bool]:
    accepted: dict[int, list[int]] = {slot: [] for slot in range(SLOTS)}
    answers = []
    for slot, number in log:
        answers.append(number in accepted[slot][-SIZE:])
        if not answers[-1]:
            accepted[slot].append(number)
    return answers


def in_batches(log: list[tuple[int, int]], places: list[int]) -> list[bool]:
    """As the feature builder does: what is accepted goes into the rings before the next batch."""
    ring, events = np.zeros((SLOTS, SIZE), np.uint64), np.zeros(SLOTS, np.int64)
    answers: list[bool] = []
    ends = [*sorted(min(place, len(log)) for place in places), len(log)]
    for start, stop in zip([0, *ends], ends, strict=False):
        slots = np.array([slot for slot, _ in log[start:stop]], np.int64)
        own = HASHES[np.array([number for _, number in log[start:stop]], np.int64)]
        duplicate = find_duplicates(ring, events, slots, own)
        append(ring, events, slots[~duplicate], own[~duplicate])
        answers += duplicate.tolist()
    return answers


def append(
    ring: npt.NDArray[np.uint64],
    events: npt.NDArray[np.int64],
    slots: npt.NDArray[np.int64],
    own: npt.NDArray[np.uint64],
) -> None:
    runs = find_runs(slots)
    write_ring(ring, own[runs.order], events[runs.slot], runs)
    np.add.at(events, slots, 1)


@given(rows, cuts)
def test_what_is_a_repeat_does_not_depend_on_the_batches(log: list[tuple[int, int]], places: list[int]) -> None:
    assert in_batches(log, places) == by_a_loop(log)


def test_an_id_repeats_within_a_batch_and_across_batches() -> None:
    log = [(0, 1), (0, 1), (0, 2), (0, 1)]
    assert in_batches(log, []) == in_batches(log, [2]) == [False, True, False, True]


def test_the_same_id_of_another_account_is_no_repeat() -> None:
    assert in_batches([(0, 1), (1, 1)], []) == [False, False]


def test_an_id_is_forgotten_after_as_many_others_as_the_ring_holds() -> None:
    log = [(0, number) for number in (*range(SIZE + 1), 0)]
    assert in_batches(log, [3]) == [False] * len(log)


def test_a_repeat_does_not_push_others_out_of_the_ring() -> None:
    log = [(0, 0), *[(0, 1)] * (2 * SIZE), (0, 0)]
    assert in_batches(log, []) == [False, False, *[True] * (2 * SIZE)]


def test_an_id_whose_hash_is_0_is_not_taken_for_an_empty_place() -> None:
    zero = len(HASHES) - 1
    assert in_batches([(0, zero), (0, 1), (0, zero)], [1]) == [False, False, True]
