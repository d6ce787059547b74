"""Which state of an entity is found from where in the log, and which states nobody can ask for any more."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from storage.cold_states import has_cold_states, read_cold_states, remove_superseded, write_cold_states
from storage.database import Database
from storage.tables import ColdState

Version = tuple[str, int]
LAYOUT = "accounts:1"


def state_of(entity_id: str, as_of: int) -> bytes:
    return f"{entity_id} as of {as_of}".encode() + b"\x00\xff"


def write(database: Database, versions: Sequence[Version], generation: int = 1, partition: int = 0) -> None:
    ids = [entity_id for entity_id, _ in versions]
    offsets = np.array([as_of for _, as_of in versions], np.int64)
    states = [state_of(*version) for version in versions]
    with database.begin() as connection:
        write_cold_states(connection, generation, partition, ids, offsets, states, LAYOUT)


def read(database: Database, ids: Sequence[str], position: int, partition: int = 0) -> dict[str, int]:
    """Which state of each is found; that it is that state is asserted."""
    with database.reading() as connection:
        rows = read_cold_states(connection, 1, partition, ids, position, LAYOUT)
    assert len(rows) == len({row[0] for row in rows})
    assert all(row == (row[0], row[1], state_of(row[0], row[1])) for row in rows)
    return {row[0]: row[1] for row in rows}


def count(database: Database) -> int:
    with database.reading() as connection:
        return connection.execute(select(func.count()).select_from(ColdState)).scalar() or 0


def remove_all_superseded(database: Database, position: int, entities: int) -> int:
    removed, after = 0, ""
    while True:
        with database.begin() as connection:
            more, last = remove_superseded(connection, 1, 0, position, after=after, entities=entities)
        removed += more
        if last is None:
            return removed
        assert last > after
        after = last


def test_the_newest_state_of_the_moment_is_found(database: Database) -> None:
    write(database, [("a", 10), ("a", 20), ("b", 15), ("c", 30)])
    assert read(database, ["a", "b", "c", "never seen"], 19) == {"a": 10, "b": 15}
    assert read(database, ["a", "b"], 20) == {"a": 20, "b": 15}
    assert read(database, ["a", "c"], 9) == {}
    assert read(database, [], 100) == {}


def test_partitions_and_topics_do_not_see_each_others_states(database: Database) -> None:
    write(database, [("a", 10)], partition=1)
    write(database, [("a", 10)], generation=2)
    assert read(database, ["a"], 100) == {}
    with database.reading() as connection:
        found = [has_cold_states(connection, *key) for key in ((1, 0), (1, 1), (2, 0), (3, 0))]
    assert found == [False, True, True, False]


def test_a_state_that_is_there_already_stays(database: Database) -> None:
    write(database, [("a", 10)])
    with database.begin() as connection:
        write_cold_states(connection, 1, 0, ["a", "b"], np.array([10, 11]), [b"other", state_of("b", 11)], LAYOUT)
    assert read(database, ["a", "b"], 100) == {"a": 10, "b": 11}


def test_versions_that_pack_in_another_way_do_not_see_each_others_states(database: Database) -> None:
    write(database, [("a", 10), ("a", 20), ("b", 5)])
    with database.begin() as connection:
        write_cold_states(connection, 1, 0, ["a", "b"], np.array([10, 15]), [b"1", b"2"], "accounts:2")
    with database.reading() as connection:
        other = read_cold_states(connection, 1, 0, ["a", "b"], 30, "accounts:2")
    assert sorted(other) == [("a", 10, b"1"), ("b", 15, b"2")]
    assert read(database, ["a", "b"], 30) == {"a": 20, "b": 5}
    assert remove_all_superseded(database, 30, 100) == 1
    assert read(database, ["a", "b"], 30) == {"a": 20, "b": 5}


def test_nothing_to_write_is_no_error(database: Database) -> None:
    write(database, [])
    assert count(database) == 0


def test_what_is_not_one_each_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="2 ids, 1 offsets and 2 states"), database.begin() as connection:
        write_cold_states(connection, 1, 0, ["a", "b"], np.array([1]), [b"", b""], LAYOUT)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    versions=st.lists(st.tuples(st.sampled_from(["a", "b", "ä", "'\"\\", "😀"]), st.integers(1, 30)), unique=True),
    oldest=st.integers(0, 32),
    entities=st.integers(1, 6),
)
def test_what_is_removed_is_missed_from_no_later_place(
    database: Database, versions: list[Version], oldest: int, entities: int
) -> None:
    with database.begin() as connection:
        connection.execute(text("DELETE FROM cold_states"))
    write(database, versions)
    ids = ["a", "b", "ä", "'\"\\", "😀"]
    before = {position: read(database, ids, position) for position in range(oldest, 33)}
    assert before[32] == dict(sorted(versions, key=lambda version: version[1]))  # the newest of each comes last
    removed = remove_all_superseded(database, oldest, entities)
    assert {position: read(database, ids, position) for position in range(oldest, 33)} == before
    needed = {version for version in versions if version[1] > oldest} | set(before[oldest].items())
    assert count(database) == len(needed) == len(versions) - removed
