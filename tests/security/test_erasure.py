"""`headgate erase` on a running deployment: nothing is found of who was erased, and nothing brings him back."""

import base64
import json
import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from ops.clock import utc_now
from ops.jobs import erase as job
from ops.settings import Settings
from streams.erasing import SnapshotEraser
from streams.partitioners import partition_of
from streams.pseudonyms import Pseudonyms
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.fraud_model import Traffic, transaction
from tests.security.leaks import everywhere
from tests.shop_traffic import ITEMS, Shop, send_items

pytestmark = pytest.mark.timeout(290)

KEYS = f"k2={base64.b64encode(bytes(range(60, 100))).decode()},k1={base64.b64encode(bytes(range(40))).decode()}"
TABLES = ("predictions", "transactions")
_number = count()


def in_partition(partition: int, name: str) -> str:
    """An id whose records producers put there."""
    return next(
        one for one in (f"{name}-{number}" for number in count()) if partition_of("murmur2", one, 2) == partition
    )


#: Who is erased, one who did the same and is not, and newcomers.
SUBJECT, TWIN = in_partition(0, "canary-subject"), in_partition(0, "twin")
NEW, NEWER = in_partition(1, "new"), in_partition(1, "newer")


def send(deployment: Deployment, messages: Sequence[tuple[bytes, bytes]], topic: str = "transactions") -> None:
    producer = deployment.producer(partitioner="murmur2_random")
    for key, value in messages:
        producer.produce(f"{deployment.prefix}{topic}", key=key, value=value)
    assert producer.flush(30) == 0


def now() -> int:
    return round(utc_now().timestamp() * 1000)


def history_of(account: str) -> list[tuple[bytes, bytes]]:
    """Payments that alert at the end, and one that is broken."""
    usual = [transaction(f"{account}-{number}", account, now(), 20.0 + number) for number in range(30)]
    large = [transaction(f"{account}-large-{number}", account, now(), 9_900.0) for number in range(3)]
    return [*usual, *large, (account.encode(), b'{"account_id": "' + account.encode() + b'", "amount": "none"}')]


def label_of(account: str) -> tuple[bytes, bytes]:
    given = {"feedback_id": f"f-{account}", "given_at": now(), "kind": "label", "label": "fraud"}
    return account.encode(), json.dumps({**given, "event_id": f"{account}-large-0"}).encode()


def prepare(deployment: Deployment) -> WorkerProcess:
    """A worker that knows many accounts and users, all of it published and in snapshots."""
    send_items(deployment)
    worker = deployment.worker(SNAPSHOT_SECONDS="0.5", LOG_LEVEL="debug").wait_ready()
    shop, user = Shop(), f"user-of-{SUBJECT}"
    wait_until(
        "the catalogue is taken in",
        lambda: worker.metrics().get('headgate_catalogue_items{state="available"}') == len(ITEMS),
    )
    others = Traffic(frauds=0.02).batch(400, now())
    send(deployment, [*others, *history_of(SUBJECT), *history_of(TWIN)])
    deployment.wait_outcomes(400 + 2 * 34)
    shop.send(deployment, 60)
    shop.send(deployment, 20, user_id=user, action="click")
    deployment.wait_outcomes(80, topic=f"{deployment.prefix}engagements")
    send(deployment, [label_of(SUBJECT), label_of(TWIN)], "feedback")
    deployment.wait_outcomes(2, topic=deployment.feedback)
    deployment.wait_relayed()
    wait_until("snapshots of all", lambda: not deployment.sql(UNSAVED))
    return worker


#: Partitions that keep state and have no snapshot at SQL's offset.
UNSAVED = """
SELECT p.topic, p.partition FROM stream_progress p WHERE (p.topic LIKE '%transactions' OR p.topic LIKE '%engagements')
AND p.next_offset > 0 AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.topic_generation = p.topic_generation
AND s.partition = p.partition AND s.next_offset = p.next_offset)
"""


def erase(deployment: Deployment, *who: str) -> dict[str, Any]:
    done = deployment.headgate("erase", *who, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def difference(deployment: Deployment, one: str, other: str, called: Callable[[str], str]) -> float:
    """Between the scores of the same payment by two accounts of different partitions, to a merchant whom nobody paid
    before."""
    number, at = next(_number), now()
    event_ids = [f"later-{number}-{place}" for place in (0, 1)]
    payments = [
        transaction(event_id, account, at, 35.0, merchant_id=f"new-merchant-{number}")
        for event_id, account in zip(event_ids, (one, other), strict=True)
    ]
    send(deployment, payments)
    stored = "SELECT score, account_id FROM predictions WHERE event_id = ANY(:events) ORDER BY event_id"
    rows = wait_until("both are scored", lambda: len(found := deployment.sql(stored, events=event_ids)) == 2 and found)
    assert [row.account_id for row in rows] == [called(one), called(other)]
    return abs(float(rows[0].score) - float(rows[1].score))


def erased_and_forgotten(deployment: Deployment, called: Callable[[str], str]) -> None:
    worker = prepare(deployment)
    user = f"user-of-{SUBJECT}"
    before = everywhere(deployment, called(SUBJECT))
    assert {"sql predictions.account_id", "sql alerts.account_id", "sql feedback.entity_id"} <= {*before}
    assert any(place.startswith("redis") for place in before)
    assert any(place.startswith("snapshot") for place in before)
    others = deployment.value("SELECT count(*) FROM predictions WHERE account_id <> :name", name=called(SUBJECT))

    account_gone, user_gone = erase(deployment, "--account", SUBJECT), erase(deployment, "--user", user)

    assert account_gone["rows"]["predictions"] == account_gone["rows"]["transactions"] == 33
    assert account_gone["rows"]["feedback"] == 1
    assert user_gone["rows"]["engagements"] == 20
    assert user_gone["rows"]["recommendation_items"] > 0
    assert account_gone["unclaimed"] == user_gone["unclaimed"] == []
    for name in (SUBJECT, called(SUBJECT), user, called(user)):
        assert everywhere(deployment, name) == []
    assert SUBJECT not in json.dumps(account_gone) + json.dumps(user_gone)
    assert others == deployment.value("SELECT count(*) FROM predictions")
    assert deployment.faulty_partitions() == []

    assert difference(deployment, SUBJECT, NEW, called) < 1e-5
    assert difference(deployment, TWIN, NEWER, called) > 1e-3
    worker.kill()
    deployment.worker(SNAPSHOT_SECONDS="0.5").wait_ready()
    assert difference(deployment, SUBJECT, NEW, called) < 1e-5
    assert deployment.value("SELECT count(*) FROM predictions WHERE account_id = :name", name=called(SUBJECT)) == 2
    again = erase(deployment, "--account", SUBJECT)
    assert again["rows"]["predictions"] == 2, "its later events are a history of their own"
    assert everywhere(deployment, called(SUBJECT)) == []


def test_nothing_is_found_of_an_erased_account_and_nothing_brings_it_back(deployment: Deployment) -> None:
    erased_and_forgotten(deployment, lambda name: name)


def test_a_clear_id_erases_what_is_stored_under_its_pseudonym(deploy: Callable[..., Deployment]) -> None:
    pseudonyms = Pseudonyms.of_keys(KEYS)
    assert pseudonyms is not None
    erased_and_forgotten(deploy(PSEUDONYM_KEYS=KEYS), pseudonyms.of)


def erased_here(deployment: Deployment, wait_seconds: float) -> None:
    """By this process, so that a test can take a defence out."""
    environment = deployment.environment()
    names = ("KAFKA", "DATABASE", "REDIS", "REDIS_PREFIX", "TOPIC_PREFIX")
    values: dict[str, Any] = {name.lower(): environment[f"HEADGATE_{name}"] for name in names}
    settings = Settings(**values, state=str(deployment.folder / "state-snapshots"), _env_file=None)
    job.erase(settings, deployment.database, "account", SUBJECT, clock=utc_now, wait_seconds=wait_seconds)


def test_without_the_new_epoch_the_worker_goes_on_with_what_it_remembers(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: the erased account's next event is scored with its history."""
    prepare(deployment)
    monkeypatch.setattr(job, "fence", lambda connection, places, now: [])
    erased_here(deployment, 0)
    assert difference(deployment, SUBJECT, NEW, lambda name: name) > 1e-3


def test_without_new_snapshots_a_restore_brings_the_account_back(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(deployment)
    monkeypatch.setattr(SnapshotEraser, "rewrite", lambda *_: 0)
    erased_here(deployment, 30)
    assert difference(deployment, SUBJECT, NEW, lambda name: name) > 1e-3


def test_an_account_that_goes_on_paying_while_it_is_erased_harms_no_count(deployment: Deployment) -> None:
    deployment.worker(SNAPSHOT_SECONDS="0.2").wait_ready()
    ended, sent = threading.Event(), count()

    def pay() -> None:
        while not ended.is_set():
            send(deployment, [transaction(f"busy-{next(sent)}", name, now(), 20.0) for name in (SUBJECT, TWIN) * 20])

    paying = threading.Thread(target=pay)
    paying.start()
    try:
        deployment.wait_outcomes(400)
        removed = sum(erase(deployment, "--account", SUBJECT)["rows"]["predictions"] for _ in range(3))
    finally:
        ended.set()
        paying.join()
    total = next(sent)
    deployment.wait_outcomes(total)
    assert removed > 0
    assert deployment.faulty_partitions() == []
    kept = "SELECT account_id, count(*) FROM {} GROUP BY account_id"
    predictions, transactions = (dict(map(tuple, deployment.sql(kept.format(table)))) for table in TABLES)
    assert predictions == transactions
    assert predictions[TWIN] == total // 2
    assert predictions.get(SUBJECT, 0) + removed == total // 2, "each of its payments was scored once"
    erase(deployment, "--account", SUBJECT)
    assert everywhere(deployment, SUBJECT) == []
