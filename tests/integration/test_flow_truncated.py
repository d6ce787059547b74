"""Kafka drops records before they are read: that partition stands still, the others go on, a command accepts it."""

import json
import signal

import pytest
from confluent_kafka import TopicPartition

from streams.kafka import KafkaSettings, admin_client
from tests.deployment import Deployment, wait_until
from tests.integration.partitions import comes_to_pass, says, stopped

pytestmark = pytest.mark.timeout(240)


def send(deployment: Deployment, partition: int, first: int, last: int) -> None:
    """Payments number `first` to `last`, straight into one partition."""
    producer = deployment.producer()
    for number in range(first, last):
        account = f"p{partition}-{number % 5}"
        value = {
            "event_id": f"{partition}-{number}",
            "occurred_at": 1_773_489_600_000 + 1_000 * number,
            "account_id": account,
            "merchant_id": "m1",
            "amount": 10,
        }
        producer.produce(deployment.transactions, json.dumps(value).encode(), account.encode(), partition)
    assert producer.flush(30) == 0


def drop(deployment: Deployment, partition: int, before: int) -> None:
    """As retention does it."""
    admin = admin_client(KafkaSettings(deployment.kafka))
    place = TopicPartition(deployment.transactions, partition, before)
    for future in admin.delete_records([place]).values():
        future.result(30)


def read_until(deployment: Deployment, ends: dict[int, int]) -> None:
    def there() -> bool:
        progress = deployment.progress()
        return all(number in progress and progress[number].next_offset == end for number, end in ends.items())

    comes_to_pass(deployment, f"SQL is at {ends}", there)


def test_a_partition_truncated_while_no_worker_ran_stands_still_until_its_loss_is_accepted(
    deployment: Deployment,
) -> None:
    for partition in (0, 1):
        send(deployment, partition, 0, 50)
    first = deployment.worker()
    read_until(deployment, {0: 50, 1: 50})
    assert first.stop() == 0
    for partition in (0, 1):
        send(deployment, partition, 50, 100)
    drop(deployment, 1, 80)

    worker = deployment.worker().wait_ready()
    read_until(deployment, {0: 100, 1: 50})
    assert stopped(worker) == {(deployment.transactions, 1, "truncated")}
    line = says(worker, "stands still", f"{deployment.transactions}/1")
    assert "next offset is 50, but Kafka's log begins at 80: 30 records are gone" in line
    assert worker.health()["ready"]
    label = f'headgate_partitions_stopped{{reason="truncated",topic="{deployment.transactions}"}}'
    assert worker.metrics()[label] == 1
    send(deployment, 0, 100, 120)
    read_until(deployment, {0: 120, 1: 50})

    command = ("accept-loss", "--topic", "transactions", "--partition")
    asked = deployment.headgate(*command, "1")
    assert (asked.returncode, "--yes would give up" in asked.stderr) == (1, True)
    assert "offsets 50 to 79, 30 records" in asked.stderr
    nothing = deployment.headgate(*command, "0", "--yes")
    assert (nothing.returncode, "lacks nothing" in nothing.stderr) == (1, True)
    assert deployment.progress()[1].next_offset == 50
    done = deployment.headgate(*command, "1", "--yes", "--why", "retention of an hour", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["lost"] == 30

    read_until(deployment, {0: 120, 1: 100})
    wait_until("nothing stands still", lambda: not stopped(worker))
    assert label not in worker.metrics()
    row = deployment.progress()[1]
    assert (row.applied, row.lost, row.gaps) == (70, 30, 0)
    assert deployment.faulty_partitions() == []
    (kept,) = deployment.sql("SELECT from_offset, to_offset, why FROM accepted_losses")
    assert tuple(kept) == (50, 80, "retention of an hour")
    assert worker.stop() == 0
    assert "Traceback" not in worker.output()


def test_a_partition_truncated_ahead_of_a_running_worker_stands_still_and_goes_on_alike(
    deployment: Deployment,
) -> None:
    worker = deployment.worker().wait_ready()
    for partition in (0, 1):
        send(deployment, partition, 0, 10)
    read_until(deployment, {0: 10, 1: 10})
    worker.signal(signal.SIGSTOP)
    assert deployment.value("SELECT count(*) FROM transactions") == 20  # meanwhile the fetch at hand ends at the broker
    for partition in (0, 1):
        send(deployment, partition, 10, 50)
    drop(deployment, 1, 40)
    worker.signal(signal.SIGCONT)

    read_until(deployment, {0: 50, 1: 10})
    wait_until("it stands still", lambda: stopped(worker) == {(deployment.transactions, 1, "truncated")})
    assert "next offset is 10, but Kafka's log begins at 40: 30 records are gone" in worker.health()["warnings"][0]
    send(deployment, 0, 50, 60)
    read_until(deployment, {0: 60, 1: 10})
    assert worker.health()["ready"]

    done = deployment.headgate("accept-loss", "--topic", deployment.transactions, "--partition", "1", "--yes")
    assert done.returncode == 0, done.stderr
    read_until(deployment, {0: 60, 1: 50})
    row = deployment.progress()[1]
    assert (row.applied, row.lost) == (20, 30)
    assert deployment.faulty_partitions() == []
    assert worker.stop() == 0
    assert "Traceback" not in worker.output()
