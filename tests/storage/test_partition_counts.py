"""How many partitions a topic had since when, and what bringing a new number into force ends."""

import pytest
from sqlalchemy import text

from storage.database import Database
from storage.partition_counts import RESCALE, Count, CountChanged, count_of, latest_count, rescale, settle_count
from storage.progress import Advance, Claim, advance, all_progress
from tests.storage.rows import NOON
from tests.storage.test_progress import claim

TOPIC = {"topic": "transactions", "topic_uuid": "uuid-1"}


def settled(database: Database, partitions: int, keyed: bool = True) -> tuple[Count, int]:
    return settle_count(database, **TOPIC, partitions=partitions, keyed=keyed, by="w1", now=NOON)


def rescaled(database: Database, seen: Count, partitions: int) -> Count:
    return rescale(database, **TOPIC, seen=seen, partitions=partitions, partitioner="murmur2", by="anna@host", now=NOON)


def test_the_first_number_seen_comes_into_force_and_stays_where_state_is_kept_by_key(database: Database) -> None:
    first = Count(1, 2, None, {})
    assert settled(database, 2) == (first, 2)
    assert settled(database, 4) == (first, 2)
    with database.reading() as connection:
        assert latest_count(connection, "transactions", "uuid-2") is None


def test_where_nothing_is_kept_by_key_a_larger_number_is_taken_over(database: Database) -> None:
    assert settled(database, 2, keyed=False)[0].partitions == 2
    assert settled(database, 4, keyed=False) == (Count(2, 4, None, {}), 2)
    assert settled(database, 3, keyed=False) == (Count(2, 4, None, {}), 2)


def test_a_rescale_notes_how_far_each_partition_is_and_ends_every_claim(database: Database) -> None:
    seen, _ = settled(database, 2)
    claims = claim(database, {0: 0, 1: 0})
    with database.begin() as connection:
        assert advance(connection, [Advance(1, 1, 1, 0, 7, applied=7)], NOON)
    count = rescaled(database, seen, 4)
    assert count == Count(2, 4, "murmur2", {0: 0, 1: 7})
    with database.begin() as connection:
        assert advance(connection, [Advance(1, 0, claims[0].epoch, 0, 5, applied=5)], NOON) == 0
        assert {(row.epoch, row.owner) for row in all_progress(connection)} == {(2, RESCALE)}
        assert count_of(connection, claims[0]) == count
        assert count_of(connection, Claim("transactions", 9, 0, 1, 0)) is None


def test_a_rescale_forgets_snapshots_and_cold_states_of_the_topic_alone(database: Database) -> None:
    seen, _ = settled(database, 2)
    claim(database, {0: 0})
    claim(database, {0: 0}, topic="engagements", topic_uuid="uuid-2")
    with database.begin() as connection:
        for generation in (1, 2):
            connection.execute(
                text("INSERT INTO snapshots VALUES (:generation, 0, 5, 1, 'path', 'hash', 10, :now)"),
                {"generation": generation, "now": NOON.isoformat()},
            )
            connection.execute(
                text(
                    "INSERT INTO cold_states (topic_generation, source_partition, entity_id, as_of, state, layout) "
                    "VALUES (:generation, 0, 'a1', 5, :state, 'layout')"
                ),
                {"generation": generation, "state": b"x"},
            )
    rescaled(database, seen, 4)
    with database.reading() as connection:
        for table in ("snapshots", "cold_states"):
            assert connection.execute(text(f"SELECT topic_generation FROM {table}")).scalars().all() == [2]


def test_two_rescales_at_once_are_refused(database: Database) -> None:
    seen, _ = settled(database, 2)
    claim(database, {0: 0})
    rescaled(database, seen, 4)
    with pytest.raises(CountChanged):
        rescaled(database, seen, 4)
    with database.reading() as connection:
        assert [row.epoch for row in all_progress(connection)] == [2]
