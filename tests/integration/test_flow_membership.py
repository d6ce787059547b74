"""Who reads which partition: members beyond the partitions, members that come back, members that go while SQL is away.

Other members of the group are plain consumers where a test needs only that Kafka assigns partitions elsewhere.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from ops.local_services import start_postgres
from ops.service import Service
from storage.progress import ProgressRow
from tests.conftest import local
from tests.deployment import Deployment, WorkerProcess, deployed, wait_until
from tests.flow_fixtures import Deploy
from tests.integration.partitions import comes_to_pass, says
from tests.integration.test_flow_hanging import send

pytestmark = pytest.mark.timeout(240)

TOPICS = ("transactions", "engagements", "items", "feedback")


@contextmanager
def plain_members(deployment: Deployment, count: int) -> Iterator[list[Consumer]]:
    """Members of the workers' group that take partitions and read nothing; they leave at the end."""
    leaving = threading.Event()
    consumers = [
        Consumer(
            {
                "bootstrap.servers": deployment.kafka,
                "group.id": f"{deployment.prefix}headgate",
                "partition.assignment.strategy": "roundrobin",
                "enable.auto.commit": False,
            }
        )
        for _ in range(count)
    ]

    def stay(consumer: Consumer) -> None:
        consumer.subscribe([f"{deployment.prefix}{topic}" for topic in TOPICS])
        while not leaving.is_set():
            consumer.poll(0.05)
        consumer.close()

    threads = [threading.Thread(target=stay, args=(consumer,), daemon=True) for consumer in consumers]
    for thread in threads:
        thread.start()
    try:
        yield consumers
    finally:
        leaving.set()
        for thread in threads:
            thread.join(30)


def held(worker: WorkerProcess) -> set[tuple[str, int]] | None:
    """What a worker that is ready owns, of all topics; None while it is not ready."""
    if not worker.ready():
        return None
    health = worker.health()
    return {(each["topic"], each["partition"]) for each in health["partitions"]} if health["ready"] else None


def test_a_worker_beyond_the_partitions_is_ready_without_any_and_takes_over(deploy: Deploy) -> None:
    deployment = deploy(partitions=1)
    worker = deployment.worker().wait_ready()
    send(deployment, 0, 20)
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 20)
    with plain_members(deployment, len(TOPICS) + 1):
        wait_until("the worker is ready without any partition", lambda: held(worker) == set(), 90)
        send(deployment, 20, 40)
        assert not any(name.startswith("headgate_lag_records") for name in worker.metrics()), "not its own any more"
    wait_until("the worker owns all", lambda: len(held(worker) or ()) == len(TOPICS), 90)
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 40)
    assert deployment.faulty_partitions() == []
    assert worker.stop() == 0
    assert "Traceback" not in worker.output()


def test_a_worker_that_is_back_within_its_session_keeps_its_partitions_and_the_other_notices_nothing(
    deploy: Deploy,
) -> None:
    deployment = deploy(SESSION_TIMEOUT_SECONDS="60")
    first, second = deployment.worker("first"), deployment.worker("second")
    wait_until("they share all", lambda: len(held(first) or ()) == len(held(second) or ()) == len(TOPICS), 120)
    of_first, of_second = held(first), held(second)
    assert of_first is not None
    before = {row.topic: row.epoch for row in all_rows(deployment) if (row.topic, row.partition) in of_first}
    claims = first.output().count("partitions claimed")
    second.kill()
    send(deployment, 0, 40)
    back = deployment.worker("second").wait_ready()
    wait_until("it has its partitions again", lambda: held(back) == of_second)
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 40)
    assert held(first) == of_first
    assert {row.topic: row.epoch for row in all_rows(deployment) if (row.topic, row.partition) in of_first} == before
    assert first.output().count("partitions claimed") == claims
    assert [first.stop(), back.stop()] == [0, 0]


def test_a_worker_that_is_told_to_stop_hands_over_without_waiting_for_its_sessions_end(deploy: Deploy) -> None:
    deployment = deploy(SESSION_TIMEOUT_SECONDS="120")
    first, second = deployment.worker("first"), deployment.worker("second")
    wait_until("they share all", lambda: len(held(first) or ()) == len(held(second) or ()) == len(TOPICS), 120)
    assert second.stop() == 0
    wait_until("the other owns all", lambda: len(held(first) or ()) == 2 * len(TOPICS), 60)
    send(deployment, 0, 40)
    comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 40)
    assert first.stop() == 0
    assert "could not leave" not in first.output() + second.output()


def all_rows(deployment: Deployment) -> list[ProgressRow]:
    return [row for topic in TOPICS for row in deployment.progress(f"{deployment.prefix}{topic}").values()]


@pytest.fixture
def postgres_to_restart(service_folder: Path) -> Iterator[Service]:
    with local(lambda: start_postgres(service_folder, fsync=False)) as service:
        yield service


def test_partitions_that_are_taken_away_while_their_batch_waits_for_sql_lose_and_double_nothing(
    kafka_servers: str,
    postgres_to_restart: Service,
    redis_url: str,
    topic_prefix: str,
    detector: bytes,
    tmp_path: Path,
) -> None:
    url = postgres_to_restart.url
    with deployed(kafka_servers, url, redis_url, topic_prefix, tmp_path, detector) as deployment:
        worker = deployment.worker().wait_ready()
        send(deployment, 0, 40)
        comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 40)
        postgres_to_restart.kill()
        send(deployment, 40, 80)
        says(worker, "the database is away; the stream waits")
        with plain_members(deployment, 1):
            says(worker, "batches in flight were abandoned")
            says(worker, "cannot claim partitions yet")
            postgres_to_restart.start()
            wait_until("the worker has its share", lambda: len(held(worker) or ()) == len(TOPICS), 90)
        wait_until("the worker owns all", lambda: len(held(worker) or ()) == 2 * len(TOPICS), 90)
        comes_to_pass(deployment, "everything is read", lambda: deployment.outcomes() == 80)
        assert deployment.value("SELECT count(*) FROM predictions") == 80
        assert deployment.value("SELECT count(DISTINCT event_id) FROM predictions") == 80
        assert deployment.faulty_partitions() == []
        assert worker.stop() == 0
        assert "Traceback" not in worker.output()
