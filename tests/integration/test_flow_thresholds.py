"""Thresholds that follow a budget: workers count every score once, through a kill and a takeover, and use one threshold
that is no longer the registered one."""

import time

import pytest

from models.artifact import TrainedDetector
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.flow_fixtures import Deploy
from tests.fraud_model import Traffic

THRESHOLD = "headgate_alert_threshold"


def send(deployment: Deployment, traffic: Traffic, count: int) -> None:
    producer = deployment.producer()
    for key, value in traffic.batch(count, round(time.time() * 1000)):
        producer.produce(deployment.transactions, key=key, value=value)
    assert producer.flush(30) == 0


def counted(deployment: Deployment) -> tuple[int, int, int]:
    """Events, flagged ones and opened alerts in the sketches of all partitions."""
    (row,) = deployment.sql(
        "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(flagged), 0)::bigint, "
        "coalesce(sum(opened), 0)::bigint FROM score_sketches"
    )
    return row[0], row[1], row[2]


def stored(deployment: Deployment) -> tuple[int, int, int]:
    (row,) = deployment.sql(
        "SELECT count(*), count(*) FILTER (WHERE flagged), (SELECT count(*) FROM alerts WHERE revision = 1) "
        "FROM predictions"
    )
    return row[0], row[1], row[2]


def threshold_of(worker: WorkerProcess) -> float:
    return worker.metrics().get(THRESHOLD, 0.0)


@pytest.mark.timeout(180)
def test_every_score_is_counted_once_through_a_kill_and_a_takeover_and_moves_the_threshold(
    deploy: Deploy, detector: bytes
) -> None:
    deployment = deploy(ALERT_RULE="budget:20")
    traffic = Traffic(seed=5, frauds=0.1)
    registered = TrainedDetector.from_bytes(detector).threshold
    killed = deployment.worker("first").wait_ready()
    for size in (400, 300, 300):  # the first batch's counts are written at once, the others wait in memory
        send(deployment, traffic, size)
        deployment.wait_outcomes(traffic.sent)
    killed.kill()
    send(deployment, traffic, 200)
    workers = [deployment.worker(name).wait_ready() for name in ("second", "third")]
    deployment.wait_outcomes(traffic.sent)
    wait_until("every score is counted", lambda: counted(deployment) == stored(deployment), 60)
    assert counted(deployment)[0] == traffic.sent
    assert counted(deployment)[2] > 20

    for worker in workers:
        assert worker.stop() == 0
    workers = [deployment.worker(name).wait_ready() for name in ("fourth", "fifth")]
    first, second = (wait_until("a threshold", lambda running=worker: threshold_of(running), 60) for worker in workers)
    assert first == second > registered
    wait_until(
        "events are scored with the new threshold",
        lambda: (
            send(deployment, traffic, 10) or deployment.value("SELECT max(threshold) FROM predictions") > registered
        ),
        60,
    )
