"""Judging a work whose transaction did not go through: done, again, or lost."""

import pytest

from storage.progress import Advance, ProgressRow
from streams.batch import PartitionWork
from streams.commit import Fate, judge


def work(base: int, following: int, epoch: int = 3) -> PartitionWork:
    return PartitionWork(None, Advance(1, 0, epoch, base, following, following - base, 0, 0, 0), ())  # type: ignore[arg-type]


def row(epoch: int, next_offset: int) -> ProgressRow:
    return ProgressRow(
        topic="t",
        topic_uuid="u",
        topic_generation=1,
        partition=0,
        epoch=epoch,
        owner="w",
        backend_pid=None,
        start_offset=0,
        next_offset=next_offset,
        applied=0,
        duplicates=0,
        dead_letters=0,
        gaps=0,
    )


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (row(3, 20), Fate.DONE),
        (row(3, 10), Fate.AGAIN),
        (row(3, 15), Fate.LOST),
        (row(4, 10), Fate.LOST),
        (row(4, 20), Fate.LOST),
        (None, Fate.LOST),
    ],
)
def test_the_stored_row_decides_the_fate(stored: ProgressRow | None, expected: Fate) -> None:
    assert judge(work(10, 20), stored) is expected


def test_a_work_that_moves_no_offset_is_sent_again_because_its_rows_are_repeatable() -> None:
    assert judge(work(10, 10), row(3, 10)) is Fate.AGAIN
    assert judge(work(10, 10), row(3, 11)) is Fate.LOST
