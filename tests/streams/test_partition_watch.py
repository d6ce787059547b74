"""When a partition of ours is claimed anew: at once after a command, after a while where its owner is somebody else."""

from dataclasses import replace

from storage.accepted_losses import ACCEPT_LOSS
from storage.partition_counts import RESCALE
from storage.progress import ProgressRow
from streams.partition_watch import Assigned, Superseded, superseded

ROW = ProgressRow(
    topic="t",
    topic_uuid="u",
    topic_generation=1,
    partition=0,
    epoch=3,
    owner="us",
    backend_pid=None,
    start_offset=0,
    next_offset=5,
    applied=5,
    duplicates=0,
    dead_letters=0,
    gaps=0,
)
OURS = Assigned("t", "u", 0, 3)


def found(
    row: ProgressRow | None,
    ours: Assigned = OURS,
    *,
    before: Superseded | None = None,
    now: float = 100.0,
    partitions: int = 1,
) -> Superseded | None:
    rows = {} if row is None else {(row.topic, row.topic_uuid, row.partition): row}
    known = {} if before is None else {ours.place: before}
    return superseded([ours], rows, {("t", "u"): partitions}, known, now, patience=15.0).get(ours.place)


def test_what_is_ours_in_sql_too_is_left_alone() -> None:
    assert found(ROW) is None
    assert found(replace(ROW, epoch=2)) is None
    assert found(None) is None
    assert found(replace(ROW, topic_uuid="another topic of that name", epoch=9)) is None


def test_what_a_command_moved_is_due_at_once() -> None:
    for command in (ACCEPT_LOSS, RESCALE):
        assert found(replace(ROW, epoch=4, owner=command)) == Superseded(4, 85.0)


def test_what_another_worker_claimed_is_due_once_that_is_so_for_long() -> None:
    theirs = replace(ROW, epoch=4, owner="them")
    first = found(theirs, now=100.0)
    assert first == Superseded(4, 100.0)
    assert found(theirs, before=first, now=112.0) == first
    assert found(replace(theirs, epoch=5), before=first, now=112.0) == Superseded(5, 112.0)


def test_what_could_not_be_claimed_is_due_once_the_topic_s_number_of_partitions_says_so() -> None:
    added = Assigned("t", "u", 2, 0)
    assert found(None, added, partitions=2) is None
    assert found(None, added, partitions=4) == Superseded(0, 85.0)
    assert found(replace(ROW, partition=2, epoch=7, owner="them"), added, partitions=4) == Superseded(7, 85.0)
