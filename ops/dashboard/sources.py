"""What the console reads and writes, opened once from the settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import redis
from redis.asyncio import Redis as AsyncRedis

from models.alert_rule import AlertRule, parse_rule
from ops.clock import utc_now
from ops.kafka_settings import kafka_settings
from ops.model_registry import open_registry
from ops.settings import Settings
from storage.database import Database, open_database
from storage.registry import ModelRegistry
from streams.kafka import KafkaSettings
from streams.kafka_logs import Broker
from streams.pseudonyms import Pseudonyms

#: For an answer from Redis or Kafka, seconds.
REDIS_SECONDS = 2.0
KAFKA_SECONDS = 2.0
#: The same where it may wait for something new for a second.
ASYNC_REDIS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Sources:
    """alert_max_age: as in the settings."""

    database: Database
    registry: ModelRegistry
    kafka: KafkaSettings
    broker: Broker
    redis: redis.Redis
    new_async_redis: Callable[[], AsyncRedis]
    redis_prefix: str
    topic_prefix: str
    alert_rule: AlertRule
    alert_max_age: timedelta
    pseudonyms: Pseudonyms | None
    clock: Callable[[], datetime]

    def at(self, clock: Callable[[], datetime]) -> "Sources":
        """The same by another clock."""
        return replace(self, clock=clock)

    def topic(self, name: str) -> str:
        return f"{self.topic_prefix}{name}"

    def close(self) -> None:
        self.redis.close()
        self.database.engine.dispose()


def open_sources(settings: Settings) -> Sources:
    """Connects to nothing yet."""
    database = open_database(settings.database.get_secret_value())
    kafka = kafka_settings(settings, "headgate-dashboard")
    url = settings.redis.get_secret_value()
    return Sources(
        database=database,
        registry=open_registry(settings, database),
        kafka=kafka,
        broker=Broker(kafka, KAFKA_SECONDS),
        redis=redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS),
        new_async_redis=lambda: AsyncRedis.from_url(
            url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=ASYNC_REDIS_SECONDS
        ),
        redis_prefix=settings.redis_prefix,
        topic_prefix=settings.topic_prefix,
        alert_rule=parse_rule(settings.alert_rule),
        alert_max_age=timedelta(seconds=settings.alert_max_age_seconds),
        pseudonyms=settings.pseudonyms,
        clock=utc_now,
    )
