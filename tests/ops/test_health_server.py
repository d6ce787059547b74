"""Metrics, liveness and readiness over HTTP."""

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from ops import health_server
from ops.health_server import CannotListen, HealthServer
from streams.health import FlowMetrics
from tests.deployment import wait_until


class Worker:
    """What the server asks."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"ready": True, "worker": "w", "partitions": []}
        self.metrics = FlowMetrics()

    def health(self) -> dict[str, Any]:
        if "error" in self.state:
            raise ArithmeticError(self.state["error"])
        return self.state


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def url(worker: Worker) -> Iterator[str]:
    with HealthServer("127.0.0.1", 0, worker.metrics.registry, worker.health) as server:
        yield server.url


def get(url: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.headers["Content-Type"], error.read()


def test_a_worker_that_is_ready_says_so_with_details(url: str, worker: Worker) -> None:
    for path in ("/ready", "/health"):
        status, kind, body = get(url + path)
        assert (status, kind, json.loads(body)) == (200, "application/json", worker.state)


def test_a_worker_that_is_not_ready_answers_503_and_still_lives(url: str, worker: Worker) -> None:
    worker.state = {"ready": False, "failure": "the database refused a row"}
    status, _, body = get(f"{url}/ready")
    assert (status, json.loads(body)["failure"]) == (503, "the database refused a row")
    assert get(f"{url}/health")[0] == 503
    assert get(f"{url}/live") == (200, "text/plain", b"live\n")


def test_metrics_are_prometheus_text_and_move(url: str, worker: Worker) -> None:
    worker.metrics.lag("transactions", 3, 17)
    status, kind, body = get(f"{url}/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert b'headgate_lag_records{partition="3",topic="transactions"} 17.0' in body
    worker.metrics.lag("transactions", 3, 0)
    assert b'headgate_lag_records{partition="3",topic="transactions"} 0.0' in get(f"{url}/metrics?name=x")[2]


def test_another_path_is_not_found_and_names_those_that_are(url: str) -> None:
    status, _, body = get(f"{url}/")
    assert status == 404
    assert b"/metrics" in body


def test_an_error_in_the_answer_is_a_500_and_the_next_request_is_answered(url: str, worker: Worker) -> None:
    worker.state = {"error": "half built"}
    status, _, body = get(f"{url}/ready")
    assert (status, b"half built" in body) == (500, False)
    assert get(f"{url}/live")[0] == 200


def test_readiness_is_a_metric_too_and_a_bug_in_it_takes_no_other_metric_away(url: str, worker: Worker) -> None:
    assert b"\nheadgate_ready 1.0\n" in get(f"{url}/metrics")[2]
    worker.state = {"ready": False}
    assert b"\nheadgate_ready 0.0\n" in get(f"{url}/metrics")[2]
    worker.state = {"error": "half built"}
    assert b"\nheadgate_ready 0.0\n" in get(f"{url}/metrics")[2]


def test_an_address_that_is_taken_is_one_clear_error(url: str, worker: Worker) -> None:
    port = int(url.rpartition(":")[2])
    with pytest.raises(CannotListen, match=rf"nothing can listen at 127\.0\.0\.1:{port}.*another port"):
        HealthServer("127.0.0.1", port, FlowMetrics().registry, worker.health)


def test_the_port_is_free_again_afterwards(worker: Worker) -> None:
    with HealthServer("127.0.0.1", 0, worker.metrics.registry, worker.health) as server:
        port = int(server.url.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading_is_answered(url: str, method: str) -> None:
    for path in ("/metrics", "/health", "/"):
        request = urllib.request.Request(f"{url}{path}", data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code == 501
        assert "Python" not in caught.value.headers["Server"]
        caught.value.close()


def test_clients_that_send_nothing_are_let_go_and_more_than_there_may_be_at_once(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_server, "MOST_CLIENTS", 3)
    monkeypatch.setattr(health_server, "CLIENT_SECONDS", 1.0)
    with ExitStack() as opened, HealthServer("127.0.0.1", 0, worker.metrics.registry, worker.health) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        clients = [opened.enter_context(socket.create_connection(address, 30)) for _ in range(4)]
        assert clients[3].recv(1) == b"", "there was no place for it"
        assert [client.recv(1) for client in clients[:3]] == [b""] * 3, "they sent nothing in time"
        wait_until("there is room again", lambda: lives(server.url), 30)


def lives(url: str) -> bool:
    try:
        return get(f"{url}/live")[0] == 200
    except (OSError, http.client.HTTPException):  # the places are freed a moment after the clients are let go
        return False
