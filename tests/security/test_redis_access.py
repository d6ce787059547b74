"""Redis over TLS and by ACL: whoever is not the Redis that the address names learns nothing, and each user of it may do
what docs/security.md says and nothing else.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from redis.exceptions import NoPermissionError
from structlog.testing import capture_logs

from ops import worker
from ops.doctor import check_redis
from ops.redis_settings import redis_views
from ops.service import Service
from ops.settings import Settings
from storage.redis_refusals import refusal_of
from storage.redis_views import AlertView, SlateView
from streams.health import FlowMetrics
from streams.relay import SinkUnavailable
from streams.sinks import RedisSink
from tests.certificates import Authority
from tests.conftest import local
from tests.secured_stores import PASSWORD, documented_users, make_redis_users, redis_url, secured_redis
from tests.streams.rows import alert_row

PREFIX = "shop:"
WORKER, CONSOLE, CONSUMER = "headgate-worker", "headgate-console", "headgate-consumer"
ALERT = AlertView("a-1", 1, "alice", 0.9, b'{"alert_id": "a-1"}')
SLATE = SlateView("bob", b'{"made_at": "2026-01-01T00:00:00Z"}')
SECRET_ROW = "who-was-robbed"


@dataclass(frozen=True, slots=True)
class Place:
    """Ports with TLS, by what is wrong with the server there."""

    trusted: Authority
    strange: Authority
    administrator: str
    good: int
    elsewhere: int
    expired: int
    without_tls: int

    def url(self, user: str = WORKER, **changes: str) -> str:
        return redis_url(self.good, self.trusted.file, user, **changes)


@pytest.fixture(scope="module")
def place(services_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("certificates")
    trusted, strange = Authority(folder / "trusted", "trusted"), Authority(folder / "strange", "strange")
    ca = trusted.file
    with (
        secured_redis(services_folder / "redis-good", trusted.issue("server"), ca) as (good, good_port),
        secured_redis(services_folder / "redis-else", trusted.issue("else", ["redis.example.com"]), ca) as (_, elsewhere),
        secured_redis(services_folder / "redis-old", trusted.issue("old", lifetime=timedelta(-1)), ca) as (old, expired),
    ):
        make_redis_users(good.url, PREFIX)
        yield Place(trusted, strange, good.url, good_port, elsewhere, expired, old.port)


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def settings_of(url: str, prefix: str = PREFIX) -> Settings:
    return Settings(redis=SecretStr(url), redis_prefix=prefix)
