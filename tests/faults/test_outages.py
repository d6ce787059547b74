"""A service that goes away under load and comes back: the stream waits or goes on, and heals by itself."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.local_services import start_kafka, start_postgres, start_redis
from ops.service import Service
from tests.conftest import local
from tests.deployment import Deployment, WorkerProcess, deployed, wait_until
from tests.faults import invariants
from tests.faults.load import Load

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def redis_to_restart(service_folder: Path) -> Iterator[Service]:
    with local(lambda: start_redis(service_folder, persistent=True)) as service:
        yield service


@pytest.fixture
def redis_that_forgets(service_folder: Path) -> Iterator[Service]:
    with local(lambda: start_redis(service_folder)) as service:
        yield service


@pytest.fixture
def postgres_to_restart(service_folder: Path) -> Iterator[Service]:
    with local(lambda: start_postgres(service_folder, fsync=False)) as service:
        yield service


@pytest.fixture
def kafka_to_restart(kafka_servers: str, service_folder: Path) -> Iterator[Service]:
    """kafka_servers is asked for because Kafka's jars are fetched with it, outside a test's bound."""
    with local(lambda: start_kafka(service_folder)) as service:
        yield service


def finish(deployment: Deployment, load: Load, worker: WorkerProcess) -> None:
    load.stop()
    deployment.wait_outcomes(load.transactions)
    deployment.wait_outcomes(load.feedback, topic=deployment.feedback)
    deployment.wait_relayed()
    assert worker.stop() == 0
    assert "Traceback" not in worker.output()


def test_while_redis_is_away_scoring_goes_on_and_its_alerts_come_later(
    kafka_servers: str,
    postgres_url: str,
    redis_to_restart: Service,
    topic_prefix: str,
    detector: bytes,
    tmp_path: Path,
) -> None:
    with ExitStack() as cleanup:
        deployment = cleanup.enter_context(
            deployed(kafka_servers, postgres_url, redis_to_restart.url, topic_prefix, tmp_path, detector)
        )
        with Load(deployment, rate=200, seed=21) as load:
            worker = deployment.worker()
            deployment.wait_outcomes(200)
            redis_to_restart.kill()
            wait_until("the relay says that it waits", lambda: "relay waits" in worker.output())
            deployment.wait_outcomes(deployment.outcomes() + 200)
            redis_to_restart.start()
            deployment.wait_outcomes(deployment.outcomes() + 200)
            finish(deployment, load, worker)
        invariants.check(deployment)


def test_a_redis_that_forgot_everything_is_rebuilt_by_command(
    kafka_servers: str,
    postgres_url: str,
    redis_that_forgets: Service,
    topic_prefix: str,
    detector: bytes,
    tmp_path: Path,
) -> None:
    with deployed(kafka_servers, postgres_url, redis_that_forgets.url, topic_prefix, tmp_path, detector) as deployment:
        with Load(deployment, rate=200, seed=22) as load:
            worker = deployment.worker()
            deployment.wait_outcomes(200)
            finish(deployment, load, worker)
        before = invariants.collect(deployment)
        assert invariants.violations(before) == []
        redis_that_forgets.kill()
        redis_that_forgets.start()
        assert invariants.collect(deployment).hashes == {}
        assert deployment.headgate("redis", "rebuild").returncode == 0
        after = invariants.collect(deployment)
        assert after.hashes == before.hashes
        assert sorted(key for key, _ in after.stream) == sorted(
            (a, revision) for a, (revision, _) in after.hashes.items()
        )


@pytest.mark.parametrize("how", ["crash", "restart"])
def test_the_stream_waits_for_a_database_that_is_away_and_goes_on_with_it(
    kafka_servers: str,
    redis_url: str,
    postgres_to_restart: Service,
    topic_prefix: str,
    detector: bytes,
    tmp_path: Path,
    how: str,
) -> None:
    with deployed(kafka_servers, postgres_to_restart.url, redis_url, topic_prefix, tmp_path, detector) as deployment:
        with Load(deployment, rate=200, seed=23) as load:
            worker = deployment.worker()
            deployment.wait_outcomes(200)
            if how == "crash":
                postgres_to_restart.kill()
            else:
                postgres_to_restart.stop()
            wait_until("the worker says that it waits", lambda: "the database is away" in worker.output())
            postgres_to_restart.start()
            deployment.wait_outcomes(deployment.outcomes() + 400)
            finish(deployment, load, worker)
        invariants.check(deployment)


def test_the_stream_goes_on_when_a_broker_that_crashed_is_back(
    kafka_to_restart: Service,
    postgres_url: str,
    redis_url: str,
    topic_prefix: str,
    detector: bytes,
    tmp_path: Path,
) -> None:
    with deployed(kafka_to_restart.url, postgres_url, redis_url, topic_prefix, tmp_path, detector) as deployment:
        with Load(deployment, rate=200, seed=24) as load:
            worker = deployment.worker()
            deployment.wait_outcomes(200)
            kafka_to_restart.kill()
            before = deployment.outcomes()
            kafka_to_restart.start()
            deployment.wait_outcomes(before + 400)
            finish(deployment, load, worker)
        invariants.check(deployment)
