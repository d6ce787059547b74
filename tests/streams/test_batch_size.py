"""Batches as large as the latency budget allows."""

from hypothesis import given
from hypothesis import strategies as st

from streams.batch_size import LEAST_RECORDS, MOST_RECORDS, BatchSize


def settled(size: BatchSize, seconds_a_record: float, fixed: float = 0.0) -> int:
    """What a batch may have after many that took so long."""
    for _ in range(5_000):
        size.note(size.most, fixed + size.most * seconds_a_record)
    return size.most


def test_batches_settle_where_they_take_as_long_as_they_may() -> None:
    assert abs(settled(BatchSize(0.5), seconds_a_record=1e-4) - 5_000) <= 1
    assert abs(settled(BatchSize(0.25), seconds_a_record=1e-4) - 2_500) <= 1
    assert abs(settled(BatchSize(0.5), seconds_a_record=1e-4, fixed=0.1) - 4_000) <= 10


def test_a_machine_that_is_fast_enough_makes_the_largest_batches_and_a_slow_one_not_the_smallest_possible() -> None:
    assert BatchSize(0.5).most == MOST_RECORDS
    assert settled(BatchSize(0.5), seconds_a_record=1e-6) == MOST_RECORDS
    assert settled(BatchSize(0.5), seconds_a_record=1.0) == LEAST_RECORDS
    assert settled(BatchSize(0.5), seconds_a_record=0.0) == MOST_RECORDS


def test_small_batches_say_nothing_of_large_ones() -> None:
    size = BatchSize(0.5)
    for _ in range(100):
        size.note(LEAST_RECORDS // 2 - 1, 0.4)
    assert size.most == MOST_RECORDS
    size.note(LEAST_RECORDS - 1, 0.4)
    assert size.most < MOST_RECORDS


def test_after_a_long_pause_batches_are_soon_as_large_as_before() -> None:
    size = BatchSize(0.5)
    size.note(MOST_RECORDS, 3_600.0)
    paused, batches = size.most, 0
    while size.most < 0.95 * MOST_RECORDS:
        size.note(size.most, size.most * 1e-5)
        batches += 1
    assert paused >= LEAST_RECORDS
    assert batches <= 20


@given(st.lists(st.tuples(st.integers(0, 20_000), st.floats(-1.0, 1e6)), max_size=50), st.floats(1e-3, 100.0))
def test_the_size_stays_within_its_bounds(batches: list[tuple[int, float]], budget: float) -> None:
    size = BatchSize(budget)
    for records, seconds in batches:
        size.note(records, seconds)
        assert LEAST_RECORDS <= size.most <= MOST_RECORDS
