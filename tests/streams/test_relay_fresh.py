"""Rows that a commit hands over go out without a look at SQL, and what it did not hand over is found there."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.outbox import DeadLetterRow, dead_letters_after
from storage.progress import Claim
from streams.batch import FreshRows, OwnedPartition
from streams.health import FlowMetrics
from streams.relay import MOST_HELD, Outbox, Relay, SinkUnavailable
from tests.storage.rows import NOON, RowMaker

SECONDS = 10.0
NAME = "dead_letters"


class Sink:
    """Remembers offsets, and refuses the publications whose numbers it was given."""

    name = "memory"

    def __init__(self, refused: Sequence[int] = ()) -> None:
        self.offsets: list[int] = []
        self.publications = 0
        self.refused = set(refused)

    def publish(self, outbox: str, rows: Sequence[Any]) -> None:
        self.publications += 1
        if self.publications in self.refused:
            raise SinkUnavailable("not now")
        self.offsets += [row.source_offset for row in rows]


class Looks:
    """An outbox that counts how often SQL is asked."""

    def __init__(self) -> None:
        self.count = 0
        self.outbox = Outbox(NAME, self.read, position=lambda row: row.source_offset)

    def read(self, *place: Any) -> Sequence[DeadLetterRow]:
        self.count += 1
        return dead_letters_after(*place)


def owner() -> OwnedPartition:
    return OwnedPartition(Claim("transactions", 1, 0, 1, 0), "uuid", 1, 0, 0)


def row(offset: int) -> DeadLetterRow:
    return DeadLetterRow("transactions", 0, offset, "invalid_json", "not JSON", b"a1", b"{", 1, "00")


def fresh(begin: int, end: int, *offsets: int) -> dict[str, FreshRows]:
    return {NAME: FreshRows(begin, end, [row(offset) for offset in offsets])}


def relay_to(sink: Sink, looks: Looks, database: Database) -> Relay:
    made = Relay(
        sink,
        [looks.outbox],
        database,
        FlowMetrics(),
        clock=lambda: NOON,
        first_backoff=0.001,
        longest_backoff=0.001,
    )
    made.start()
    return made


def test_what_follows_the_cursor_needs_no_look(database: Database) -> None:
    sink, looks, ours = Sink(), Looks(), owner()
    relay = relay_to(sink, looks, database)
    relay.wake(ours, [NAME], fresh(0, 10, 3, 7))
    relay.wake(ours, [], fresh(10, 20))  # nothing in it, and nothing missed
    relay.wake(ours, [NAME], fresh(20, 30, 20, 29))
    relay.stop(SECONDS)
    assert (sink.offsets, looks.count) == ([3, 7, 20, 29], 0)
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT position FROM relay_cursors").scalar() == 30


def test_what_was_not_handed_over_is_read_from_sql_and_then_no_more(database: Database, rows: RowMaker) -> None:
    sink, looks, ours = Sink(), Looks(), owner()
    for offset in (2, 13):
        rows.dead_letter(source_offset=offset)
    relay = relay_to(sink, looks, database)
    relay.wake(ours, [NAME], fresh(10, 20, 13))
    relay.settle(SECONDS)
    relay.wake(ours, [NAME], fresh(20, 30, 21))
    relay.stop(SECONDS)
    assert (sink.offsets, looks.count) == ([2, 13, 21], 1)


def test_a_refused_publication_comes_again_with_what_was_handed_over_since(database: Database) -> None:
    sink, looks, ours = Sink(refused=[1, 2]), Looks(), owner()
    relay = relay_to(sink, looks, database)
    relay.wake(ours, [NAME], fresh(0, 10, 1))
    relay.wake(ours, [NAME], fresh(10, 20, 11))
    relay.stop(SECONDS)
    assert (sink.offsets, looks.count) == ([1, 11], 0)


def test_a_sink_that_is_away_for_long_fills_no_memory(database: Database, rows: RowMaker) -> None:
    sink, looks, ours = Sink(refused=range(1, 10_000)), Looks(), owner()
    relay = relay_to(sink, looks, database)
    for number in range(3):
        first = number * MOST_HELD
        for offset in (first, first + 1):
            rows.dead_letter(source_offset=offset)
        relay.wake(ours, [NAME], {NAME: FreshRows(first, first + MOST_HELD, [row(first), row(first + 1)] * 1_000)})
    held = sum(len(tail.rows) for tail in relay._tails.values())
    sink.refused = set()
    relay.stop(SECONDS)
    assert held <= MOST_HELD
    assert sorted(set(sink.offsets)) == [0, 1, MOST_HELD, MOST_HELD + 1, 2 * MOST_HELD, 2 * MOST_HELD + 1]


Batches = st.lists(st.tuples(st.lists(st.booleans(), max_size=4), st.booleans()), min_size=1, max_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=Batches, refused=st.sets(st.integers(1, 6)))
def test_each_row_goes_out_once_and_in_order_whoever_hands_it_over(
    database: Database, rows: RowMaker, batches: list[tuple[list[bool], bool]], refused: set[int]
) -> None:
    """batches: which offsets have a row, and whether the commit hands its rows over or only wakes."""
    with database.begin() as connection:
        for table in ("dead_letters", "relay_cursors"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    sink, looks, ours, offset, expected = Sink(sorted(refused)), Looks(), owner(), 0, list[int]()
    relay = relay_to(sink, looks, database)
    for present, handed in batches:
        begin, own = offset, [offset + place for place, there in enumerate(present) if there]
        offset += len(present)
        for one in own:
            rows.dead_letter(source_offset=one)
        expected += own
        relay.wake(ours, [NAME] if own else [], fresh(begin, offset, *own) if handed else None)
    relay.stop(SECONDS)
    assert sink.offsets == expected
