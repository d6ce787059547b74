"""Canaries: secrets, a card, an account and a memo go down every path of a deployment with pseudonyms on, and nothing
that it writes holds one of them. Without pseudonyms the same search finds them."""

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from psycopg import sql
from sqlalchemy.engine import make_url

from ops.clock import utc_now
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.fraud_model import Traffic, transaction
from tests.security.leaks import in_folder, in_pages, in_redis, in_sql, in_topics
from tests.shop_traffic import Shop, send_items

pytestmark = pytest.mark.timeout(290)

SECRET, TOKEN = "canary-database-secret", "canary-dashboard-token"
KEY = base64.b64encode(bytes(range(150, 190))).decode()
ACCOUNT, CARD, WORD = "canary-account-0815", "4929000011112222", "canarygrandmother"
MEMO = f"gift for {WORD} {CARD}"
PEOPLE = (ACCOUNT, CARD, WORD)
#: What somebody may be told by his own request, and nobody else by anything that is written.
SECRETS = (SECRET, TOKEN, KEY)


def now() -> int:
    return round(utc_now().timestamp() * 1000)


def send(deployment: Deployment, topic: str, messages: Sequence[tuple[bytes | None, bytes | None]]) -> None:
    producer = deployment.producer(partitioner="murmur2_random")
    for key, value in messages:
        producer.produce(f"{deployment.prefix}{topic}", key=key, value=value)
    assert producer.flush(30) == 0


def encoded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def payments() -> list[tuple[bytes | None, bytes | None]]:
    """Good ones that alert at the end, and one that is broken in each way."""
    own = [transaction(f"p{number}", ACCOUNT, now(), 20.0, memo=MEMO, card=CARD) for number in range(20)]
    own += [transaction(f"large{number}", ACCOUNT, now(), 9_900.0, memo=MEMO, merchant_id="odd") for number in range(3)]
    good: Mapping[str, Any] = json.loads(own[0][1])
    key = ACCOUNT.encode()
    broken = [
        encoded(**{**good, "amount": CARD}),
        encoded(**{**good, "occurred_at": CARD}),
        encoded(**{**good, "memo": "\0" + MEMO}),
        encoded(**{**good, "memo": MEMO * 30_000}),
        encoded(**{**good, "event_id": MEMO * 20}),
        own[0][1][:-20],
        MEMO.encode() + b"\xff",
    ]
    return [*own, *((key, value) for value in broken), (b"other", own[0][1]), (None, own[0][1]), (key, None), own[0]]


def engagements() -> list[tuple[bytes | None, bytes | None]]:
    good = {"event_id": "v", "occurred_at": now(), "user_id": ACCOUNT, "item_id": "item-3", "action": "click"}
    key = ACCOUNT.encode()
    return [
        *((key, encoded(**{**good, "event_id": f"v{number}", "note": MEMO})) for number in range(10)),
        (key, encoded(**{**good, "action": CARD})),
        (key, encoded(**{**good, "item_id": MEMO * 20})),
        (b"other", encoded(**good)),
        (key, encoded(**{**good, "event_id": "v0"})),
    ]


def feedback() -> list[tuple[bytes | None, bytes | None]]:
    good = {"feedback_id": "f", "given_at": now(), "kind": "label", "label": "fraud", "event_id": "large0"}
    key = ACCOUNT.encode()
    return [
        (key, encoded(**{**good, "note": MEMO})),
        (key, encoded(**{**good, "feedback_id": "f2", "label": CARD})),
        (key, encoded(**{**good, "feedback_id": "f3", "kind": MEMO})),
        (key, encoded(**good)),
        (MEMO.encode() * 20, encoded(**good)),
    ]


def items() -> list[tuple[bytes | None, bytes | None]]:
    return [
        (b"item-x", encoded(item_id=ACCOUNT, title="a thing", price=1.0)),
        (b"item-y", encoded(item_id="item-y", price=CARD)),
        (b"item-z", MEMO.encode()),
    ]


@dataclass
class Console:
    """`headgate dashboard` as a process."""

    process: "subprocess.Popen[bytes]"
    log: Path
    url: str
    said: list[str] = field(default_factory=list)


@pytest.fixture
def guarded(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch, postgres_url: str, redis_url: str
) -> Iterator[Callable[..., Deployment]]:
    """guarded(**settings): a deployment whose database and Redis ask for the canary secret."""
    url, role = make_url(postgres_url), "canary_role"
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(sql.Identifier(role), SECRET))
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.execute_command("ACL", "SETUSER", "canary", "on", f">{SECRET}", "~*", "&*", "+@all")

        def start(**settings: str) -> Deployment:
            address = url.set(username=role, password=SECRET).render_as_string(hide_password=False)
            given = {
                "DATABASE": address,
                "REDIS": redis_url.replace("redis://", f"redis://canary:{SECRET}@"),
                "DASHBOARD_TOKENS": f"operator={TOKEN}",
                "LOG_LEVEL": "debug",
                "PUBLISH_PREDICTIONS": "true",
                "SNAPSHOT_SECONDS": "0.5",
            }
            return deploy(**{**given, **settings})

        yield start
        client.execute_command("ACL", "DELUSER", "canary")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def console(deployment: Deployment) -> Console:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = deployment.folder / "console.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops", "dashboard"],
            env=deployment.environment(DASHBOARD_PORT=str(port)),
            cwd=deployment.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Console(process, log, f"http://127.0.0.1:{port}")


def ask(shown: Console) -> None:
    """Requests with canaries in paths, queries, headers and bodies, good and bad."""
    with httpx.Client(base_url=shown.url, timeout=20) as client:

        def answers() -> bool:
            try:
                return client.get("/api/alerts").status_code == 401
            except httpx.TransportError:
                return False

        wait_until("the console answers", answers)
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        listed = client.get("/api/alerts", params={"account": ACCOUNT, "search": CARD})
        assert listed.status_code == 200
        assert client.get(f"/api/recommendations/{ACCOUNT}").status_code in (200, 404), (
            "known by its pseudonym or clear"
        )
        for path in (f"/api/alerts/{CARD}", f"/api/{WORD}"):
            assert client.get(path).status_code == 404
        for body in ({"kind": "label", "event_id": CARD, "label": WORD}, {"kind": WORD}, {WORD: CARD}, [MEMO]):
            assert client.post("/api/feedback", json=body).status_code in (404, 422)
        for kind, refused in (("application/json", 422), ("text/plain", 415)):
            broken = client.post("/api/feedback", content=MEMO.encode() + b"\xff", headers={"Content-Type": kind})
            assert broken.status_code == refused
        given = {"kind": "label", "feedback_id": "by-hand", "event_id": "large1", "label": "fraud"}
        assert client.post("/api/feedback", json=given).status_code == 202
        client.headers["Authorization"] = f"Bearer {TOKEN}-{CARD}"
        assert client.get("/api/alerts").status_code == 401


def fails_to_connect(deployment: Deployment) -> list[str]:
    """What commands say whose services are not there, although the URL has the password."""
    absent = {"DATABASE": f"postgresql://someone:{SECRET}@127.0.0.1:9/x", "REDIS": f"redis://:{SECRET}@127.0.0.1:9/0"}
    said = []
    for arguments in (["doctor"], ["dlq", "list"], ["redis", "rebuild"], ["erase", "--account", ACCOUNT, "--yes"]):
        for changed in ({"DATABASE": absent["DATABASE"]}, {"REDIS": absent["REDIS"]}, {"PSEUDONYM_KEYS": f"x={KEY}!"}):
            done = subprocess.run(
                [sys.executable, "-m", "ops", *arguments],
                env=deployment.environment(**changed),
                cwd=deployment.folder,
                capture_output=True,
                text=True,
                timeout=90,
            )
            said.append(done.stdout + done.stderr)
    return said


def run_all(deployment: Deployment) -> tuple[WorkerProcess, Console]:
    """Every path once; all of it stored and published at the end."""
    worker = deployment.worker().wait_ready()
    send_items(deployment)
    send(deployment, "transactions", [*Traffic(frauds=0.0).batch(200, now()), *payments()])
    deployment.wait_outcomes(200 + len(payments()))
    send(deployment, "engagements", engagements())
    Shop().send(deployment, 30)
    send(deployment, "items", items())
    send(deployment, "feedback", feedback())
    deployment.wait_outcomes(len(engagements()) + 30, topic=f"{deployment.prefix}engagements")
    deployment.wait_outcomes(len(feedback()), topic=deployment.feedback)
    shown = console(deployment)
    try:
        ask(shown)
        deployment.wait_outcomes(len(feedback()) + 1, topic=deployment.feedback)
        deployment.wait_relayed()
        wait_until("a snapshot", lambda: deployment.value("SELECT count(*) FROM snapshots") > 0)
        assert deployment.value("SELECT count(*) FROM alerts") > 0
    finally:
        shown.process.terminate()
        shown.process.wait(30)
    return worker, shown


def leaks_of(deployment: Deployment, worker: WorkerProcess, canary: str) -> list[str]:
    """In logs of all processes, snapshots and models, which all lie in the deployment's folder, and everywhere else."""
    return [
        *in_sql(deployment, canary),
        *in_redis(deployment, canary),
        *in_topics(deployment, canary),
        *in_pages(worker, canary),
        *in_folder(deployment.folder, canary),
    ]


def test_no_canary_is_found_in_anything_that_is_written(guarded: Callable[..., Deployment]) -> None:
    deployment = guarded(PSEUDONYM_KEYS=f"k1={KEY}")
    worker, _ = run_all(deployment)
    found = {canary: leaks_of(deployment, worker, canary) for canary in (*PEOPLE, *SECRETS)}
    assert {canary: places for canary, places in found.items() if places} == {}
    for said in fails_to_connect(deployment):
        assert [canary for canary in (*PEOPLE, *SECRETS) if canary in said] == []


def test_without_pseudonyms_the_search_finds_every_canary_of_people(guarded: Callable[..., Deployment]) -> None:
    deployment = guarded()
    worker, _ = run_all(deployment)
    account, card, word = (leaks_of(deployment, worker, canary) for canary in PEOPLE)
    assert {"transactions.account_id", "alerts.account_id", "dead_letters.payload", "alerts", "dead-letters"} <= {
        *account
    }
    assert {"transactions.memo", "transactions.extra", "dead_letters.payload", "dead-letters"} <= {*card}
    assert {"transactions.memo", "dead_letters.payload", "dead-letters"} <= {*word}
    assert any(place.startswith(f"{deployment.prefix}risk:") for place in account)
    assert any(place.startswith("state-snapshots/") for place in account)
