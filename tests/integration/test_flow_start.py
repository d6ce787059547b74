"""How a worker starts where something is absent, and how it ends: one clear line each, and no traceback."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from ops.bench.faults.load import Load, Rates
from ops.local_services import start_kafka, start_postgres, start_redis
from ops.service import LOOPBACK, free_port
from storage.database import upgrade
from tests.conftest import local
from tests.deployment import Deployment, WorkerProcess, deployed, wait_until

DATABASE_PASSWORD, REDIS_PASSWORD = "hunter2-in-sql", "hunter2-in-redis"
STOP_SECONDS = 40.0


@pytest.fixture
def unused_port() -> int:
    return free_port()


def says(worker: WorkerProcess, *words: str) -> str:
    """The worker's first line that holds all of the words, once there is one."""

    def line() -> str | None:
        assert worker.process.poll() is None, worker.output()
        return next((line for line in worker.output().splitlines() if all(word in line for word in words)), None)

    return wait_until(f"a line with {words}", line)


def pauses(worker: WorkerProcess, setting: str) -> list[float]:
    """The seconds between two tries, in the order in which the worker told them."""
    lines = [line for line in worker.output().splitlines() if f"setting={setting}" in line]
    return [float(found[1]) for line in lines if (found := re.search(r"seconds=([\d.]+)", line))]


@pytest.mark.timeout(240)
def test_a_worker_that_starts_first_waits_for_everything_in_turn_and_says_what_it_needs(
    kafka_servers: str, service_folder: Path, topic_prefix: str, detector: bytes, tmp_path: Path
) -> None:
    """kafka_servers is asked for because Kafka's jars are fetched with it, outside this test's bound."""
    kafka_port, sql_port, redis_port = (free_port() for _ in range(3))
    deployment = Deployment(
        f"{LOOPBACK}:{kafka_port}",
        f"postgresql://postgres:{DATABASE_PASSWORD}@{LOOPBACK}:{sql_port}/postgres",
        f"redis://:{REDIS_PASSWORD}@{LOOPBACK}:{redis_port}/0",
        topic_prefix,
        tmp_path,
        partitions=2,
    )
    with ExitStack() as cleanup:
        cleanup.callback(deployment.database.engine.dispose)
        worker = deployment.worker()
        cleanup.callback(worker.kill)

        says(worker, "setting=HEADGATE_KAFKA", "no Kafka broker answers at", str(kafka_port))
        wait_until("three tries", lambda: len(pauses(worker, "HEADGATE_KAFKA")) >= 3)
        assert pauses(worker, "HEADGATE_KAFKA")[:3] == [0.5, 1.0, 2.0]
        cleanup.enter_context(local(lambda: start_kafka(service_folder / "kafka", port=kafka_port)))
        says(worker, f"topic {deployment.prefix}engagements does not exist", "`headgate topics create`")
        deployment.create_topics()

        says(worker, "setting=HEADGATE_DATABASE", "postgresql+psycopg://postgres:***@", str(sql_port))
        cleanup.enter_context(local(lambda: start_postgres(service_folder / "sql", port=sql_port, fsync=False)))
        says(worker, "setting=HEADGATE_DATABASE", "has schema nothing", "`headgate db upgrade`")
        upgrade(deployment.database_url)

        says(worker, "setting=HEADGATE_REDIS", str(redis_port))
        server = cleanup.enter_context(local(lambda: start_redis(service_folder / "redis", port=redis_port)))
        with redis.Redis.from_url(server.url) as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        says(worker, "no champion yet", "`headgate train`")
        deployment.register(detector)

        worker.wait_ready()
        says(worker, "partitions were made for the days ahead")
        with Load(deployment, rates=Rates(100), seed=31) as load:
            deployment.wait_outcomes(20)
            load.stop()
        deployment.wait_outcomes(load.transactions)
        assert worker.stop(STOP_SECONDS) == 0
        output = worker.output()
        assert "Traceback" not in output
        assert DATABASE_PASSWORD not in output
        assert REDIS_PASSWORD not in output


@pytest.mark.timeout(150)
def test_a_term_signal_ends_a_worker_in_good_order_while_it_waits_and_while_it_works(
    deployment: Deployment, unused_port: int
) -> None:
    waiting = deployment.worker("waiting", KAFKA=f"{LOOPBACK}:{unused_port}")
    says(waiting, "setting=HEADGATE_KAFKA")
    assert waiting.stop(STOP_SECONDS) == 0
    with Load(deployment, rates=Rates(300), seed=32):
        working = deployment.worker("working")
        deployment.wait_outcomes(100)
        assert working.stop(STOP_SECONDS) == 0
    assert "Traceback" not in waiting.output() + working.output()
    assert not deployment.sql("SELECT 1 FROM stream_progress WHERE next_offset < start_offset")
    assert deployment.faulty_partitions() == []


@pytest.mark.timeout(150)
def test_a_term_signal_ends_a_worker_that_waits_for_its_database(
    kafka_servers: str, redis_url: str, service_folder: Path, topic_prefix: str, detector: bytes, tmp_path: Path
) -> None:
    with (
        local(lambda: start_postgres(service_folder, fsync=False)) as postgres,
        deployed(kafka_servers, postgres.url, redis_url, topic_prefix, tmp_path, detector) as deployment,
        Load(deployment, rates=Rates(100), seed=33),
    ):
        worker = deployment.worker()
        deployment.wait_outcomes(100)
        postgres.kill()
        says(worker, "the database is away")
        assert worker.stop(STOP_SECONDS) == 0
        assert "Traceback" not in worker.output()


def flip_a_byte(artifact: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[-1] ^= 1
    artifact.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte that flipped": (flip_a_byte, "its sha256 differs"),
    "a file that is gone": (Path.unlink, "is missing; HEADGATE_MODELS must be what it was at training"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_file_is_refused_with_one_line(deployment: Deployment, damage: str) -> None:
    spoil, reason = DAMAGES[damage]
    (artifact,) = deployment.models.rglob("*.safetensors")
    spoil(artifact)
    worker = deployment.worker()
    assert worker.process.wait(60) == 1
    (line,) = worker.output().splitlines()
    assert line.startswith("headgate: model fraud:1 is refused: ")
    assert reason in line
    assert "`headgate models promote`" in line
