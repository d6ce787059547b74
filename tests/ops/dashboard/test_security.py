"""No other page uses the console through a user's browser, and nobody without a token has any of the API read."""

import socket

import httpx
import pytest

from ops.dashboard import security
from ops.dashboard.context import Context
from tests.ops.dashboard.conftest import TOKENS, Console, StartConsole

OPERATOR = {"Authorization": "Bearer token-of-an-operator"}
ROLL_BACK = "/api/models/fraud/rollback"
#: What browsers say of a request by a page elsewhere, of today and of yesterday.
ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Origin": "http://[broken"},
    {"Origin": ""},
]
#: What a form can send without asking the server first.
OF_FORMS = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "text/plain; a=application/json",
]


def post_from(console: Console, headers: dict[str, str]) -> httpx.Response:
    """The attack: a page has the user's browser send a change. 404: it went through, but there is no such model."""
    return console.client.post(ROLL_BACK, json={"why": "because"}, headers=headers)


@pytest.fixture
def console(start_console: StartConsole, sqlite_url: str) -> Console:
    return start_console(sqlite_url, tokens=TOKENS)


@pytest.fixture
def open_console(start_console: StartConsole, sqlite_url: str) -> Console:
    """Without tokens."""
    return start_console(sqlite_url)


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_a_change_sent_by_another_page_is_refused(
    console: Console, open_console: Console, headers: dict[str, str]
) -> None:
    for answer in (post_from(console, headers | OPERATOR), post_from(open_console, headers)):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert open_console.client.get("/api/session", headers=headers).status_code == 403


def test_without_the_look_at_the_origin_a_change_sent_by_another_page_goes_through(
    open_console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "refuse_other_pages", lambda _request: None)
    assert {post_from(open_console, headers).status_code for headers in ELSEWHERE} == {404}


def test_the_console_s_own_page_and_programs_may_change_something(console: Console, open_console: Console) -> None:
    for one, headers in ((console, OPERATOR), (open_console, {})):
        own = f"http://{one.client.base_url.netloc.decode()}"
        for more in ({}, {"Sec-Fetch-Site": "same-origin", "Origin": own}, {"Origin": own}, {"Sec-Fetch-Site": "none"}):
            assert post_from(one, headers | more).status_code == 404, more


def post_as_form(console: Console, kind: str) -> httpx.Response:
    """The attack: a form, whose browser says nothing of where it comes from."""
    return console.client.post(ROLL_BACK, content=b'{"why": "x"}', headers={"Content-Type": kind})


@pytest.mark.parametrize("kind", OF_FORMS)
def test_a_change_that_a_form_could_send_is_refused(open_console: Console, kind: str) -> None:
    answer = post_as_form(open_console, kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported")
    replay = open_console.client.post("/api/dead-letters/1/0/0/replay", headers={"Content-Type": kind})
    assert replay.status_code == 415


def test_without_the_look_at_the_content_a_form_sends_a_change(
    open_console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replayed() -> int:
        return open_console.client.post("/api/dead-letters/1/0/0/replay", data={"a": "b"}).status_code

    assert replayed() == 415
    monkeypatch.setattr(security, "refuse_other_content", lambda _request: None)
    assert replayed() == 404


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "[broken", "", "10.0.0.7:8080"])
def test_a_name_that_is_resolved_to_this_machine_is_refused(open_console: Console, host: str) -> None:
    """DNS rebinding: the page and the console then have one origin in the eyes of the browser."""
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert post_from(open_console, headers).status_code in (400, 403)


def test_without_the_look_at_the_host_a_name_that_is_resolved_to_this_machine_goes_through(
    open_console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "refuse_other_hosts", lambda _request: None)
    headers = {"Host": "elsewhere.example", "Sec-Fetch-Site": "same-origin"}
    assert post_from(open_console, headers).status_code == 404


def test_nothing_of_a_body_is_read_for_who_has_no_token(console: Console) -> None:
    """The answer comes while the body is on its way; what is no JSON is not even looked at."""
    address = console.client.base_url
    with socket.create_connection((address.host, address.port or 0), 30) as client:
        head = (
            "POST /api/feedback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{"
        )
        client.sendall(head.encode())
        assert client.recv(12) == b"HTTP/1.1 401"


def test_what_is_below_api_is_closed_also_where_no_route_is(console: Console) -> None:
    for path in ("/api/nothing", "/api/", "/api/alerts/../session", "/api/%61lerts"):
        assert console.client.get(path).status_code == 401, path


def test_a_route_that_was_forgotten_is_closed(console: Console) -> None:
    """Who comes past the guards has no user, and so no role."""
    app = console.server.config.app

    @app.get("/forgotten", dependencies=[security.VIEWER])
    def forgotten() -> None:
        raise AssertionError

    assert console.client.get("/forgotten", headers=OPERATOR).status_code == 401
    assert isinstance(console.context, Context)
