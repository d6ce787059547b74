"""`headgate dlq replay`: what Kafka took is marked, what it did not take stays for the next try."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.jobs.dead_letters import ReplayFailed, list_dead_letters, replay_dead_letters
from storage.database import Database, open_database
from tests.storage.rows import NOON, RowMaker


class Broker:
    """A producer that takes a record or says why not, once it is flushed; it has room for a few."""

    ROOM = 3

    def __init__(self, refuses: Callable[[bytes], bool] = lambda value: False) -> None:
        self.refuses = refuses
        self.taken: list[bytes] = []
        self._waiting: list[tuple[bytes, Callable[[Any, Any], None]]] = []

    def produce(self, topic: str, *, key: bytes, value: bytes, on_delivery: Callable[[Any, Any], None]) -> None:
        if len(self._waiting) == self.ROOM:
            raise BufferError("queue full")
        self._waiting.append((value, on_delivery))

    def poll(self, seconds: float) -> None:
        """No answers yet."""

    def flush(self, seconds: float) -> int:
        for value, on_delivery in self._waiting:
            refused = self.refuses(value)
            if not refused:
                self.taken.append(value)
            on_delivery("too large" if refused else None, None)
        self._waiting = []
        return 0


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = open_database(sqlite_url)
    rows = RowMaker(database)
    for number in range(10):
        rows.dead_letter(payload=b"%d" % number, payload_bytes=1)
    yield database
    database.engine.dispose()


def replay(database: Database, broker: Any) -> int:
    sent, partial = replay_dead_letters(
        database, broker, read_again=lambda _: None, code=None, limit=100, clock=lambda: NOON, who="cli:anna"
    )
    assert partial == []
    return sent


def not_replayed(database: Database) -> set[bytes | None]:
    letters = list_dead_letters(database, limit=100)
    return {letter.payload for letter in letters if letter.replayed_at is None}


def test_more_than_the_producer_has_room_for_is_sent_all_the_same(database: Database) -> None:
    broker = Broker()
    assert replay(database, broker) == 10
    assert broker.taken == [b"%d" % number for number in range(10)], "in the order in which they came"
    assert not_replayed(database) == set()


def test_what_kafka_did_not_take_is_not_marked_and_is_all_that_is_sent_next_time(database: Database) -> None:
    with pytest.raises(ReplayFailed, match=r"2 of 10 .*too large"):
        replay(database, Broker(refuses=lambda value: value in (b"3", b"7")))
    assert not_replayed(database) == {b"3", b"7"}
    later = Broker()
    assert replay(database, later) == 2
    assert sorted(later.taken) == [b"3", b"7"]
