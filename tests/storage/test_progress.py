"""Claims, the law of stream_progress, cursors and controls."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from storage import tables
from storage.database import Database
from storage.progress import (
    Advance,
    Claim,
    Control,
    advance,
    all_progress,
    audit,
    claim_cursor,
    claim_partitions,
    latest_control,
    move_cursor,
    read_progress,
    record_control,
    set_backend_pid,
)
from tests.storage.rows import NOON


def claim(database: Database, start_offsets: dict[int, int], **values: Any) -> dict[int, Claim]:
    defaults: dict[str, Any] = {"topic": "transactions", "topic_uuid": "uuid-1", "owner": "w1", "backend_pid": None}
    return claim_partitions(database, start_offsets=start_offsets, now=NOON, **(defaults | values))


def step(claim: Claim, next_offset: int, **counts: int) -> Advance:
    counts = counts or {"applied": next_offset - claim.next_offset}
    return Advance(claim.topic_generation, claim.partition, claim.epoch, claim.next_offset, next_offset, **counts)


def moved(database: Database, *steps: Advance) -> int:
    with database.begin() as connection:
        return advance(connection, steps, NOON)


def test_the_first_claim_begins_at_the_given_offsets(database: Database) -> None:
    claims = claim(database, {0: 5, 3: 0})
    assert claims == {0: Claim("transactions", 1, 0, 1, 5), 3: Claim("transactions", 1, 3, 1, 0)}


def test_each_claim_raises_the_epoch_and_keeps_the_offset(database: Database) -> None:
    first = claim(database, {0: 5})[0]
    assert moved(database, step(first, 9))
    second = claim(database, {0: 1_000}, owner="w2")[0]
    assert (second.epoch, second.next_offset) == (2, 9)
    with database.reading() as connection:
        row = read_progress(connection, 1, [0])[0]
    assert (row.owner, row.start_offset, row.next_offset, row.applied) == ("w2", 5, 9, 4)


def test_a_claim_that_is_not_wanted_any_more_when_its_turn_comes_takes_nothing(database: Database) -> None:
    class Unwanted(Exception):
        pass

    def check() -> None:
        raise Unwanted

    claim(database, {0: 5})
    with pytest.raises(Unwanted):
        claim(database, {0: 5, 1: 0}, check=check)
    with database.reading() as connection:
        assert [(row.partition, row.epoch) for row in all_progress(connection)] == [(0, 1)]


def test_a_topic_created_anew_gets_a_generation_of_its_own(database: Database) -> None:
    assert claim(database, {0: 0})[0].topic_generation == 1
    assert claim(database, {0: 0}, topic="feedback", topic_uuid="uuid-2")[0].topic_generation == 2
    anew = claim(database, {0: 7}, topic_uuid="uuid-3")[0]
    assert (anew.topic_generation, anew.epoch, anew.next_offset) == (3, 1, 7)
    assert claim(database, {0: 0})[0] == Claim("transactions", 1, 0, 2, 0)


def test_a_partition_added_later_joins_its_topics_generation(database: Database) -> None:
    claim(database, {0: 0})
    claim(database, {0: 0}, topic_uuid="uuid-2")
    claims = claim(database, {0: 0, 1: 4})
    assert (claims[0].epoch, claims[1]) == (2, Claim("transactions", 1, 1, 1, 4))


def test_claiming_nothing_changes_nothing(database: Database) -> None:
    assert claim(database, {}) == {}
    with database.reading() as connection:
        assert all_progress(connection) == []


def test_claims_from_many_threads_get_different_epochs(database: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        claims = list(threads.map(lambda owner: claim(database, {0: 0, 1: 0}, owner=f"w{owner}"), range(12)))
    for partition in (0, 1):
        assert sorted(each[partition].epoch for each in claims) == list(range(1, 13))
    assert {each[0].topic_generation for each in claims} == {1}


def test_a_claim_of_what_was_seen_takes_only_what_is_still_so(database: Database) -> None:
    claim(database, {0: 0, 1: 0})
    claim(database, {1: 0}, owner="w2")
    again = claim(database, {0: 0, 1: 0, 2: 3}, seen={0: 1, 1: 1, 2: 0})
    assert {partition: (each.epoch, each.next_offset) for partition, each in again.items()} == {0: (2, 0), 2: (1, 3)}
    assert claim(database, {2: 3}, seen={2: 0}) == {}
    assert claim(database, {7: 3}, seen={7: 1}) == {}


def test_topics_claimed_from_many_threads_get_different_generations(database: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        claims = list(threads.map(lambda n: claim(database, {0: 0}, topic=f"t{n}", topic_uuid=f"u{n}"), range(8)))
    assert sorted(each[0].topic_generation for each in claims) == list(range(1, 9))


def test_an_advance_moves_the_offset_and_adds_the_counts(database: Database) -> None:
    mine = claim(database, {0: 10})[0]
    assert moved(database, step(mine, 20, applied=4, duplicates=3, dead_letters=2, gaps=1)) == 1
    with database.reading() as connection:
        row = read_progress(connection, 1, [0])[0]
    assert (row.next_offset, row.applied, row.duplicates, row.dead_letters, row.gaps) == (20, 4, 3, 2, 1)
    assert row.adds_up


def test_a_stale_epoch_moves_nothing(database: Database) -> None:
    old = claim(database, {0: 0})[0]
    claim(database, {0: 0}, owner="w2")
    assert moved(database, step(old, 5)) == 0
    with database.reading() as connection:
        assert read_progress(connection, 1, [0])[0].next_offset == 0


def test_a_wrong_base_offset_moves_nothing(database: Database) -> None:
    mine = claim(database, {0: 0})[0]
    assert moved(database, step(mine, 5))
    assert moved(database, step(mine, 5)) == 0
    assert moved(database, step(mine, 9)) == 0


def test_only_the_partitions_that_match_are_moved(database: Database) -> None:
    claims = claim(database, {0: 0, 1: 0, 2: 0})
    claim(database, {1: 0}, owner="w2")
    assert moved(database, *(step(claims[partition], 3) for partition in (2, 1, 0))) == 2
    with database.reading() as connection:
        rows = read_progress(connection, 1, [0, 1, 2])
    assert {partition: row.next_offset for partition, row in rows.items()} == {0: 3, 1: 0, 2: 3}


def test_a_rolled_back_advance_moves_nothing(database: Database) -> None:
    mine = claim(database, {0: 0})[0]
    with database.connect() as connection, connection.begin() as transaction:
        assert advance(connection, [step(mine, 5)], NOON)
        transaction.rollback()
    assert moved(database, step(mine, 7)) == 1


counts = st.integers(0, 50)
actions = st.lists(
    st.tuples(st.sampled_from(["advance", "claim", "stale", "wrong base"]), st.tuples(counts, counts, counts, counts)),
    max_size=15,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 1_000), actions=actions)
def test_whatever_happens_every_offset_passed_has_one_outcome(
    database: Database, start: int, actions: list[tuple[str, tuple[int, int, int, int]]]
) -> None:
    with database.begin() as connection:
        connection.execute(text("DELETE FROM stream_progress"))
    mine = claim(database, {0: start})[0]
    position, epoch = start, 1
    for action, outcomes in actions:
        if action == "claim":
            epoch += 1
            mine = claim(database, {0: 0})[0]
        applied, duplicates, dead_letters, gaps = outcomes
        taken = Advance(
            mine.topic_generation,
            0,
            mine.epoch - (action == "stale"),
            position + (action == "wrong base"),
            position + sum(outcomes),
            applied,
            duplicates,
            dead_letters,
            gaps,
        )
        succeeds = action in ("advance", "claim")
        assert bool(moved(database, taken)) == succeeds
        position += sum(outcomes) if succeeds else 0
    with database.reading() as connection:
        (row,) = all_progress(connection)
        assert (row.epoch, row.start_offset, row.next_offset) == (epoch, start, position)
        assert row.adds_up
        assert audit(connection) == []


def test_the_audit_finds_a_partition_that_does_not_add_up(database: Database) -> None:
    claims = claim(database, {0: 0, 1: 0})
    assert moved(database, step(claims[0], 5), step(claims[1], 6))
    with database.begin() as connection:
        assert audit(connection) == []
        progress = tables.StreamProgress
        connection.execute(update(progress).where(progress.partition == 1).values(applied=progress.applied - 1))
        assert [(row.partition, row.applied, row.next_offset) for row in audit(connection)] == [(1, 5, 6)]


def test_the_backend_is_noted_for_owned_partitions_only(database: Database) -> None:
    old = claim(database, {0: 0, 1: 0}, backend_pid=11)
    newer = claim(database, {1: 0}, owner="w2", backend_pid=22)
    with database.begin() as connection:
        owned = [(each.topic_generation, each.partition, each.epoch) for each in old.values()]
        set_backend_pid(connection, owned, 33)
        rows = read_progress(connection, 1, [0, 1])
    assert (rows[0].backend_pid, rows[1].backend_pid) == (33, 22)
    assert newer[1].epoch == 2


def test_a_cursor_begins_at_zero_moves_and_outlives_a_new_claim(database: Database) -> None:
    first = claim(database, {0: 0})[0]
    with database.begin() as connection:
        assert claim_cursor(connection, "alerts", "kafka", first, NOON) == 0
        assert move_cursor(connection, "alerts", "kafka", first, 7, NOON)
    second = claim(database, {0: 0}, owner="w2")[0]
    with database.begin() as connection:
        assert claim_cursor(connection, "alerts", "redis", second, NOON) == 0
        assert claim_cursor(connection, "alerts", "kafka", second, NOON + timedelta(seconds=1)) == 7


def test_a_replaced_relay_neither_moves_nor_takes_a_cursor(database: Database) -> None:
    old, new = claim(database, {0: 0})[0], claim(database, {0: 0}, owner="w2")[0]
    with database.begin() as connection:
        assert claim_cursor(connection, "alerts", "kafka", old, NOON) == 0
        assert claim_cursor(connection, "alerts", "kafka", new, NOON) == 0
        assert not move_cursor(connection, "alerts", "kafka", old, 9, NOON)
        assert claim_cursor(connection, "alerts", "kafka", old, NOON) is None
        assert connection.execute(select(tables.RelayCursor.position)).scalar() == 0


def test_a_control_recorded_again_is_replaced(database: Database) -> None:
    with database.begin() as connection:
        record_control(connection, 1, 0, "model", 100, "detector:1")
        record_control(connection, 1, 0, "model", 100, "detector:2")
        record_control(connection, 1, 0, "model", 200, "detector:3")
        record_control(connection, 1, 1, "model", 100, "detector:9")
        controls = tables.StreamControl
        found = connection.execute(
            select(controls.from_offset, controls.value)
            .where(controls.partition == 0, controls.name == "model")
            .order_by(controls.from_offset)
        ).all()
        latest = [latest_control(connection, 1, partition, "model") for partition in (0, 1, 2)]
    assert [tuple(row) for row in found] == [(100, "detector:2"), (200, "detector:3")]
    assert latest == [Control(200, "detector:3"), Control(100, "detector:9"), None]
