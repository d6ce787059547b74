"""The console's API as its own OpenAPI describes it: every route, with parameters and bodies that are right, wrong and
hostile. Whatever comes, the answer is one that the page about the API has, never a failure of the console."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import httpx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ops.dashboard.app import create_app
from ops.dashboard.guards import HEADERS
from ops.dashboard.limits import Rate
from ops.dashboard.roles import Access
from ops.dashboard.server import DashboardServer, address_of, listening_socket
from ops.dashboard.sources import open_sources
from ops.settings import Settings
from storage.database import upgrade
from tests.deployment import wait_until
from tests.fuzz.hostile import TEXTS, damaged, texts, tokens, values
from tests.storage.rows import RowMaker

OPERATOR = "token-of-an-operator"
#: As docs/api.md has them. 503: neither Kafka nor Redis is there.
STATUSES = frozenset({200, 202, 401, 403, 404, 405, 409, 413, 415, 422, 503})
ENDLESS = "/api/live"
KNOWN = ("a", "e1", "r1", "i1", "u1", "fraud", "1", "0", "transactions", "open", "critical,low", "2026-03-14T12:00:00Z")
#: Of what the console has: parameter or field -> its value.
RIGHT: dict[str, str] = {
    **{
        "alert_id": "a",
        "event_id": "e1",
        "recommendation_id": "r1",
        "item_id": "i1",
        "user_id": "u1",
        "label": "fraud",
    },
    **{"generation": "1", "partition": "0", "offset": "0", "name": "fraud", "version": "1"},
}
NOBODY = "127.0.0.1:1"
SECONDS = 30.0
#: Of a parameter; what is longer than the server reads of an address is answered with 400 before any route.
MOST_LETTERS = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A console that runs, and its OpenAPI."""

    client: httpx.Client
    described: dict[str, Any]


@contextmanager
def console(folder: Path) -> Iterator[Asked]:
    """On SQLite, in this process, with some rows; limits are not what is tried."""
    url = f"sqlite:///{folder / 'headgate.sqlite'}"
    upgrade(url)
    settings = Settings(
        _env_file=None,
        database=SecretStr(url),
        kafka=NOBODY,
        redis=SecretStr(f"redis://{NOBODY}/0"),
        models=str(folder / "models"),
    )
    sources = open_sources(settings)
    rows = RowMaker(sources.database)
    rows.dead_letter()  # at offset 0
    rows.scored("e1")
    rows.alert("a", ["e1"])
    rows.slate("r1", ["i1"], user_id="u1")
    rows.item("i1")
    rows.model("fraud", 1, alias="champion")
    with ExitStack() as cleanup:
        cleanup.callback(sources.close)
        for limit in ("READS", "WRITES", "FAILED_LOGINS"):
            cleanup.enter_context(patch(f"ops.dashboard.limits.{limit}", Rate(10**12, 1.0)))
        cleanup.enter_context(patch("ops.dashboard.routes.feedback.CONFIRM_SECONDS", 0.01))
        cleanup.enter_context(patch("ops.dashboard.routes.dead_letters.CONFIRM_MILLISECONDS", 10))
        app = create_app(sources, Access.of(f"operator:fuzz={OPERATOR}"))
        bound = cleanup.enter_context(listening_socket("127.0.0.1", 0))
        server = DashboardServer(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        cleanup.callback(thread.join, SECONDS)
        cleanup.callback(setattr, server, "should_exit", True)
        wait_until("the console has started", lambda: server.started, SECONDS)
        client = httpx.Client(base_url=address_of(bound), timeout=SECONDS, trust_env=False)
        yield Asked(cleanup.enter_context(client), app.openapi())


@st.composite
def requests(draw: st.DrawFn, described: dict[str, Any]) -> dict[str, Any]:
    """As httpx.Client.request takes it; mostly of a route that there is."""
    path = draw(st.sampled_from([path for path in described["paths"] if path != ENDLESS]))
    methods = described["paths"][path]
    method = draw(st.sampled_from([*methods, *methods, "post", "delete", "options"]))
    operation = methods.get(method, {})
    query = []
    for parameter in operation.get("parameters", ()):
        right = st.just(RIGHT.get(parameter["name"], "1"))
        others = st.sampled_from(KNOWN) | texts | st.integers().map(str) | st.floats().map(str)
        value = draw(right | right | others)[:MOST_LETTERS]
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(value, safe="", errors="surrogatepass"))
        elif draw(st.booleans()):
            query.append((parameter["name"], value))
    text = "&".join(f"{name}={quote(value, safe='', errors='surrogatepass')}" for name, value in query)
    token = draw(st.sampled_from((OPERATOR, OPERATOR, OPERATOR, OPERATOR, None, "wrong")))
    headers = {
        "Content-Type": draw(st.sampled_from(("application/json",) * 6 + ("text/plain", "application/json; a=b")))
    }
    headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
    return {
        "method": method,
        "url": f"{path}?{text}" if text else path,
        "headers": headers,
        "content": draw(bodies(described, operation)) if method == "post" else b"",
    }


@st.composite
def bodies(draw: st.DrawFn, described: dict[str, Any], operation: dict[str, Any]) -> bytes:
    """Fields as the schema names them, each known, hostile or left out."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    kinds = [each["$ref"].rpartition("/")[2] for each in schema.get("oneOf", [schema]) if "$ref" in each]
    if not kinds or draw(st.integers(0, 9)) == 0:
        return draw(tokens | values.map(lambda value: json.dumps(value).encode()))
    properties = described["components"]["schemas"][draw(st.sampled_from(kinds))]["properties"]
    fields = []
    for name, property_schema in properties.items():
        right = [json.dumps(known).encode() for known in (*property_schema.get("enum", ()), *KNOWN)]
        right += [json.dumps(property_schema["const"]).encode()] * 99 if "const" in property_schema else []
        right += [json.dumps(RIGHT[name]).encode()] * 99 if name in RIGHT else []
        if draw(st.integers(0, 4)):
            fields.append((name, draw(st.sampled_from(right) | st.sampled_from(right) | tokens)))
    if draw(st.integers(0, 6)) == 0:
        fields.append((draw(st.sampled_from(TEXTS)), draw(tokens)))
    whole = b"{" + b",".join(json.dumps(name).encode() + b":" + value for name, value in fields) + b"}"
    return draw(damaged(whole)) if draw(st.integers(0, 7)) == 0 else whole


def answered(client: httpx.Client, request: dict[str, Any]) -> str:
    """The status; AssertionError where a law does not hold."""
    answer = client.request(**request, follow_redirects=False)
    assert answer.status_code in STATUSES, (answer.status_code, answer.text[:500])
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    if answer.status_code >= 400:
        assert answer.json()["error"].keys() == {"code", "message"}
        assert OPERATOR not in answer.text
        assert "Traceback" not in answer.text
    elif answer.headers.get("content-type", "").startswith("application/json"):
        json.loads(answer.text, parse_constant=_no_number)
    return str(answer.status_code)


def api_target(asked: Asked, counts: "Counter[str]") -> Callable[[], None]:
    @given(request=requests(asked.described))
    def target(request: dict[str, Any]) -> None:
        counts[answered(asked.client, request)] += 1

    return target


def _no_number(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
