"""Who may use what: every route of the app by role, hosts, bodies, headers, and tokens that show nowhere."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import Mount

from ops.dashboard import limits
from ops.dashboard.app import create_app
from ops.dashboard.guards import CONTENT_SECURITY_POLICY, HEADERS, MOST_BODY_BYTES
from ops.dashboard.roles import Access, DashboardRefused, Role, check_host, parse_tokens
from ops.dashboard.sources import open_sources
from ops.settings import Settings, SettingsError, read_settings
from tests.ops.dashboard.conftest import TOKENS, Console, StartConsole

PUBLIC = {("GET", path) for path in ("/", "/health", "/health/live", "/health/ready", "/metrics")}
READ = {
    ("GET", f"/api/{path}")
    for path in (
        *("session", "status", "live", "openapi.json", "alerts", "alerts/budget", "alerts/{alert_id}"),
        *("predictions", "predictions/{event_id:path}", "detection", "drifts", "views"),
        *("models", "models/{name}/{version}", "runs", "rewards", "coverage"),
        *("items", "items/{item_id:path}", "recommendations/{user_id:path}"),
        *("dead-letters", "dead-letters/{generation}/{partition}/{offset}"),
    )
}
GIVE = {("POST", "/api/feedback")}
OPERATE = {
    ("GET", "/api/audit"),
    ("POST", "/api/models/{name}/{version}/promote"),
    ("POST", "/api/models/{name}/rollback"),
    ("POST", "/api/dead-letters/{generation}/{partition}/{offset}/replay"),
}
REQUIRED = (
    dict.fromkeys(PUBLIC)
    | dict.fromkeys(READ, Role.VIEWER)
    | dict.fromkeys(GIVE, Role.ANALYST)
    | dict.fromkeys(OPERATE, Role.OPERATOR)
)
EXAMPLES = {"{name}": "fraud", "{version}": "1", "{generation}": "1", "{partition}": "0", "{offset}": "0"}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Methods and paths of all routes, those of included routers too."""
    found = [context.route for context in iter_route_contexts(app.routes)]
    return {(method, route.path) for route in found if isinstance(route, APIRoute) for method in route.methods}


def request(console: Console, method: str, path: str, token: str | None) -> httpx.Response:
    for name, value in EXAMPLES.items():
        path = path.replace(name, value)
    path = path.replace(":path", "").replace("{", "").replace("}", "")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    sent = console.client.build_request(method, path, headers=headers, json={} if method == "POST" else None)
    answer = console.client.send(sent, stream=True)  # one of the routes never ends by itself
    answer.close()
    return answer


@pytest.fixture
def console(start_console: StartConsole, sqlite_url: str) -> Console:
    return start_console(sqlite_url, tokens=TOKENS)


def test_every_route_asks_for_the_role_that_is_written_here(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FAILED_LOGINS", limits.READS)
    console = start_console(sqlite_url, tokens=TOKENS)
    assert routes_of(console.server.config.app) == REQUIRED.keys(), (
        "a new route needs a line here, with the role it requires"
    )
    assert {route.path for route in console.server.config.app.routes if isinstance(route, Mount)} == {"/static"}
    for (method, path), required in REQUIRED.items():
        allowed = {}
        for token in (None, "wrong", *(token for _, token in parse_tokens(TOKENS))):
            allowed[token] = request(console, method, path, token).status_code
        refused = {token: status for token, status in allowed.items() if status in (401, 403)}
        wanted = {}
        if required is not None:
            wanted = {None: 401, "wrong": 401}
            wanted |= {token: 403 for user, token in parse_tokens(TOKENS) if user.role < required}
        assert refused == wanted, f"{method} {path}"


def test_requests_are_counted_by_route_without_any_id(console: Console) -> None:
    token = {"Authorization": "Bearer token-of-a-viewer"}
    for path in ("/api/alerts/an-id", "/api/predictions/an-id", "/nowhere/an-id"):
        assert console.client.get(path, headers=token).status_code == 404
    metrics = console.client.get("/metrics").text
    for route in ("/api/alerts/{alert_id}", "/api/predictions/{event_id:path}", "none"):
        assert f'headgate_dashboard_requests_total{{method="GET",route="{route}",status="404"}} 1.0' in metrics
    assert "an-id" not in metrics


def test_a_token_says_which_role_it_has(start_console: StartConsole, sqlite_url: str) -> None:
    console = start_console(sqlite_url, tokens=TOKENS, token="token-of-an-analyst")
    assert console.get("/api/session") == {"name": "analyst", "role": "analyst", "tokens": True}
    assert start_console(sqlite_url).get("/api/session") == {
        "name": "console:anybody",
        "role": "operator",
        "tokens": False,
    }
    named = start_console(sqlite_url, tokens="analyst:alice=token-of-an-analyst", token="token-of-an-analyst")
    assert named.get("/api/session")["name"] == "analyst:alice"


def test_no_token_by_another_scheme_counts(console: Console) -> None:
    for header in ("Basic token-of-a-viewer", "token-of-a-viewer", "Bearer", ""):
        answer = console.client.get("/api/session", headers={"Authorization": header})
        assert answer.status_code == 401, header
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_without_tokens_no_other_page_or_host_name_may_use_the_console(
    start_console: StartConsole, sqlite_url: str
) -> None:
    console = start_console(sqlite_url)
    own = f"http://{console.client.base_url.netloc.decode()}"
    assert console.client.get("/api/session", headers={"Origin": own}).status_code == 200
    for headers in ({"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Host": "elsewhere.example"}):
        assert console.client.get("/api/session", headers=headers).status_code == 403, headers
        assert console.client.post("/api/models/fraud/rollback", json={"why": "x"}, headers=headers).status_code == 403


def test_every_answer_has_the_security_headers(console: Console) -> None:
    token = {"Authorization": "Bearer token-of-an-operator"}
    answers = [
        console.client.get("/"),
        console.client.get("/static/nothing.js"),
        console.client.get("/nowhere"),
        console.client.get("/metrics"),
        console.client.get("/api/session"),
        console.client.get("/api/session", headers=token),
        console.client.get("/api/alerts/nothing", headers=token),
        console.client.delete("/api/alerts", headers=token),
        console.client.post("/api/feedback", json={}, headers=token),
        console.client.post("/api/feedback", content=b"x" * (MOST_BODY_BYTES + 1), headers=token),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404, 200, 401, 200, 404, 405, 422, 413]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
        assert "server" not in answer.headers
        if answer.status_code >= 400:
            assert answer.json()["error"].keys() == {"code", "message"}
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert answers[5].headers["Cache-Control"] == "no-store"


def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_too_long(console: Console) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MOST_BODY_BYTES // 1024 + 1):
            yield b" " * 1024

    headers = {"Authorization": "Bearer token-of-an-operator", "Content-Type": "application/json"}
    answer = console.client.post("/api/feedback", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b'{"kind": "\xff\xfe"}', b"[" * 60_000, b'{"a":' * 10_000, b"1" * 60_000, b"NaN"]
)
def test_a_body_that_is_no_json_is_invalid(console: Console, body: bytes) -> None:
    headers = {"Authorization": "Bearer token-of-an-operator", "Content-Type": "application/json"}
    answer = console.client.post("/api/feedback", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.mark.parametrize("path", ["/api/models//", "/api/alerts/", "/health/live/", "//api/alerts"])
def test_no_address_leads_to_another_one(console: Console, path: str) -> None:
    """A redirect would name the host that the request names."""
    headers = {"Authorization": "Bearer token-of-an-operator", "Host": "elsewhere.example"}
    address = console.client.base_url
    answer = console.client.get(f"http://{address.host}:{address.port}{path}", headers=headers, follow_redirects=False)
    assert (answer.status_code, answer.headers.get("Location")) in ((404, None), (405, None))


def test_a_bug_shows_no_traceback_and_the_next_request_is_answered(
    start_console: StartConsole, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = start_console(sqlite_url)

    def fail(*_: object) -> None:
        raise ArithmeticError("a secret detail")

    monkeypatch.setattr("ops.dashboard.routes.models.newest_runs", fail)
    answer = console.client.get("/api/runs")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert console.get("/api/session")


def test_tokens_show_in_no_log_and_no_repr(
    start_console: StartConsole,
    sqlite_url: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = io.StringIO()
    # Alone: one of an earlier test, whose stream is closed, would print the lines of this test in a traceback.
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(log)])
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        console = start_console(sqlite_url, tokens=TOKENS, token="token-of-an-operator")
        console.get("/api/session")
        console.error("/api/recommendations/u1", 503)
        console.client.get("/api/session", headers={"Authorization": "Bearer token-that-is-wrong"})
    finally:
        logging.getLogger().setLevel(logging.WARNING)
    shown = capfd.readouterr()
    texts = [log.getvalue(), shown.out, shown.err, repr(Access.of(TOKENS)), repr(Settings(dashboard_tokens=TOKENS))]
    assert "token-" not in "".join(texts)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ("secret", "entry 1 must be viewer=, analyst= or operator="),
        ("operator=one-that-is-long-enough,admin=secret", "entry 2 must be"),
        ("operator:=secret-that-is-long-enough", "entry 1 must be"),
        ("operator:two words=secret-that-is-long-enough", "entry 1 must be"),
        ("operator:anna=secret-too-shrt", "the token of entry 1 has 15 characters, fewer than 16"),
        ("viewer=", "the token of entry 1 must be printable"),
        ("viewer=two words secret", "the token of entry 1 must be printable"),
        ("viewer=secret-of-two-roles,operator:x=secret-of-two-roles", "the token of entry 2 is there twice"),
    ],
)
def test_wrong_tokens_are_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_DASHBOARD_TOKENS", tokens)
    with pytest.raises(SettingsError, match=says) as caught:
        read_settings()
    assert "secret" not in str(caught.value)


def test_a_console_for_other_machines_needs_tokens() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(host, Access.of(""))
    for host in ("0.0.0.0", "::", "192.168.1.7", "console.example"):
        check_host(host, Access.of(TOKENS))
        with pytest.raises(DashboardRefused, match="HEADGATE_DASHBOARD_TOKENS"):
            check_host(host, Access.of(""))


def test_the_pages_are_served_to_everybody(start_console: StartConsole, sqlite_url: str, tmp_path: Path) -> None:
    pages = tmp_path / "pages-here"
    pages.mkdir()
    (pages / "index.html").write_text("<!doctype html><title>console</title>")
    (pages / "console.js").write_text("let x = 1\n")
    (tmp_path / "secret.txt").write_text("secret")
    console = start_console(sqlite_url, tokens=TOKENS, pages=pages)

    assert console.client.get("/").text == "<!doctype html><title>console</title>"
    script = console.client.get("/static/console.js")
    assert (script.text, script.headers["Content-Type"].split(";")[0]) == ("let x = 1\n", "text/javascript")
    for path in ("/static/../secret.txt", "/static/%2e%2e/secret.txt", "/static/..%2fsecret.txt"):
        assert console.client.get(path).status_code == 404


def test_every_route_is_on_the_page_about_the_api(sqlite_url: str) -> None:
    sources = open_sources(Settings(database=sqlite_url, _env_file=None))
    page = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    app = create_app(sources, Access.of(""))
    named = {(method, path.replace(":path", "")) for method, path in routes_of(app)}
    sources.close()
    assert {f"{method} {path}" for method, path in named if f"`{method} {path}" not in page} == set()


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 15])
def test_the_command_prints_its_address_and_ends_cleanly(number: int, sqlite_url: str, tmp_path: Path) -> None:
    environment = {
        "HEADGATE_DATABASE": sqlite_url,
        "HEADGATE_DASHBOARD_PORT": "0",
        "HEADGATE_KAFKA": "127.0.0.1:1",
        "HEADGATE_REDIS": "redis://127.0.0.1:1/0",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "ops", "dashboard"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with httpx.stream("GET", f"{address}/api/live", trust_env=False, timeout=60) as answer:
            lines = answer.iter_lines()
            while not next(lines).startswith("event: status"):
                pass
            process.send_signal(number)
            for _ in lines:  # until it ends
                pass
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert "Traceback" not in errors
