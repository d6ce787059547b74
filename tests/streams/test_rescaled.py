"""Rows of several partitions in the order of their time, however they come in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from storage.partition_counts import Count
from storage.progress import Claim, Control
from streams.rescaled import Beginning, Stored, Timed, beginning, merged, since_rescale


@dataclass(frozen=True)
class Rows:
    partition: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, rows: npt.NDArray[Any]) -> "Rows":
        return Rows(self.partition[rows], self.offset[rows])

    @staticmethod
    def concatenate(parts: Sequence["Rows"]) -> "Rows":
        return Rows(np.concatenate([part.partition for part in parts]), np.concatenate([part.offset for part in parts]))


def rows_of(partition: int, first: int, count: int) -> Rows:
    return Rows(np.full(count, partition, np.int32), np.arange(first, first + count))


def batches(partition: int, times: list[int], size: int) -> Iterator[Timed[Rows]]:
    for start in range(0, len(times), size):
        part = np.array(times[start : start + size], np.int64)
        yield part, rows_of(partition, start, len(part))


logs = st.lists(st.tuples(st.lists(st.integers(0, 6), max_size=25).map(sorted), st.integers(1, 4)), max_size=4)


@given(logs)
def test_whatever_the_batches_all_rows_come_once_in_the_order_of_time_partition_and_offset(
    logs: list[tuple[list[int], int]],
) -> None:
    found = list(
        merged({number: batches(number, times, size) for number, (times, size) in enumerate(logs)}, Rows.concatenate)
    )
    places = [place for rows in found for place in zip(rows.partition.tolist(), rows.offset.tolist(), strict=True)]
    wanted = sorted(
        ((number, offset) for number, (times, _) in enumerate(logs) for offset in range(len(times))),
        key=lambda place: (logs[place[0]][0][place[1]], *place),
    )
    assert places == wanted
    assert all(len(rows) for rows in found)


def test_memory_holds_two_batches_of_each_partition_not_the_log() -> None:
    read = [0, 0]

    def counted(partition: int) -> Iterator[Timed[Rows]]:
        for times, rows in batches(partition, list(range(1_000)), 10):
            read[partition] += len(rows)
            yield times, rows

    given_out = 0
    for rows in merged({0: counted(0), 1: counted(1)}, Rows.concatenate):
        given_out += len(rows)
        assert sum(read) - given_out <= 40
    assert given_out == 2_000


def stored(partition: int, before_offset: int) -> Iterator[Stored[Rows]]:
    """Keys by turns; times that run back now and then."""
    rows = rows_of(partition, 0, before_offset)
    times = np.array([10 * offset - 15 * (offset % 3 == 2) for offset in range(before_offset)], np.int64)
    for start in range(0, before_offset, 2):
        place = np.arange(start, min(start + 2, before_offset))
        yield times[place], [f"key-{offset % 4}" for offset in place.tolist()], rows.take(place)


def test_a_partition_begins_with_its_own_rows_and_those_of_others_whose_key_is_its_own_now() -> None:
    begin = Beginning(1, 4, "murmur2", {0: 8, 1: 5, 2: 0})
    mine = {key for key in range(4) if len(begin.kept(0, [f"key-{key}"]))}
    assert 0 < len(mine) < 4, "else the test shows nothing"
    assert begin.has_others(stored)
    found = list(begin.rows(stored, Rows.concatenate))
    rows = Rows.concatenate([rows for _, rows in found])
    places = list(zip(rows.partition.tolist(), rows.offset.tolist(), strict=True))
    assert [offset for partition, offset in places if partition == 1] == list(range(5))
    assert [offset for partition, offset in places if partition == 0] == [o for o in range(8) if o % 4 in mine]
    numbers = np.concatenate([numbers for numbers, _ in found])
    assert numbers.tolist() == list(range(-13, -13 + len(places)))
    assert numbers[-1] < 0


def test_a_partition_to_which_nothing_moved_has_no_others() -> None:
    assert not Beginning(1, 4, "murmur2", {0: 0, 1: 5}).has_others(stored)
    begin = Beginning(0, 4, "murmur2", {0: 8, 1: 1})
    assert begin.has_others(stored) == bool(len(begin.kept(1, ["key-0"])))


def test_with_any_partitioner_every_row_is_kept() -> None:
    rows = list(Beginning(3, 4, "any", {0: 8, 1: 5}).rows(stored, Rows.concatenate))
    assert sum(len(part) for _, part in rows) == 13


CLAIM = Claim("t", 1, 2, 4, 50)


def test_only_a_rescale_of_what_had_been_read_gives_a_state_another_beginning() -> None:
    assert beginning(CLAIM, None) is None
    assert beginning(CLAIM, Count(1, 4, None, {})) is None
    assert beginning(CLAIM, Count(2, 4, "murmur2", {0: 0, 1: 0})) is None
    begin = beginning(CLAIM, Count(2, 4, "murmur2", {0: 7, 1: 0}))
    assert begin == Beginning(2, 4, "murmur2", {0: 7, 1: 0})
    assert begin.boundary == 0


def test_a_control_from_before_the_rescale_holds_from_the_rescale_on() -> None:
    begin = Beginning(0, 4, "murmur2", {0: 7})
    assert since_rescale(Control(3, "fraud:1"), begin) == Control(7, "fraud:1")
    assert since_rescale(Control(9, "fraud:1"), begin) == Control(9, "fraud:1")
    assert since_rescale(Control(3, "fraud:1"), None) == Control(3, "fraud:1")
    assert since_rescale(None, begin) is None
