"""`headgate redis rebuild`: alerts and slates come back from SQL as they were published."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from ops.errors import KNOWN_ERRORS
from ops.jobs.rebuild_redis import Rebuilt, rebuild_redis
from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.database import Database, open_database, upgrade
from storage.outbox import current_slates
from streams.sinks import RedisSink
from tests.storage.rows import NOON, RowMaker

HOUR = timedelta(hours=1)


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    url = f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    upgrade(url)
    return Settings(
        database=SecretStr(url), redis=SecretStr(redis_url), redis_prefix="p:", redis_ttl_seconds=7_200, _env_file=None
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = open_database(settings.database.get_secret_value())
    yield database
    database.engine.dispose()


def test_redis_is_rebuilt_with_alerts_and_the_newest_slates(settings: Settings, database: Database) -> None:
    rows = RowMaker(database)
    rows.alert("A", ["e1"], reasons=[])
    rows.slate("older", made_at=NOON - HOUR)
    rows.slate("newer", ["i2"], made_at=NOON)
    rows.slate("other", user_id="u2", made_at=NOON)
    rows.slate("expired", user_id="u3", made_at=NOON - 3 * HOUR)

    assert rebuild_redis(settings, NOON) == Rebuilt(alerts=1, slates=2)

    with redis.Redis.from_url(settings.redis.get_secret_value()) as client:
        assert b'"recommendation_id":"newer"' in (client.get("p:recs:u1") or b"")
        written = {key: client.get(key) for key in client.keys("p:recs:*")}
        client.flushdb()
        with database.reading() as connection:
            RedisSink(redis_views(settings)).publish("recommendations", list(current_slates(connection, NOON - HOUR)))
        assert {key: client.get(key) for key in client.keys("p:recs:*")} == written


def test_a_rebuild_without_redis_says_so_in_one_line(settings: Settings, database: Database) -> None:
    RowMaker(database).alert("A", ["e1"], reasons=[])
    away = settings.model_copy(update={"redis": SecretStr("redis://anna:secret-word@127.0.0.1:1/0")})
    with pytest.raises(KNOWN_ERRORS) as caught:
        rebuild_redis(away, NOON)
    assert "Redis does not take the views" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_a_rebuild_brings_no_old_slate_back(settings: Settings, database: Database) -> None:
    rows = RowMaker(database)
    rows.slate("stored", made_at=NOON)
    newer = b'{"made_at":"2026-03-14T12:00:01Z"}'
    with redis.Redis.from_url(settings.redis.get_secret_value()) as client:
        client.set("p:recs:u1", newer)

        assert rebuild_redis(settings, NOON) == Rebuilt(alerts=0, slates=0)
        assert client.get("p:recs:u1") == newer
