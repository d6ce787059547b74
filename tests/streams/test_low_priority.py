"""A thread that gives way to others does so alone."""

import os
import sys
import threading

import pytest
from structlog.testing import capture_logs

from streams.low_priority import NICENESS, work_at_low_priority

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="priorities are a whole process's elsewhere")


def niceness_of_a_thread_that_gives_way() -> int:
    """The niceness of a thread of its own at its end."""
    found: list[int] = []

    def run() -> None:
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
def test_where_priorities_may_not_be_changed_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    with capture_logs() as logs:
        work_at_low_priority()
    assert [entry["event"] for entry in logs] == ["a thread keeps its priority"]
