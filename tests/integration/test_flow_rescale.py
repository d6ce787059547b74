"""A topic gets more partitions: the new ones stand still until a rescale, then every account's state is where it is."""

import json
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions
from sqlalchemy import text

from ops.clock import utc_now
from storage.exclusive import exclusively
from storage.partition_counts import settle_count
from storage.progress import claim_partitions
from streams.kafka import KafkaSettings, admin_client, describe_topics
from streams.partitioners import partition_of
from tests.deployment import Deployment, wait_until
from tests.integration.partitions import comes_to_pass, says, stopped

pytestmark = pytest.mark.timeout(300)

ACCOUNTS = [f"account-{number}" for number in range(24)]
MOVED = [account for account in ACCOUNTS if partition_of("murmur2", account, 4) >= 2]


def send(deployment: Deployment, first: int, last: int) -> None:
    """Payments number `first` to `last`, to the partitions where Java's clients put them."""
    producer = deployment.producer(partitioner="murmur2_random")
    for number in range(first, last):
        account = ACCOUNTS[number % len(ACCOUNTS)]
        value = {
            "event_id": f"e{number}",
            "occurred_at": 1_773_489_600_000 + 1_000 * number,
            "account_id": account,
            "merchant_id": "m1",
            "amount": 10,
        }
        producer.produce(deployment.transactions, json.dumps(value).encode(), account.encode())
    assert producer.flush(30) == 0


def raise_partitions(deployment: Deployment, topic: str, partitions: int) -> None:
    admin = admin_client(KafkaSettings(deployment.kafka))
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)


def read(deployment: Deployment, records: int) -> None:
    comes_to_pass(deployment, f"{records} outcomes", lambda: deployment.outcomes() == records)


def test_after_a_rescale_accounts_are_known_in_their_new_partitions(deployment: Deployment) -> None:
    assert 6 <= len(MOVED) <= 18, "else the test shows nothing"
    worker = deployment.worker().wait_ready()
    send(deployment, 0, 240)
    read(deployment, 240)
    nothing = deployment.headgate("rescale")
    assert (nothing.returncode, nothing.stdout) == (
        0,
        "no topic has more partitions than its state was built with\n",
    )

    engagements = f"{deployment.prefix}engagements"
    for topic in (deployment.transactions, engagements, f"{deployment.prefix}items"):
        raise_partitions(deployment, topic, 4)
    added = {
        (topic, number, "partitions_added") for topic in (deployment.transactions, engagements) for number in (2, 3)
    }
    wait_until("the running worker notices", lambda: stopped(worker) == added, 150)
    assert "`headgate rescale` rebuilds state" in says(worker, "stands still", f"{deployment.transactions}/2")
    producer = deployment.producer()  # one that knows of the new partitions
    assert len(producer.list_topics(deployment.transactions, 20).topics[deployment.transactions].partitions) == 4
    send(deployment, 240, 480)
    stay = sum(ACCOUNTS[number % len(ACCOUNTS)] not in MOVED for number in range(240, 480))
    read(deployment, 240 + stay)
    assert worker.health()["ready"]

    done = deployment.headgate("rescale", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["topic"]: each for each in json.loads(done.stdout.splitlines()[-1])["rescaled"]}
    assert (found[deployment.transactions]["partitioner"], found[deployment.transactions]["partitions"]) == (
        "murmur2",
        4,
    )
    assert found[engagements]["partitioner"] is None
    read(deployment, 480)
    wait_until("nothing stands still", lambda: not stopped(worker))

    send(deployment, 0, 24)  # what was sent before all that, once more
    read(deployment, 504)
    duplicates = deployment.sql("SELECT entity_id, source_partition FROM duplicates")
    assert {row.entity_id: row.source_partition for row in duplicates} == {
        account: partition_of("murmur2", account, 4) for account in ACCOUNTS
    }
    assert deployment.faulty_partitions() == []
    assert worker.stop() == 0

    again = deployment.worker("again").wait_ready()  # restored from SQL alone
    send(deployment, 24, 48)
    read(deployment, 528)
    assert deployment.value("SELECT count(*) FROM duplicates") == 48
    assert again.stop() == 0
    assert "Traceback" not in worker.output() + again.output()


def test_a_rescale_refuses_while_old_partitions_have_records_to_read_and_says_which(deployment: Deployment) -> None:
    worker = deployment.worker().wait_ready()
    send(deployment, 0, 48)
    read(deployment, 48)
    assert worker.stop() == 0
    send(deployment, 48, 96)
    raise_partitions(deployment, deployment.transactions, 3)
    refused = deployment.headgate("rescale")
    assert refused.returncode == 1
    assert "records of before are still to be read" in refused.stderr
    assert f"{deployment.transactions}/0" in refused.stderr
    with exclusively(deployment.database, "prune"):
        assert "another prune is running" in deployment.headgate("rescale", "--now").stderr
    wrong = deployment.headgate("rescale", "--topic", "items")
    assert "keeps no state by key" in wrong.stderr
    unknown = deployment.headgate("rescale", "--now", "--partitioner", "md5")
    assert "must be one of murmur2, crc32, fnv1a, any" in unknown.stderr
    assert deployment.value("SELECT count(*) FROM partition_counts WHERE version > 1") == 0


def test_the_ends_of_transactions_are_not_to_be_read_before_a_rescale(deployment: Deployment) -> None:
    """SQL stays at the offset after the last record for ever."""
    producer = deployment.producer(**{"transactional.id": deployment.prefix})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in (0, 1):
        for _ in range(3):
            producer.produce(deployment.transactions, b"{}", partition=partition)
    producer.commit_transaction(30)
    uuid = describe_topics(KafkaSettings(deployment.kafka), [deployment.transactions])[deployment.transactions].uuid
    topic: dict[str, Any] = {"topic": deployment.transactions, "topic_uuid": uuid, "now": utc_now()}
    settle_count(deployment.database, **topic, partitions=2, keyed=True, by="worker")
    claim_partitions(deployment.database, **topic, start_offsets={0: 3, 1: 2}, owner="worker", backend_pid=None)
    raise_partitions(deployment, deployment.transactions, 3)
    behind = deployment.headgate("rescale")
    assert f"({deployment.transactions}/1 2)" in behind.stderr, "its last record is yet to be read"
    with deployment.database.begin() as connection:
        connection.execute(text("UPDATE stream_progress SET next_offset = 3 WHERE partition = 1"))
    assert deployment.headgate("rescale").returncode == 0
    assert deployment.value("SELECT max(version) FROM partition_counts") == 2
