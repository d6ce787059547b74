"""Which chunks a worker accepts after claims, revocations and repeats."""

from dataclasses import dataclass

from storage.progress import Claim
from streams.batch import Chunk
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


def fetched(ownership: Ownership, first: int, last: int) -> Chunk:
    owner = ownership.owner("t", 0)
    assert owner is not None
    return Chunk(owner, records(first, last))


def offsets(chunk: Chunk | None) -> list[int]:
    return [] if chunk is None else [record.offset for record in chunk.records]


def test_records_below_sql_s_offset_are_cut_off() -> None:
    ownership = claimed(10)
    assert offsets(ownership.accept(fetched(ownership, 5, 12))) == [10, 11, 12]


def test_a_repeated_chunk_is_refused_and_a_gap_is_accepted() -> None:
    ownership = claimed(10)
    assert ownership.accept(fetched(ownership, 10, 12)) is not None
    assert ownership.accept(fetched(ownership, 10, 12)) is None
    assert ownership.accept(fetched(ownership, 20, 22)) is not None


def test_a_chunk_that_was_fetched_under_an_earlier_claim_is_refused() -> None:
    """It may begin beyond the place where the new claim goes on, and would pass over what lies between."""
    ownership = claimed(10)
    early = fetched(ownership, 15, 20)
    ownership.take([Claim("t", 1, 0, epoch=2, next_offset=10)], {"t": "uuid"}, 1)
    assert ownership.accept(early) is None
    assert offsets(ownership.accept(fetched(ownership, 10, 12))) == [10, 11, 12]


def test_a_partition_claimed_anew_alone_leaves_the_others_and_refuses_what_was_fetched_before() -> None:
    ownership = Ownership()
    both = [Claim("t", 1, 0, epoch=1, next_offset=10), Claim("t", 1, 1, epoch=1, next_offset=5)]
    ownership.take(both, {"t": "uuid"}, 7)
    other, early = ownership.owner("t", 1), fetched(ownership, 15, 20)
    assert ownership.take_again([Claim("t", 1, 0, epoch=3, next_offset=12)], {"t": "uuid"}, 7) == {("t", 0): 12}
    assert ownership.accept(early) is None
    assert early.owner.revoked
    assert offsets(ownership.accept(fetched(ownership, 12, 13))) == [12, 13]
    assert ownership.owner("t", 1) is other
    assert ownership.committed() == {("t", 0): 12, ("t", 1): 5}


def test_nothing_is_claimed_anew_alone_once_a_rebalance_has_begun_or_ended() -> None:
    ownership = claimed(10, kafka_generation=1)
    again = [Claim("t", 1, 0, epoch=3, next_offset=12)]
    assert ownership.take_again(again, {"t": "uuid"}, 2) == {}
    ownership.revoke_all()
    assert ownership.take_again(again, {"t": "uuid"}, 1) == {}
    assert ownership.all_owned() is None


def test_after_a_revocation_nothing_is_accepted_and_nothing_counts_as_owned() -> None:
    ownership = claimed(10)
    chunk = fetched(ownership, 10, 12)
    ownership.revoke_all()
    assert ownership.accept(chunk) is None
    assert ownership.owner("t", 0) is None
    assert ownership.owned("t") is None
    assert ownership.committed() == {}
