"""What people do in the console is written down with who did it; operators read it, nobody else."""

from typing import Any

import pytest

from ops.dashboard.routes import feedback
from storage.audit import AuditEntry, record_audit
from storage.database import Database
from storage.registry import ModelRegistry
from streams.kafka import topic_configurations
from tests.ops.dashboard.conftest import Console, StartConsole
from tests.storage.rows import NOON, RowMaker
from tests.streams.topics import created

ALICE, OLGA = "token-of-alice-the-analyst", "token-of-olga-the-operator"
TOKENS = f"analyst:alice={ALICE},operator:olga={OLGA}"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


def entries(console: Console, **query: Any) -> list[tuple[str, str, str]]:
    found = console.client.get("/api/audit", params=query, headers=by(OLGA)).json()["entries"]
    return [(entry["who"], entry["action"], entry["subject"]) for entry in found]


def by(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_promotion_and_a_rollback_are_written_down_with_who_and_why(
    start_console: StartConsole, database_url: str, database: Database
) -> None:
    console = start_console(database_url, tokens=TOKENS)
    registry: ModelRegistry = console.context.sources.registry
    for _ in range(2):
        registry.register("fraud", "detector", b"x", feature_schema=1, metrics={}, clock=lambda: NOON)
    for path in ("1/promote", "2/promote", "rollback"):
        answer = console.client.post(f"/api/models/fraud/{path}", json={"why": "because"}, headers=by(OLGA))
        assert answer.status_code == 200, answer.text
    assert console.client.post("/api/models/fraud/2/promote", json={"why": "x"}, headers=by(ALICE)).status_code == 403
    assert console.client.post("/api/models/fraud/9/promote", json={"why": "x"}, headers=by(OLGA)).status_code == 404
    assert entries(console) == [
        ("operator:olga", "model.rollback", "model:fraud:1"),
        ("operator:olga", "model.promote", "model:fraud:2"),
        ("operator:olga", "model.promote", "model:fraud:1"),
    ]
    (newest, *_) = console.client.get("/api/audit", headers=by(OLGA)).json()["entries"]
    assert (newest["detail"], newest["at"]) == ({"why": "because"}, "2026-03-14T12:00:00Z")
    assert console.client.get("/api/audit", headers=by(ALICE)).status_code == 403


def test_a_verdict_and_a_replay_are_written_down(
    start_console: StartConsole, database_url: str, rows: RowMaker, kafka_servers: str, topic_prefix: str
) -> None:
    created(kafka_servers, topic_configurations(topic_prefix, 1_000_000))
    console = start_console(database_url, tokens=TOKENS, kafka=kafka_servers, topic_prefix=topic_prefix)
    rows.alert("a", ["e1"])
    letter = rows.dead_letter(topic=f"{topic_prefix}transactions", payload=b"{", payload_bytes=1)
    given = {"kind": "label", "alert_id": "a", "label": "fraud", "feedback_id": "f1"}
    assert console.client.post("/api/feedback", json=given, headers=by(ALICE)).status_code == 202
    path = f"/api/dead-letters/1/0/{letter['source_offset']}/replay"
    for _ in range(2):  # the second time nothing is sent
        assert console.client.post(path, json={}, headers=by(OLGA)).status_code == 200
    assert entries(console) == [
        ("operator:olga", "dead_letter.replay", f"dead_letter:{letter['topic']}/0@{letter['source_offset']}"),
        ("analyst:alice", "feedback.give", "alert:a"),
    ]
    (verdict,) = console.client.get("/api/audit", params={"who": "analyst:alice"}, headers=by(OLGA)).json()["entries"]
    assert verdict["detail"] == {"feedback_id": "f1", "source": "analyst", "label": "fraud"}


def test_a_verdict_that_kafka_did_not_take_is_said_to_be_unconfirmed(
    start_console: StartConsole, database_url: str, rows: RowMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "CONFIRM_SECONDS", 0.1)
    console = start_console(database_url, tokens=TOKENS)
    rows.slate("r1", ["i1"])
    given = {"kind": "reward", "recommendation_id": "r1", "item_id": "i1", "value": 2.5}
    assert console.client.post("/api/feedback", json=given, headers=by(ALICE)).status_code == 503
    assert [(action, subject) for _, action, subject in entries(console)] == [
        ("feedback.unconfirmed", "recommendation:r1"),
        ("feedback.give", "recommendation:r1"),
    ]


def test_a_console_without_tokens_says_that_it_does_not_know_who(
    start_console: StartConsole, database_url: str, database: Database
) -> None:
    console = start_console(database_url)
    register = console.context.sources.registry.register
    register("fraud", "detector", b"x", feature_schema=1, metrics={}, clock=lambda: NOON)
    console.post("/api/models/fraud/1/promote", {"why": "because"})
    assert console.get("/api/audit")["entries"][0]["who"] == "console:anybody"


def test_the_list_comes_in_pages_and_is_narrowed_by_who_and_what(
    start_console: StartConsole, database_url: str, database: Database
) -> None:
    with database.begin() as connection:
        for number in range(7):
            record_audit(
                connection, AuditEntry(f"cli:user-{number % 2}", f"act.{number % 3}", "x", {"n": number}, NOON)
            )
    console = start_console(database_url)
    numbers, cursor = [], None
    while True:
        page = console.get("/api/audit", limit=3, **({} if cursor is None else {"cursor": cursor}))
        numbers += [entry["detail"]["n"] for entry in page["entries"]]
        if (cursor := page["next"]) is None:
            break
    assert numbers == [6, 5, 4, 3, 2, 1, 0]
    found = console.get("/api/audit", who="cli:user-0", action="act.0")["entries"]
    assert [entry["detail"]["n"] for entry in found] == [6, 0]
    assert console.error("/api/audit", 422, cursor="nonsense")["code"] == "invalid"
