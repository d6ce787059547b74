"""How often one client may ask: by token and by address, with the time to wait, in bounded memory."""

from dataclasses import dataclass

import httpx
import pytest

from ops.dashboard import limits
from ops.dashboard.errors import ApiError
from ops.dashboard.limits import Limit, Rate, caller_at
from ops.dashboard.live import MOST_OF_ONE
from ops.dashboard.metrics import DashboardMetrics
from tests.deployment import wait_until
from tests.ops.dashboard.conftest import SECONDS, TOKENS, Console, StartConsole

RATE = Rate(3, 0.5)
VIEWER, OPERATOR = ({"Authorization": f"Bearer {token}"} for token in ("token-of-a-viewer", "token-of-an-operator"))
WRONG = {"Authorization": "Bearer one-that-is-wrong"}


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, **values: int) -> tuple[Limit, DashboardMetrics]:
    metrics = DashboardMetrics()
    return Limit("reads", RATE, metrics, clock, **values), metrics


def refused(limit: Limit, caller: str) -> str | None:
    """How long to wait, in seconds; None where it is not refused."""
    try:
        limit.take(caller)
    except ApiError as error:
        return (error.headers or {})["Retry-After"] if (error.status, error.code) == (429, "too_many") else str(error)
    return None


def test_a_burst_is_let_through_then_as_many_as_the_rate_has() -> None:
    clock = Clock()
    limit, metrics = made(clock)
    assert [refused(limit, "a") for _ in range(5)] == [None, None, None, "2", "2"]
    clock.now += 1.0
    assert refused(limit, "a") == "1"
    clock.now += 1.0
    assert [refused(limit, "a") for _ in range(2)] == [None, "2"]
    clock.now += 3_600
    assert [refused(limit, "a") for _ in range(4)] == [None, None, None, "2"]
    assert metrics.registry.get_sample_value("headgate_dashboard_limited_total", {"limit": "reads"}) == 5


def test_callers_do_not_take_from_each_other() -> None:
    limit, _ = made(Clock())
    for _ in range(4):
        refused(limit, "a")
    assert refused(limit, "a") == "2"
    assert refused(limit, "b") is None


def test_callers_without_number_do_not_fill_the_memory_and_the_latest_are_remembered() -> None:
    limit, _ = made(Clock(), most_callers=10)
    for number in range(1_000):
        refused(limit, f"caller {number}")
        refused(limit, "busy")
    assert len(limit) == 10
    assert refused(limit, "busy") == "2"


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_a_network_of_one_client_is_one_caller(address: str, caller: str) -> None:
    assert caller_at(address) == caller


def guess(console: Console, times: int, right: str, **headers: str) -> list[int]:
    """The attack: tokens are tried one after the other, the right one last."""
    guesses = [*(f"guess-number-{number}" for number in range(times)), right]
    return [
        console.client.get("/api/session", headers={"Authorization": f"Bearer {token}"} | headers).status_code
        for token in guesses
    ]


def test_tokens_cannot_be_guessed_without_end(start_console: StartConsole, sqlite_url: str) -> None:
    clock = Clock()
    console = start_console(sqlite_url, tokens=TOKENS, limit_clock=clock)
    assert guess(console, 30, "token-of-a-viewer") == [401] * 10 + [429] * 21
    answer = console.client.get("/api/session", headers=VIEWER)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "6")
    assert answer.json()["error"]["code"] == "too_many"
    clock.now += 6
    assert console.client.get("/api/session", headers=VIEWER).status_code == 200
    assert 'limited_total{limit="failed_logins"} 22.0' in console.client.get("/metrics").text


def test_without_the_limit_tokens_are_guessed_without_end(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FAILED_LOGINS", Rate(10**9, 1.0))
    console = start_console(sqlite_url, tokens=TOKENS)
    assert guess(console, 30, "token-of-a-viewer")[-1] == 200


def guess_from_everywhere(console: Console) -> list[int]:
    """The attack: each guess says that it comes from another address."""
    return [
        guess(console, 1, "token-of-a-viewer", **{"X-Forwarded-For": f"10.0.0.{number}"})[-1] for number in range(30)
    ]


def test_nobody_says_that_he_is_at_another_address(start_console: StartConsole, sqlite_url: str) -> None:
    console = start_console(sqlite_url, tokens=TOKENS, limit_clock=Clock())
    assert guess_from_everywhere(console)[-1] == 429


def test_a_proxy_that_is_believed_says_who_asks(start_console: StartConsole, sqlite_url: str) -> None:
    console = start_console(sqlite_url, tokens=TOKENS, limit_clock=Clock(), dashboard_proxies="127.0.0.1")
    assert guess_from_everywhere(console) == [200] * 30


def test_each_token_reads_and_writes_within_its_limits(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READS", Rate(4, 1.0))
    monkeypatch.setattr(limits, "WRITES", Rate(2, 1.0))
    console = start_console(sqlite_url, tokens=TOKENS, limit_clock=Clock())

    def statuses(method: str, path: str, times: int, headers: dict[str, str]) -> list[int]:
        sent = {"json": {}} if method == "POST" else {}
        return [console.client.request(method, path, headers=headers, **sent).status_code for _ in range(times)]

    assert statuses("GET", "/api/session", 6, VIEWER) == [200] * 4 + [429] * 2
    assert statuses("GET", "/api/session", 1, OPERATOR) == [200]
    assert statuses("POST", "/api/models/fraud/rollback", 3, OPERATOR) == [422, 422, 429]
    assert statuses("POST", "/api/models/fraud/rollback", 3, VIEWER) == [403, 403, 429]
    assert statuses("GET", "/api/session", 6, {}) == [401] * 4 + [429] * 2
    assert statuses("GET", "/health/live", 20, {}) == [200] * 20


def test_one_token_has_so_many_event_streams_and_a_closed_one_makes_room(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_OF_ONE > 2
    monkeypatch.setattr("ops.dashboard.live.MOST_OF_ONE", 2)
    console = start_console(sqlite_url, tokens=TOKENS)

    def opened(headers: dict[str, str]) -> int:
        answer = console.client.send(console.client.build_request("GET", "/api/live", headers=headers), stream=True)
        streams.append(answer)
        return answer.status_code

    streams: list[httpx.Response] = []
    assert [opened(VIEWER) for _ in range(3)] == [200, 200, 429]
    assert opened(OPERATOR) == 200
    assert "headgate_dashboard_listeners 3.0" in console.client.get("/metrics").text
    streams[0].close()
    wait_until("the place is free", lambda: opened(VIEWER) == 200, SECONDS)
    for stream in streams:
        stream.close()
    free = "headgate_dashboard_listeners 0.0"
    wait_until("all places are free", lambda: free in console.client.get("/metrics").text, SECONDS)
