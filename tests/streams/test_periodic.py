"""A watch beside the stream goes on, whatever went wrong with one of its turns, and says what did."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from structlog.testing import capture_logs

from storage.database import DatabaseUnavailable
from streams.health import FlowMetrics
from streams.periodic import Periodic
from tests.deployment import wait_until


class Watch:
    """Raises what is next in `troubles`, if anything; turns: how many it had."""

    def __init__(self, *troubles: Exception | None) -> None:
        self.troubles = list(troubles)
        self.turns = 0
        self.metrics = FlowMetrics()

    def look(self) -> None:
        self.turns += 1
        if self.troubles and (trouble := self.troubles.pop(0)) is not None:
            raise trouble

    def failures(self) -> float | None:
        return self.metrics.registry.get_sample_value("headgate_watch_failures_total", {"watch": "some-watch"})

    @contextmanager
    def running(self, seconds: float = 3600, wake: threading.Event | None = None) -> Iterator[Periodic]:
        thread = Periodic("some-watch", seconds, self.look, self.metrics, wake=wake)
        thread.start()
        try:
            yield thread
        finally:
            thread.stop()

    def turn(self, wake: threading.Event, until: Callable[[], bool]) -> None:
        """One more of them, and what it leads to."""
        turns = self.turns
        wake.set()
        wait_until("a turn", lambda: self.turns == turns + 1 and until(), 10)


def test_a_bug_costs_one_turn_is_counted_and_told_until_a_turn_succeeds() -> None:
    watch, wake = Watch(None, KeyError("odd"), None), threading.Event()
    with watch.running(wake=wake) as thread:
        watch.turn(wake, lambda: thread.warnings == [] and watch.failures() is None)
        watch.turn(wake, lambda: watch.failures() == 1)
        assert thread.warnings == ["some-watch fails, and nothing new comes from it: KeyError('odd')"]
        assert watch.failures() == 1
        watch.turn(wake, lambda: thread.warnings == [])
        assert watch.failures() == 1
    assert watch.turns == 3


def test_the_log_has_a_bug_whole_once_and_in_a_line_while_it_stays() -> None:
    watch, wake = Watch(KeyError("odd"), KeyError("odd"), KeyError("other"), None, KeyError("other")), threading.Event()
    with capture_logs() as logs, watch.running(wake=wake) as thread:
        for failures in (1, 2, 3, 3, 4):
            watch.turn(wake, lambda failures=failures: watch.failures() == failures)  # type: ignore[misc]
        assert thread.warnings == ["some-watch fails, and nothing new comes from it: KeyError('other')"]
    assert [bool(line.get("exc_info")) for line in logs] == [True, False, True, True]


def test_a_database_that_is_away_is_no_bug() -> None:
    watch, wake = Watch(DatabaseUnavailable("away"), None), threading.Event()
    with watch.running(wake=wake) as thread:
        watch.turn(wake, lambda: True)
        watch.turn(wake, lambda: True)
        assert (thread.warnings, watch.failures()) == ([], None)


def test_it_has_a_turn_every_so_many_seconds_and_none_once_it_is_stopped() -> None:
    watch = Watch()
    with watch.running(seconds=0.01) as thread:
        wait_until("some turns", lambda: watch.turns > 3, 10)
    turns = watch.turns
    thread.stop()
    assert watch.turns == turns


def test_a_watch_that_was_never_started_can_be_stopped() -> None:
    Periodic("some-watch", 3600, Watch().look, FlowMetrics()).stop()
