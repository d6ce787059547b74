"""A relay's place in an outbox belongs to a claim; claims come and go while the relay lives."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from storage.database import Database, open_database
from storage.progress import Claim
from streams.batch import OwnedPartition
from streams.health import FlowMetrics
from streams.relay import Relay
from streams.sinks import DEAD_LETTERS
from tests.storage.rows import NOON, RowMaker

SECONDS = 10.0


class Published:
    """A sink that remembers (partition, offset)."""

    name = "memory"

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    def publish(self, outbox: str, rows: Sequence[Any]) -> None:
        with self._changed:
            self.places += [(row.source_partition, row.source_offset) for row in rows]
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.places) >= count, SECONDS), self.places


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = open_database(sqlite_url)
    yield database
    database.engine.dispose()


def owner_of(partition: int, epoch: int) -> OwnedPartition:
    """A new object each time, in memory that an older one has left."""
    return OwnedPartition(Claim("transactions", 1, partition, epoch, 0), "uuid", 1, 0, 0)


def test_a_new_claim_never_takes_over_the_place_of_one_that_is_gone(database: Database) -> None:
    sink, rows = Published(), RowMaker(database)
    relay = Relay(sink, [DEAD_LETTERS], database, FlowMetrics(), clock=lambda: NOON)
    relay.start()
    expected = []
    for epoch in range(1, 13):
        partition = epoch % 3
        offset = 1_000 - 100 * partition + epoch
        rows.dead_letter(source_partition=partition, source_offset=offset)
        expected.append((partition, offset))
        relay.wake(owner_of(partition, epoch))
        sink.wait_for(epoch)
    relay.stop(SECONDS)
    assert sink.places == expected
    with database.reading() as connection:
        cursors = connection.exec_driver_sql("SELECT partition, epoch, position FROM relay_cursors").all()
    assert sorted(map(tuple, cursors)) == [(0, 12, 1_013), (1, 10, 911), (2, 11, 812)]


def test_two_claims_of_one_partition_that_wait_together_are_published_for_once_and_by_the_later_one(
    database: Database,
) -> None:
    """As after an outage of the database, in which a rebalance came and went."""
    sink, rows = Published(), RowMaker(database)
    rows.dead_letter(source_partition=0, source_offset=7)
    relay = Relay(sink, [DEAD_LETTERS], database, FlowMetrics(), clock=lambda: NOON)
    for epoch in (1, 2):
        relay.wake(owner_of(0, epoch))
    relay.start()
    sink.wait_for(1)
    relay.settle(SECONDS)
    assert relay.alive
    relay.stop(SECONDS)
    assert sink.places == [(0, 7)]
    with database.reading() as connection:
        cursors = connection.exec_driver_sql("SELECT partition, epoch, position FROM relay_cursors").all()
    assert list(map(tuple, cursors)) == [(0, 2, 8)]
