"""Clients that never finish a request, or never read an answer, are let go; those that are only slow are not."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ops.dashboard import connections
from ops.dashboard.connections import BoundedConnection, Patience
from tests.deployment import wait_until
from tests.ops.dashboard.conftest import SECONDS, Console, StartConsole

#: Short, so that the tests are; that what is in time goes on is tested with much more of it.
IMPATIENT, PATIENT = Patience(request=0.5, answer=0.5), Patience(request=60.0, answer=60.0)
HEAD = b"POST /api/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
#: What a client may send and then stop.
UNFINISHED = {
    "nothing": b"",
    "half a line": b"GET /api/ses",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n{",
    "half a second request": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he",
}


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as cleanup:
        yield cleanup


def connected(console: Console, clients: ExitStack) -> socket.socket:
    address = console.client.base_url
    return clients.enter_context(socket.create_connection((address.host, address.port or 0), SECONDS))


def limited(console: Console, limit: str) -> float:
    found = console.context.metrics.registry.get_sample_value("headgate_dashboard_limited_total", {"limit": limit})
    return found or 0.0


def is_closed(client: socket.socket) -> bool:
    """Reads what is there; whether that was the end."""
    client.settimeout(SECONDS)
    try:
        while client.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_a_request_that_never_ends_is_given_up(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack, sent: bytes
) -> None:
    console = start_console(sqlite_url, patience=IMPATIENT)
    client = connected(console, clients)
    client.sendall(sent)
    assert is_closed(client)
    assert limited(console, "slow_request") == 1


def drip(console: Console, clients: ExitStack, seconds: float) -> bool:
    """The attack: a byte now and then, so that something always comes. Whether the connection outlives `seconds`."""
    client = connected(console, clients)
    client.sendall(HEAD + b"Content-Length: 60000\r\n\r\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client.sendall(b" ")
        except OSError:
            return False
        if select.select([client], [], [], 0.05)[0]:
            return bool(client.recv(1))
    return True


def test_a_request_that_comes_byte_by_byte_is_given_up_all_the_same(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack
) -> None:
    assert not drip(start_console(sqlite_url, patience=IMPATIENT), clients, SECONDS)


def test_without_the_bound_a_request_comes_byte_by_byte_for_as_long_as_it_likes(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "_watch_request", lambda _self: None)
    assert drip(start_console(sqlite_url, patience=IMPATIENT), clients, 5 * IMPATIENT.request)


def test_a_request_in_time_is_answered_and_the_connection_goes_on(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack
) -> None:
    console = start_console(sqlite_url, patience=PATIENT)
    client = connected(console, clients)
    for _ in range(3):
        for part in (b"GET /health/live HT", b"TP/1.1\r\nHost: local", b"host\r\n\r\n"):
            client.sendall(part)
        assert b"live" in client.recv(65_536)
    assert limited(console, "slow_request") == 0


def listen_without_reading(console: Console, clients: ExitStack) -> None:
    """The attack: an event stream is opened, and nothing of it read."""
    client = connected(console, clients)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_until("it listens", lambda: len(console.context.live._listeners) == 1, SECONDS)


def much_happens(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.dashboard.live.STATUS_SECONDS", 0.001)
    monkeypatch.setattr(type(console.context.live), "_status_now", lambda _self, _now: b"x" * 200_000)


def test_a_listener_that_does_not_read_is_let_go(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = start_console(sqlite_url, patience=IMPATIENT)
    much_happens(console, monkeypatch)
    listen_without_reading(console, clients)
    wait_until("he is let go", lambda: not console.context.live._listeners, SECONDS)
    assert limited(console, "slow_reader") == 1


def test_without_the_bound_a_listener_that_does_not_read_stays(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = start_console(sqlite_url, patience=PATIENT)
    much_happens(console, monkeypatch)
    listen_without_reading(console, clients)
    held = console.server.server_state.connections
    wait_until("it waits for him", lambda: any(each.flow.write_paused for each in held), SECONDS)
    assert len(console.context.live._listeners) == 1


def test_a_listener_that_reads_stays_however_little_patience_there_is(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = start_console(sqlite_url, patience=IMPATIENT)
    monkeypatch.setattr("ops.dashboard.live.STATUS_SECONDS", 0.1)
    with console.client.stream("GET", "/api/live") as answer:
        lines = answer.iter_lines()
        seen = 0
        while seen < 15:  # 1.5 s, thrice the patience
            seen += next(lines).startswith("event: status")
    assert limited(console, "slow_request") == limited(console, "slow_reader") == 0


def test_more_connections_than_there_may_be_are_closed_at_once(
    start_console: StartConsole, sqlite_url: str, clients: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    console = start_console(sqlite_url, patience=PATIENT)
    kept = [connected(console, clients) for _ in range(5)]
    wait_until("they are there", lambda: len(console.server.server_state.connections) == 5, SECONDS)
    assert is_closed(connected(console, clients))
    kept[0].sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in kept[0].recv(65_536)
    assert limited(console, "connections") == 1
