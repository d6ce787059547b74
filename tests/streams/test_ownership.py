"""Which chunks a worker accepts after claims, revocations and repeats."""

from dataclasses import dataclass

from storage.progress import Claim
from streams.ownership import Ownership


@dataclass(frozen=True)
class At:
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None


def records(first: int, last: int) -> list[At]:
    return [At(offset) for offset in range(first, last + 1)]


def claimed(next_offset: int = 10, kafka_generation: int = 1) -> Ownership:
    ownership = Ownership()
    claim = Claim("t", 1, 0, epoch=1, next_offset=next_offset)
    assert ownership.take([claim], {"t": "uuid"}, kafka_generation) == {("t", 0): next_offset}
    return ownership


def test_records_below_sql_s_offset_are_cut_off() -> None:
    ownership = claimed(10)
    chunk = ownership.accept("t", 0, records(5, 12), 1)
    assert chunk is not None
    assert [record.offset for record in chunk.records] == [10, 11, 12]


def test_a_repeated_chunk_is_refused_and_a_gap_is_accepted() -> None:
    ownership = claimed(10)
    assert ownership.accept("t", 0, records(10, 12), 1) is not None
    assert ownership.accept("t", 0, records(10, 12), 1) is None
    assert ownership.accept("t", 0, records(20, 22), 1) is not None


def test_chunks_of_another_generation_or_partition_are_refused() -> None:
    ownership = claimed(10, kafka_generation=2)
    assert ownership.accept("t", 0, records(10, 12), 1) is None
    assert ownership.accept("t", 1, records(10, 12), 2) is None


def test_after_a_revocation_nothing_is_accepted_and_nothing_counts_as_owned() -> None:
    ownership = claimed(10)
    ownership.revoke_all()
    assert ownership.accept("t", 0, records(10, 12), 1) is None
    assert ownership.owned("t") is None
    assert ownership.committed() == {}
