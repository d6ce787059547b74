"""Real services for the tests: Apache Kafka, PostgreSQL and Redis.

Each is taken from the first place that has it:
1. HEADGATE_TEST_KAFKA, HEADGATE_TEST_DATABASE, HEADGATE_TEST_REDIS (a server given for tests: topics and
   databases are created and dropped, the given Redis database is emptied);
2. a container, where a Docker engine answers;
3. a process of this machine (ops/local_services.py).
Where none is to be had the test is skipped with the reason, or fails when HEADGATE_REQUIRE_SERVICES=1.

A test uses `kafka_servers`, `postgres_url`, `redis_url`. A test that kills or restarts a server starts its
own with ops.local_services and the fixture `service_folder`. `sqlite_url` is a migrated database that needs no service,
`database` one of each kind.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
import redis
import structlog
from hypothesis import settings
from psycopg import sql
from sqlalchemy.engine import make_url
from xdist.scheduler import LoadFileScheduling

from ops.local_services import start_kafka, start_postgres, start_redis
from ops.service import Service, ServiceUnavailable
from ops.struct_types import prepare_struct_types
from storage.database import Database, open_database, upgrade
from tests import containers

# As workers and training have it: torch's threads that share a busy core wait for each other. Before torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"
# How long an example takes says nothing on a machine that others share.
settings.register_profile("without-deadlines", deadline=None)
settings.load_profile("without-deadlines")
# As ops/logging.py has it: tracebacks that show every variable take seconds each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

FAULTS = "tests/faults/"
SERVICE_FIXTURES = {
    *("service_folder", "services_folder", "kafka_server", "kafka_servers", "postgres_server"),
    *("postgres_maintenance_url", "redis_server", "redis_shared_url"),
}


class OneProcessForFaults(LoadFileScheduling):  # type: ignore[misc]
    """Which tests share a process where several run them: those of a file, and all that break services under load,
    since two of them at once would take each other's time."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return FAULTS if file.startswith(FAULTS) else file


def pytest_collection_finish() -> None:
    """As services do before they start threads."""
    prepare_struct_types()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProcessForFaults:
    return OneProcessForFaults(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)


@cache
def docker_answers() -> bool:
    return containers.docker_answers()


def cannot_be_had(reason: str) -> NoReturn:
    if os.environ.get("HEADGATE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"needed here, but not to be had: {reason}", pytrace=False)
    pytest.skip(reason)


def local(start: Callable[[], Service]) -> Service:
    try:
        return start()
    except ServiceUnavailable as error:
        cannot_be_had(str(error))


@pytest.fixture(scope="session")
def services_folder() -> Iterator[Path]:
    """Where the session's servers keep their data. Not under pytest's private folder: PostgreSQL's user, when
    the tests run as root, has to be able to enter it."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def service_folder(services_folder: Path) -> Path:
    """A folder for one server of one test."""
    folder = services_folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def kafka_server(services_folder: Path) -> Iterator[Service]:
    """The session's own Kafka process."""
    with local(lambda: start_kafka(services_folder / "kafka")) as service:
        yield service


@pytest.fixture(scope="session")
def postgres_server(services_folder: Path) -> Iterator[Service]:
    """The session's own PostgreSQL process. No fsync: the tests crash processes, not the machine."""
    with local(lambda: start_postgres(services_folder / "postgres", fsync=False)) as service:
        yield service


@pytest.fixture(scope="session")
def redis_server(services_folder: Path) -> Iterator[Service]:
    """The session's own Redis process."""
    with local(lambda: start_redis(services_folder / "redis")) as service:
        yield service


def service_url(
    request: pytest.FixtureRequest,
    variable: str,
    container: Callable[[], AbstractContextManager[str]],
    fixture: str,
) -> AbstractContextManager[str]:
    given = os.environ.get(variable)
    if given:
        return nullcontext(given)
    if docker_answers():
        return container()
    server: Service = request.getfixturevalue(fixture)
    return nullcontext(server.url)


@pytest.fixture(scope="session")
def kafka_servers(request: pytest.FixtureRequest) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka, shared by the session: use `topic_prefix`."""
    source = service_url(request, "HEADGATE_TEST_KAFKA", containers.kafka_container, "kafka_server")
    with source as servers:
        yield servers


@pytest.fixture(scope="session")
def postgres_maintenance_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the server whose user may create databases."""
    source = service_url(request, "HEADGATE_TEST_DATABASE", containers.postgres_container, "postgres_server")
    with source as url:
        yield url


@pytest.fixture(scope="session")
def redis_shared_url(request: pytest.FixtureRequest) -> Iterator[str]:
    source = service_url(request, "HEADGATE_TEST_REDIS", containers.redis_container, "redis_server")
    with source as url:
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without any rows; to be copied, since migrations take longer than most tests."""
    file = tmp_path_factory.mktemp("migrated") / "headgate.sqlite"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated database without rows, the test's own."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path)}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database without rows, the test's own, of each kind."""
    if request.param == "sqlite":
        sqlite: str = request.getfixturevalue("sqlite_url")
        return sqlite
    url: str = request.getfixturevalue("postgres_url")
    upgrade(url)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.engine.dispose()


@contextmanager
def fresh_database(maintenance_url: str) -> Iterator[str]:
    """An empty database beside the given one, dropped afterwards. SQLAlchemy form: postgresql+psycopg://..."""
    url = make_url(maintenance_url).set(drivername="postgresql+psycopg")
    maintenance = url.set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"test_{uuid.uuid4().hex[:12]}"
    with ExitStack() as cleanup:
        connection = cleanup.enter_context(psycopg.connect(maintenance, autocommit=True))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        cleanup.callback(connection.execute, drop)
        yield url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def postgres_url(postgres_maintenance_url: str) -> Iterator[str]:
    """A fresh, empty database, dropped afterwards."""
    with fresh_database(postgres_maintenance_url) as url:
        yield url


@pytest.fixture
def redis_url(redis_shared_url: str) -> Iterator[str]:
    """An empty Redis database, emptied again afterwards."""
    with redis.Redis.from_url(redis_shared_url) as client:
        client.flushdb()
        yield redis_shared_url
        client.flushdb()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix that makes topics and consumer groups a test's own, as in f"{topic_prefix}transactions"."""
    return f"test-{uuid.uuid4().hex[:10]}."
