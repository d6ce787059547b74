"""Pseudonyms on a running deployment over a rotation of keys: histories begin anew, and what was made before is still
recognised: by feedback, by replay and by erasure."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ops.clock import utc_now
from storage.dead_letters import dead_letters
from streams.pseudonyms import Pseudonyms
from tests.deployment import Deployment, wait_until
from tests.fraud_model import transaction
from tests.security.leaks import everywhere, in_sql

pytestmark = pytest.mark.timeout(240)

FIRST = f"k1={base64.b64encode(bytes(range(40))).decode()}"
ROTATED = f"k2={base64.b64encode(bytes(range(60, 100))).decode()},{FIRST}"
ACCOUNT = "canary-person-77"


def now() -> int:
    return round(utc_now().timestamp() * 1000)


def send(deployment: Deployment, topic: str, *messages: tuple[bytes, bytes]) -> None:
    producer = deployment.producer()
    for key, value in messages:
        producer.produce(f"{deployment.prefix}{topic}", key=key, value=value)
    assert producer.flush(30) == 0


def payment(number: int, **more: Any) -> tuple[bytes, bytes]:
    return transaction(f"e{number}", ACCOUNT, now(), more.pop("amount", 20.0), **more)


def named(keys: str) -> list[str]:
    pseudonyms = Pseudonyms.of_keys(keys)
    assert pseudonyms is not None
    return pseudonyms.under_every_key(ACCOUNT)


def accounts(deployment: Deployment) -> dict[str, int]:
    """How many payments each has."""
    return {row[0]: row[1] for row in deployment.sql("SELECT account_id, count(*) FROM transactions GROUP BY 1")}


def test_a_new_key_begins_new_histories_and_old_pseudonyms_are_still_known(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy(PSEUDONYM_KEYS=FIRST, SNAPSHOT_SECONDS="0.5")
    old = deployment.worker().wait_ready()
    early = transaction("early", ACCOUNT, now() + 600_000, 20.0)
    send(deployment, "transactions", *map(payment, range(20)), payment(20, amount=9_900.0), early)
    deployment.wait_outcomes(22)
    deployment.wait_relayed()
    assert old.stop() == 0
    deployment.settings = {**deployment.settings, "PSEUDONYM_KEYS": ROTATED}
    deployment.worker("rotated").wait_ready()
    send(deployment, "transactions", payment(30), payment(0))
    deployment.wait_outcomes(24)
    current, before = named(ROTATED)
    assert accounts(deployment) == {before: 21, current: 2}, "e0 is no repeat for a history that begins anew"

    label = {"given_at": now(), "kind": "label", "label": "fraud"}
    by_name = json.dumps({**label, "feedback_id": "f1", "event_id": "e20"}).encode()
    by_pseudonym = json.dumps({**label, "feedback_id": "f2", "event_id": "e1"}).encode()
    send(deployment, "feedback", (ACCOUNT.encode(), by_name), (before.encode(), by_pseudonym))
    deployment.wait_outcomes(2, topic=deployment.feedback)
    wait_until("labels are joined", lambda: not deployment.sql("SELECT 1 FROM feedback WHERE status <> 'joined'"))
    given = dict(map(tuple, deployment.sql("SELECT feedback_id, entity_id FROM feedback")))
    assert given == {"f1": current, "f2": before}
    assert in_sql(deployment, ACCOUNT) == []

    replayed_by_its_place(deployment)
    erased = deployment.headgate("erase", "--account", ACCOUNT, "--yes", "--json")
    assert erased.returncode == 0, erased.stderr
    assert accounts(deployment) == {}
    assert [everywhere(deployment, name) for name in (current, before, ACCOUNT)] == [[], [], []]


def replayed_by_its_place(deployment: Deployment) -> None:
    """Of the event from the future nothing was kept; it is read from Kafka again, under the key of before."""
    with deployment.database.reading() as connection:
        (letter,) = dead_letters(connection, limit=5, code=None, replayed=None)
    assert (letter.record_key, letter.payload, (letter.sha256 or "")[:3]) == (None, None, "k1.")
    assert letter.is_withheld
    replay = deployment.headgate("dlq", "replay")
    assert (replay.returncode, replay.stdout) == (0, "1 sent again\n"), replay.stderr
    found = [record for record in deployment.records("transactions") if b'"early"' in record.value]
    assert len({(record.key, record.value) for record in found}) == 1
    assert len(found) == 2
    rescale = deployment.headgate("rescale")
    assert rescale.returncode == 1
    assert "with pseudonyms on nobody can tell which partition" in rescale.stderr
