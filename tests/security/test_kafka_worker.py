"""Whole parts of Headgate on the secured broker: with the least rights they work, and refused they say one line."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation

from ops.bench.faults.load import Load, Mix, Rates
from ops.dashboard.sources import open_sources
from ops.settings import read_settings
from streams.kafka import KafkaRefused, KafkaSettings, create_topics, publish_confirmed
from streams.kafka_logs import log_bounds
from tests.deployment import Deployment, WorkerProcess, deployed, wait_until
from tests.secured_clients import Doors, allow_worker, variables
from tests.secured_kafka import ANY_TOPIC, SecuredKafka, password_of

Deploy = Callable[[KafkaSettings], Deployment]
STOP_SECONDS = 40.0


@pytest.fixture
def secured_deploy(
    secured: SecuredKafka, postgres_url: str, redis_url: str, topic_prefix: str, detector: bytes, tmp_path: Path
) -> Iterator[Deploy]:
    """Topics, schema and champion; what runs of it comes in by the settings given."""
    with ExitStack() as cleanup:

        def start(settings: KafkaSettings) -> Deployment:
            kafka = secured.admin_servers
            parts = deployed(kafka, postgres_url, redis_url, topic_prefix, tmp_path, detector, 2, **variables(settings))
            return cleanup.enter_context(parts)

        yield start


def headgate(deployment: Deployment, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        env=deployment.environment(**settings),
        cwd=deployment.folder,
        capture_output=True,
        text=True,
        timeout=90,
    )


def refusals(worker: WorkerProcess) -> dict[str, float]:
    """The worker's counter by reason."""
    name = 'headgate_kafka_refusals_total{reason="'
    return {sample[len(name) : -2]: count for sample, count in worker.metrics().items() if sample.startswith(name)}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("way", ["mutual TLS", "SCRAM over TLS", "tokens over TLS"])
def test_a_worker_scores_and_publishes_with_the_least_rights(
    secured: SecuredKafka, doors: Doors, secured_deploy: Deploy, way: str
) -> None:
    settings = {
        "mutual TLS": lambda: doors.mutual("worker"),
        "SCRAM over TLS": lambda: doors.password("SCRAM-SHA-512"),
        "tokens over TLS": lambda: doors.token(),
    }[way]()
    deployment = secured_deploy(settings)
    allow_worker(secured, "worker", deployment.prefix)
    worker = deployment.worker()
    worker.wait_ready()

    with Load(deployment, rates=Rates(200), mix=Mix(bad=0.05), seed=5) as load:
        deployment.wait_outcomes(400)
        load.stop()
    deployment.wait_outcomes(load.transactions)
    deployment.wait_relayed()

    assert len(deployment.records("dead-letters")) > 0
    assert refusals(worker) == {}
    assert worker.stop(STOP_SECONDS) == 0
    assert "others have to wait" not in worker.output()  # it could ask for its group
    assert "Traceback" not in worker.output()
    assert password_of("worker") not in worker.output()


@pytest.mark.timeout(180)
def test_producers_administrators_and_the_doctor_work_with_the_least_rights(
    secured: SecuredKafka, doors: Doors, secured_deploy: Deploy
) -> None:
    deployment = secured_deploy(doors.mutual("administrator"))
    prefix = deployment.prefix
    for topic in ("transactions", "feedback"):
        secured.allow("producer", ANY_TOPIC, f"{prefix}{topic}", [AclOperation.WRITE])
    administering = [AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS]
    secured.allow("administrator", ANY_TOPIC, f"{prefix}other.", administering)
    secured.allow("administrator", ANY_TOPIC, f"{prefix}headgate-doctor", administering)
    allow_worker(secured, "worker", prefix)

    sending = variables(doors.password("SCRAM-SHA-256", "producer"))
    sent = headgate(deployment, "simulate", "--kafka", "--events", "50", "--accounts", "20", "--json", **sending)
    created = headgate(deployment, "topics", "create", TOPIC_PREFIX=f"{prefix}other.")
    examined = headgate(deployment, "doctor", "--json", **variables(doors.token("worker")))

    assert sent.returncode == 0, sent.stderr
    bounds = log_bounds(
        KafkaSettings(secured.admin_servers), [(deployment.transactions, 0), (deployment.transactions, 1)]
    )
    assert sum(end - first for first, end in bounds.values()) == 50
    assert created.returncode == 0, created.stderr
    assert created.stdout.count(": created") == 9
    checks = {check["name"]: check for check in json.loads(examined.stdout)["checks"]}
    assert {name: checks[name]["status"] for name in ("kafka", "kafka security", "rights", "topics")} == dict.fromkeys(
        ("kafka", "kafka security", "rights", "topics"), "ok"
    )
    assert checks["kafka security"]["found"] == "SASL_SSL, OAUTHBEARER"


def test_the_console_looks_at_lags_and_sends_verdicts_with_the_least_rights(
    secured: SecuredKafka, doors: Doors, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = {f"{topic_prefix}{name}": {} for name in ("transactions", "feedback", "alerts")}
    create_topics(KafkaSettings(secured.admin_servers), topics, partitions=1, replication=1)
    secured.allow("dashboard", ANY_TOPIC, f"{topic_prefix}transactions", [AclOperation.DESCRIBE])
    secured.allow("dashboard", ANY_TOPIC, f"{topic_prefix}feedback", [AclOperation.WRITE])
    for name, value in variables(doors.password("SCRAM-SHA-512", "dashboard")).items():
        monkeypatch.setenv(f"HEADGATE_{name}", value)
    sources = open_sources(read_settings(None))

    try:
        places = [(f"{topic_prefix}transactions", 0), (f"{topic_prefix}feedback", 0)]  # and none of the alerts
        wait_until("the rights are in force", lambda: sources.broker.partitions(topics) == places)
        publish_confirmed(sources.kafka, f"{topic_prefix}feedback", b"key", b"value", 5.0)
        assert sources.broker.ends(places) == {places[0]: 0, places[1]: 1}
        with pytest.raises(KafkaRefused, match="Topic authorization failed"):
            publish_confirmed(sources.kafka, f"{topic_prefix}alerts", b"key", b"value", 5.0)
    finally:
        sources.close()


REFUSED: dict[str, tuple[Callable[[Doors], KafkaSettings], str]] = {
    "wrong password": (lambda doors: doors.password("SCRAM-SHA-512", password="x-secret"), "does not let us in"),
    "wrong authority": (
        lambda doors: doors.tls(authorities=doors.kafka.stranger.file),
        "unable to get local issuer certificate",
    ),
    "wrong host name": (lambda doors: doors.tls("ELSEWHERE"), "certificate is not valid for '127.0.0.1'"),
    "expired certificate": (lambda doors: doors.tls("EXPIRED"), "certificate has expired"),
    "denied topics": (lambda doors: doors.mutual("stranger"), "on topic"),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", REFUSED)
def test_worker_simulation_and_doctor_end_with_one_line_where_kafka_refuses(
    doors: Doors, secured_deploy: Deploy, case: str
) -> None:
    make, says = REFUSED[case]
    deployment = secured_deploy(make(doors))

    for arguments in (["worker"], ["simulate", "--kafka", "--events", "5"]):
        ended = headgate(deployment, *arguments)
        assert ended.returncode == 1
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("headgate: ")]
        assert says in line
        assert "Traceback" not in ended.stderr
        assert "x-secret" not in ended.stderr
    examined = headgate(deployment, "doctor", "--json")
    assert examined.returncode == 1
    assert "Traceback" not in examined.stderr
    failed = [check for check in json.loads(examined.stdout)["checks"] if check["status"] == "fail"]
    assert any(says in check["found"] and check["remedy"] for check in failed)


@pytest.mark.timeout(180)
def test_a_right_that_a_running_worker_loses_is_told_and_counted_and_it_goes_on_once_it_is_back(
    secured: SecuredKafka, doors: Doors, secured_deploy: Deploy
) -> None:
    deployment = secured_deploy(doors.mutual("worker"))
    letters = f"{deployment.prefix}dead-letters"
    allow_worker(secured, "worker", deployment.prefix)
    worker = deployment.worker()
    worker.wait_ready()

    secured.disallow("worker", ANY_TOPIC, letters, AclOperation.WRITE)
    producer = deployment.producer()
    producer.produce(deployment.transactions, b"no transaction", b"alice")
    producer.flush(10)
    wait_until("the refusal is counted", lambda: refusals(worker).get("authorization", 0) > 0, 60)
    assert "Kafka refuses this client" in worker.output()
    assert "Topic authorization failed" in worker.output()
    assert worker.process.poll() is None

    secured.allow("worker", ANY_TOPIC, letters, [AclOperation.WRITE])
    wait_until("the dead letter is out", lambda: deployment.records("dead-letters"))
    assert worker.stop(STOP_SECONDS) == 0
    assert "Traceback" not in worker.output()
