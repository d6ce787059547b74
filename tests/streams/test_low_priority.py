"""A thread that gives way to others does so alone."""

import os
import sys
import threading

import pytest
from structlog.testing import capture_logs

from streams.low_priority import NICENESS, work_at_low_priority

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="priorities are a whole process's elsewhere")


def niceness_of_a_thread_that_gives_way(before: int = 0) -> int:
    """The niceness of a thread of its own at its end. before: as much more than ours it begins with."""
    found: list[int] = []

    def run() -> None:
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + before)
        work_at_low_priority()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@on_linux
def test_the_thread_gives_way_and_the_rest_of_the_process_does_not() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert niceness_of_a_thread_that_gives_way() == max(own, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


@on_linux
def test_one_that_gives_way_more_already_stays_as_it_is() -> None:
    """As in a worker that was started with `nice`."""
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert niceness_of_a_thread_that_gives_way(before=NICENESS + 5) == min(19, own + NICENESS + 5)


@on_linux
def test_where_priorities_may_not_be_changed_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    with capture_logs() as logs:
        work_at_low_priority()
    assert [entry["event"] for entry in logs] == ["a thread keeps its priority"]
