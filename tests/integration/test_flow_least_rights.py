"""A whole worker with no more rights than it needs: over TLS, as writer, as its user of Redis, secrets from files."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from sqlalchemy.engine import make_url

from ops.bench.faults.load import Load, Rates
from storage.database_roles import WRITER_ROLE
from tests.certificates import Authority
from tests.deployment import Deployment, deployed
from tests.roles import PASSWORD as SQL_PASSWORD
from tests.roles import roles_of
from tests.secured_stores import (
    PASSWORD,
    as_text,
    make_redis_users,
    redis_url,
    refused_by_redis,
    secured_postgres,
    secured_redis,
)


@dataclass(frozen=True, slots=True)
class Secured:
    """The deployment as its administrator sees it; settings: what a worker gets instead, in files."""

    deployment: Deployment
    settings: dict[str, str]
    writer: str
    redis_administrator: str


@pytest.fixture
def secured(
    kafka_servers: str, service_folder: Path, topic_prefix: str, detector: bytes, tmp_path: Path
) -> Iterator[Secured]:
    authority = Authority(tmp_path / "authority", "authority")
    server = authority.issue("server")
    with ExitStack() as cleanup:
        sql_folder = service_folder / "sql"
        sql_folder.mkdir()
        sql = cleanup.enter_context(secured_postgres(sql_folder, server, authority.file))
        cache, port = cleanup.enter_context(secured_redis(service_folder / "redis", server, authority.file))
        make_redis_users(cache.url, topic_prefix)
        users = cleanup.enter_context(roles_of(sql.url))
        verified = {"sslmode": "verify-full", "sslrootcert": str(authority.file)}
        writer = make_url(users[WRITER_ROLE]).update_query_dict(verified)
        deployment = cleanup.enter_context(
            deployed(kafka_servers, sql.url, cache.url, topic_prefix, tmp_path, detector)
        )
        settings = {
            "DATABASE": "",
            "DATABASE_FILE": in_file(tmp_path / "database", as_text(writer)),
            "REDIS": "",
            "REDIS_FILE": in_file(tmp_path / "redis", redis_url(port, authority.file, "headgate-worker")),
        }
        yield Secured(deployment, settings, str(writer.username), cache.url)


def in_file(path: Path, secret: str) -> str:
    path.write_text(f"{secret}\n")
    path.chmod(0o400)
    return str(path)


@pytest.mark.timeout(200)
def test_a_worker_as_writer_scores_publishes_makes_days_and_is_never_refused(secured: Secured) -> None:
    deployment = secured.deployment
    worker = deployment.worker(**secured.settings)
    worker.wait_ready()
    with Load(deployment, rates=Rates(200), seed=41) as load:
        deployment.wait_outcomes(300)
        load.stop()
    deployment.wait_outcomes(load.transactions)
    deployment.wait_relayed()
    users = deployment.sql(
        "SELECT DISTINCT usename, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) "
        "WHERE application_name = 'headgate' AND usename LIKE 'headgate_%'"
    )
    assert [tuple(row) for row in users] == [(secured.writer, True)]
    assert deployment.redis_stream()
    assert worker.stop(40) == 0
    assert deployment.faulty_partitions() == []
    output = worker.output()
    assert "partitions were made for the days ahead" in output
    for refused in ("permission denied", "must be owner", "refuse", "Traceback", PASSWORD, SQL_PASSWORD):
        assert refused not in output
    with redis.Redis.from_url(secured.redis_administrator) as client:
        assert refused_by_redis(client) == []
