"""Committed rows leave in order, at least once, and only while the epoch is ours."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import insert

from storage.database import Database
from storage.progress import Claim, claim_cursor
from storage.tables import Alert
from streams.batch import OwnedPartition
from streams.health import FlowMetrics
from streams.relay import ROWS_AT_ONCE, Outbox, Relay, SinkUnavailable
from streams.sinks import ALERTS, DEAD_LETTERS
from tests.storage.rows import NOON, RowMaker

SECONDS = 10.0


class Publications:
    """A sink that remembers each publication, and refuses the first `refusals` of them."""

    name = "memory"

    def __init__(self, refusals: int = 0, refused: str | None = None) -> None:
        self.attempts: list[list[int]] = []
        self.confirmed: list[int] = []
        self.before: Callable[[], None] = lambda: None
        self._refusals, self._refused = refusals, refused
        self._changed = threading.Condition()

    def publish(self, outbox: str, rows: Sequence[Any]) -> None:
        self.before()
        with self._changed:
            self.attempts.append([row.sequence if outbox == "alerts" else row.source_offset for row in rows])
            self._changed.notify_all()
            if len(self.attempts) <= self._refusals:
                raise SinkUnavailable("not now", self._refused)
            self.confirmed += self.attempts[-1]

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS), self.attempts

    def wait_for(self, count: int) -> None:
        self.wait(lambda: len(self.confirmed) >= count)


def owned(epoch: int = 1, partition: int = 0) -> OwnedPartition:
    return OwnedPartition(Claim("transactions", 1, partition, epoch, 0), "uuid", 1, 0, 0)


StartRelay = Callable[..., Relay]


@pytest.fixture
def start(database: Database) -> Iterator[StartRelay]:
    """start(sink, outboxes=..., metrics=...): a running relay that ends with the test."""
    with ExitStack() as cleanup:

        def relay(
            sink: Any, *outboxes: Outbox, metrics: FlowMetrics | None = None, first_backoff: float = 0.001
        ) -> Relay:
            made = Relay(
                sink,
                outboxes or (ALERTS, DEAD_LETTERS),
                database,
                metrics or FlowMetrics(),
                clock=lambda: NOON,
                first_backoff=first_backoff,
                longest_backoff=first_backoff,
            )
            made.start()
            cleanup.callback(made.stop, SECONDS)
            return made

        yield relay


def cursor(database: Database, outbox: str = "alerts") -> int | None:
    statement = f"SELECT position FROM relay_cursors WHERE sink = 'memory' AND outbox = '{outbox}'"
    with database.reading() as connection:
        return connection.exec_driver_sql(statement).scalar()


def alerts(rows: RowMaker, *sequences: int) -> None:
    for sequence in sequences:
        rows.alert(f"A{sequence}", ["e"], sequence=sequence)


def test_rows_are_published_in_their_order_and_the_cursor_follows(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 2, 0, 1)
    sink = Publications()
    relay = start(sink)
    relay.wake(owned())
    sink.wait_for(3)
    relay.stop(SECONDS)
    assert sink.confirmed == [0, 1, 2]
    assert cursor(database) == 3


def test_the_cursor_moves_only_after_the_sink_confirmed(database: Database, rows: RowMaker, start: StartRelay) -> None:
    alerts(rows, 0, 1)
    sink = Publications()
    seen: list[int | None] = []
    sink.before = lambda: seen.append(cursor(database))
    relay = start(sink)
    relay.wake(owned())
    sink.wait_for(2)
    relay.stop(SECONDS)
    assert (seen, cursor(database)) == ([0], 2)


def test_after_a_refusal_the_same_rows_are_published_again(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 0, 1)
    sink, metrics = Publications(refusals=2), FlowMetrics()
    relay = start(sink, metrics=metrics)
    relay.wake(owned())
    sink.wait_for(2)
    relay.stop(SECONDS)
    assert sink.attempts == [[0, 1]] * 3
    assert cursor(database) == 2
    assert metrics.registry.get_sample_value("headgate_relay_failures_total", {"sink": "memory"}) == 2
    published = {"sink": "memory", "outbox": "alerts"}
    assert metrics.registry.get_sample_value("headgate_relayed_total", published) == 2


def test_a_sink_that_does_not_accept_us_is_counted_by_its_reason(rows: RowMaker, start: StartRelay) -> None:
    alerts(rows, 0)
    sink, metrics = Publications(refusals=2, refused="authorization"), FlowMetrics()
    relay = start(sink, metrics=metrics)
    relay.wake(owned())
    sink.wait_for(1)
    relay.stop(SECONDS)
    labels = {"store": "memory", "reason": "authorization"}
    assert metrics.registry.get_sample_value("headgate_store_refusals_total", labels) == 2


def test_a_refused_outbox_does_not_hold_up_another(rows: RowMaker, start: StartRelay) -> None:
    class NoAlerts(Publications):
        def publish(self, outbox: str, rows: Sequence[Any]) -> None:
            if outbox == "alerts":
                raise SinkUnavailable("no alerts today")
            super().publish(outbox, rows)

    alerts(rows, 0)
    rows.dead_letter(source_offset=7)
    sink = NoAlerts()
    relay = start(sink)
    relay.wake(owned(), ["alerts"])
    relay.wake(owned(), ["dead_letters"])
    sink.wait_for(1)
    assert sink.confirmed == [7]
    relay.stop(0.01)


def test_more_rows_than_one_publication_holds_are_all_caught_up(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    count = 2 * ROWS_AT_ONCE + 3
    first = rows.alert("A0", ["e"], sequence=0)
    with database.begin() as connection:
        more = [first | {"alert_id": f"A{sequence}", "sequence": sequence} for sequence in range(1, count)]
        connection.execute(insert(Alert), more)
    sink = Publications()
    relay = start(sink)
    relay.wake(owned())  # once
    sink.wait_for(count)
    relay.stop(SECONDS)
    assert sink.confirmed == list(range(count))
    assert [len(attempt) for attempt in sink.attempts] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 3]
    assert cursor(database) == count


def test_a_restarted_relay_goes_on_after_what_was_confirmed(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 0, 1)
    first, second = Publications(), Publications()
    relay = start(first)
    relay.wake(owned(epoch=1))
    first.wait_for(2)
    relay.stop(SECONDS)
    alerts(rows, 2)
    relay = start(second)
    relay.wake(owned(epoch=2))
    second.wait_for(1)
    relay.stop(SECONDS)
    assert second.confirmed == [2]


def test_nothing_is_published_for_an_epoch_that_was_passed(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 0)
    with database.begin() as connection:
        claim_cursor(connection, "alerts", "memory", owned(epoch=5).claim, NOON)
    sink = Publications()
    relay = start(sink)
    relay.wake(owned(epoch=4))
    rows.dead_letter(source_offset=3)
    relay.wake(owned(epoch=4), ["dead_letters"])
    sink.wait_for(1)
    relay.stop(SECONDS)
    assert sink.confirmed == [3]
    assert cursor(database) == 0


def test_an_epoch_that_is_lost_in_mid_publication_moves_no_cursor_and_publishes_nothing_more(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 0)
    sink, ours = Publications(), owned(epoch=1)

    def take_over() -> None:
        with database.begin() as connection:
            claim_cursor(connection, "alerts", "memory", owned(epoch=2).claim, NOON)

    sink.before = take_over
    relay = start(sink, ALERTS)
    relay.wake(ours)
    sink.wait_for(1)
    sink.before = lambda: None
    relay.stop(SECONDS)
    assert cursor(database) == 0
    alerts(rows, 1)
    again = start(sink, ALERTS)
    again.wake(ours)
    again.stop(SECONDS)
    assert sink.confirmed == [0]


def test_a_relay_that_lost_its_epoch_stays_silent_when_it_is_woken_again(
    database: Database, rows: RowMaker, start: StartRelay
) -> None:
    alerts(rows, 0)
    sink, ours = Publications(), owned(epoch=1)
    relay = start(sink)
    relay.wake(ours, ["alerts"])
    relay.settle(SECONDS)
    with database.begin() as connection:
        claim_cursor(connection, "alerts", "memory", owned(epoch=2).claim, NOON)
    alerts(rows, 1)
    relay.wake(ours, ["alerts"])
    relay.settle(SECONDS)  # not known before the cursor refuses to move
    alerts(rows, 2)
    relay.wake(ours, ["alerts"])
    relay.stop(SECONDS)
    assert sink.attempts == [[0], [1]]
    assert cursor(database) == 1


def test_a_lost_partition_is_not_published_for(rows: RowMaker, start: StartRelay) -> None:
    alerts(rows, 0)
    sink, lost = Publications(), owned()
    lost.lost = True
    relay = start(sink)
    relay.wake(lost)
    relay.stop(SECONDS)
    assert sink.attempts == []


def test_it_looks_at_the_database_only_when_woken(database: Database, rows: RowMaker, start: StartRelay) -> None:
    looks: list[int] = []

    def read(*place: Any) -> Sequence[Any]:
        looks.append(place[3])
        return ALERTS.read(*place)

    alerts(rows, 0)
    sink = Publications()
    relay = start(sink, Outbox("alerts", read, ALERTS.position))
    alerts(rows, 1)  # no wake
    assert looks == []
    relay.wake(owned(), ["dead_letters"])  # not an outbox of this relay
    relay.wake(owned(), ["alerts"])
    sink.wait_for(2)
    relay.stop(SECONDS)
    assert looks == [0]


def test_stopping_publishes_first_what_is_committed(rows: RowMaker, start: StartRelay) -> None:
    alerts(rows, *range(20))
    sink = Publications(refusals=3)
    relay = start(sink)
    relay.wake(owned())
    relay.stop(SECONDS)
    assert sink.confirmed == list(range(20))
    assert not relay.alive


def test_stopping_does_not_wait_for_ever_for_a_sink_that_is_away(rows: RowMaker, start: StartRelay) -> None:
    alerts(rows, 0)
    sink = Publications(refusals=1_000_000)
    relay = start(sink, first_backoff=3_600.0)
    relay.wake(owned())
    sink.wait(lambda: len(sink.attempts) == 1)
    relay.stop(0.05)
    relay.stop(SECONDS)
    assert not relay.alive


def test_a_row_that_no_message_fits_ends_the_relay_visibly_and_its_stop_at_once(
    rows: RowMaker, start: StartRelay
) -> None:
    class Broken(Publications):
        def publish(self, outbox: str, rows: Sequence[Any]) -> None:
            raise TypeError("this row does not fit the contract")

    alerts(rows, 0)
    metrics = FlowMetrics()
    relay = start(Broken(), metrics=metrics)
    relay.wake(owned())
    relay.stop(600.0)  # the test's own time limit is shorter
    assert not relay.alive
    assert metrics.registry.get_sample_value("headgate_relay_failures_total", {"sink": "memory"}) == 1
