"""The console lives with the rights in Redis that docs/security.md gives it, and names what it is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.redis_views import SlateView
from streams import contract
from tests.certificates import Authority
from tests.deployment import wait_until
from tests.ops.dashboard.conftest import SECONDS, StartConsole
from tests.ops.dashboard.test_live import listening, only, publish
from tests.secured_stores import make_redis_users, redis_url, refused_by_redis, secured_redis
from tests.storage.rows import NOON, RowMaker

PREFIX = "p:"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def secured(service_folder: Path, tmp_path: Path) -> Iterator[tuple[str, int, Path]]:
    """The administrator's URL, the port with TLS, and the authority's file."""
    authority = Authority(tmp_path / "authority", "authority")
    with secured_redis(service_folder / "redis", authority.issue("server"), authority.file) as (service, port):
        make_redis_users(service.url, PREFIX)
        yield service.url, port, authority.file


def test_a_console_reads_alerts_slates_and_messages_with_its_own_rights(
    secured: tuple[str, int, Path], start_console: StartConsole, database_url: str, rows: RowMaker
) -> None:
    administrator, port, authority = secured
    worker_url = SecretStr(redis_url(port, authority, "headgate-worker"))
    worker = Settings(redis=worker_url, redis_prefix=PREFIX, _env_file=None)
    console_url = redis_url(port, authority, "headgate-console")
    console = start_console(database_url, redis=SecretStr(console_url), redis_prefix=PREFIX)
    views = redis_views(worker)
    slate = contract.Recommendation("r", "bob", NOON, "popular", [], "e")
    views.publish_slates([SlateView("bob", contract.encode(slate))])
    with redis.Redis.from_url(administrator) as client:
        client.acl_log_reset()
        with listening(console) as events:
            publish(views, rows, "first")
            (alert,) = only("alert", events, 1)
            wait_until("the console listens", lambda: client.pubsub_numsub(f"{PREFIX}operator")[0][1], SECONDS)
            views.tell_operator(b'{"kind": "model_refused", "message": "look"}')
            only("operator", events, 1)
        assert "first" in alert["data"]
        assert console.get("/api/recommendations/bob")["recommendation_id"] == "r"
        assert refused_by_redis(client) == []


def test_a_console_that_redis_refuses_says_why(
    secured: tuple[str, int, Path], start_console: StartConsole, database_url: str
) -> None:
    _, port, authority = secured
    url = redis_url(port, authority, "headgate-console", password="not-the-password")
    console = start_console(database_url, redis=SecretStr(url), redis_prefix=PREFIX)

    problem = console.error("/api/recommendations/bob", 503)

    assert "Redis does not know this user or password" in problem["message"]
    assert "not-the-password" not in str(problem)
