"""A worker of which a part stops working ends itself; one that only waits does not."""

import json
import time

import pytest
from confluent_kafka import Producer

from ops.hanging import EXIT_HANGS
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.integration.hanging_worker import PATIENCE
from tests.integration.partitions import comes_to_pass

pytestmark = pytest.mark.timeout(240)

PROGRAM = "tests.integration.hanging_worker"


def hanging(deployment: Deployment, part: str) -> WorkerProcess:
    return deployment.worker(part, (PROGRAM, part))


def send(deployment: Deployment, first: int, last: int, **settings: str) -> Producer:
    producer = deployment.producer(**settings)
    if settings:
        producer.init_transactions(30)
        producer.begin_transaction()
    for number in range(first, last):
        account = f"a{number % 5}"
        value = {
            "event_id": f"e{number}",
            "occurred_at": 1_773_489_600_000 + 1_000 * number,
            "account_id": account,
            "merchant_id": "m1",
            "amount": 10,
        }
        producer.produce(deployment.transactions, json.dumps(value).encode(), account.encode())
    assert producer.flush(30) == 0
    if settings:
        producer.commit_transaction(30)
    return producer


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("stuck-thread", "SQL stays at offset 0, although records before"),
        ("quiet-consumer", "although the log ends at"),
    ],
)
def test_a_worker_whose_part_stopped_ends_itself_says_where_and_another_goes_on(
    deployment: Deployment, part: str, said: str
) -> None:
    worker = hanging(deployment, part).wait_ready()
    send(deployment, 0, 20)
    if part == "quiet-consumer":
        comes_to_pass(deployment, "the first records are read", lambda: deployment.outcomes() > 0)
        send(deployment, 20, 40)
    assert worker.process.wait(90) == EXIT_HANGS
    output = worker.output()
    assert "the worker hangs and ends itself, to be started again" in output
    assert said in output, output[:4000]
    assert "Current thread" in output, "where each thread was"

    again = deployment.worker("healthy").wait_ready()
    sent = 40 if part == "quiet-consumer" else 20
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == sent)
    assert deployment.faulty_partitions() == []
    assert again.stop() == 0


def test_a_worker_that_has_read_everything_and_then_a_transaction_s_end_goes_on(deployment: Deployment) -> None:
    """The end of a transaction is an offset without a record: SQL stays before it until another record comes."""
    worker = hanging(deployment, "nothing").wait_ready()
    send(deployment, 0, 20, **{"transactional.id": deployment.prefix})
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 20)
    until = time.monotonic() + 3 * PATIENCE
    wait_until("three times the watchdog's patience", lambda: time.monotonic() > until)
    assert worker.ready()
    assert any(lag > 0 for name, lag in worker.metrics().items() if name.startswith("headgate_lag_records"))
    assert worker.stop() == 0
