"""A whole Headgate for fault benchmarks and tests: topics and a database of its own, and workers as processes.

It drives the product as its users do: the command line, Kafka, SQL, Redis. Everything waits for a condition, with
a bound, and shows the workers' logs where the bound is reached.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition
from sqlalchemy import Row, text

from models.feature_schema import FEATURE_SCHEMA
from ops.bench.faults.worker_process import NeverHappened, WorkerProcess, wait_until
from ops.clock import utc_now
from storage.database import Database, open_database, upgrade
from storage.progress import ProgressRow, all_progress, audit
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from streams.kafka import KafkaSettings, create_topics, topic_configurations

CHECKOUT = Path(__file__).parent.parent.parent.parent
SESSION_TIMEOUT = 6.0


@dataclass(slots=True)
class Deployment:
    """Services, topics, database and a registered champion; `worker` starts processes."""

    kafka: str
    database_url: str
    redis_url: str
    prefix: str
    folder: Path
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = open_database(self.database_url)

    @property
    def transactions(self) -> str:
        return f"{self.prefix}transactions"

    @property
    def feedback(self) -> str:
        return f"{self.prefix}feedback"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        own = {
            "KAFKA": self.kafka,
            "DATABASE": self.database_url,
            "REDIS": self.redis_url,
            "REDIS_PREFIX": self.prefix,
            "TOPIC_PREFIX": self.prefix,
            "MODELS": str(self.models),
            "METRICS_PORT": "0",
            "SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT),
            "DEVICE": "cpu",
            **self.settings,
            **more,
        }
        return kept | {f"HEADGATE_{name}": value for name, value in own.items()} | {"PYTHONPATH": str(CHECKOUT)}

    def prepare(self, model: bytes | None) -> None:
        """Schema, topics, champion."""
        upgrade(self.database_url)
        self.create_topics()
        if model is not None:
            self.register(model)

    def create_topics(self) -> None:
        wanted = topic_configurations(self.prefix, 1_000_000)
        create_topics(KafkaSettings(self.kafka), wanted, partitions=self.partitions, replication=1)

    def register(self, model: bytes) -> None:
        ModelRegistry(self.database, str(self.models)).register(
            MODEL_NAME, "detector", model, feature_schema=FEATURE_SCHEMA, metrics={}, clock=utc_now, alias="champion"
        )

    def worker(
        self, name: str = "worker", program: Sequence[str] = ("ops", "worker"), **settings: str
    ) -> WorkerProcess:
        """Starts a worker whose static membership is `name`; it ends with the deployment at the latest. program: a
        module that runs a worker, and its arguments."""
        log = self.folder / f"{name}-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *program],
                env=self.environment(WORKER_ID=name, **settings),
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = WorkerProcess(name, log, process)
        self.workers.append(started)
        return started

    def headgate(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One run of the command line."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def producer(self, **overrides: Any) -> Producer:
        return Producer({"bootstrap.servers": self.kafka, "message.max.bytes": 4_000_000, "log_level": 0, **overrides})

    def sql(self, statement: str, **values: Any) -> Sequence[Row[Any]]:
        with self.database.reading() as connection:
            return connection.execute(text(statement), values).all()

    def value(self, statement: str, **values: Any) -> Any:
        return self.sql(statement, **values)[0][0]

    def progress(self, topic: str | None = None) -> dict[int, ProgressRow]:
        """Of the transactions unless told otherwise, by partition."""
        with self.database.reading() as connection:
            rows = all_progress(connection)
        return {row.partition: row for row in rows if row.topic == (topic or self.transactions)}

    def faulty_partitions(self) -> list[ProgressRow]:
        with self.database.reading() as connection:
            return audit(connection)

    def outcomes(self, topic: str | None = None) -> int:
        """Records that have an outcome in SQL (gaps are none)."""
        return sum(row.applied + row.duplicates + row.dead_letters for row in self.progress(topic).values())

    def wait_outcomes(self, count: int, seconds: float = 60.0, topic: str | None = None) -> None:
        try:
            wait_until(f"{count} outcomes", lambda: self.outcomes(topic) >= count, seconds)
        except NeverHappened as error:
            logs = "\n".join(worker.output()[-3000:] for worker in self.workers)
            raise NeverHappened(f"{error}; there are {self.outcomes(topic)}: {self.progress(topic)}\n{logs}") from None

    def records(self, topic: str) -> list[Any]:
        """All records of a topic (name without prefix) that Kafka has at this moment."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            name = f"{self.prefix}{topic}"
            places = [TopicPartition(name, number) for number in range(self.partitions)]
            consumer.assign(places)
            ends = consumer.end_offsets(places)
            consumer.seek_to_beginning(*places)
            found: list[Any] = []
            deadline = time.monotonic() + 30
            while any(consumer.position(place) < ends[place] for place in places):
                if time.monotonic() > deadline:
                    raise NeverHappened(f"{topic} was not read to its end in 30 s")
                for batch in consumer.poll(timeout_ms=200).values():
                    found += batch
            return found
        finally:
            consumer.close()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url)

    def redis_stream(self) -> list[dict[bytes, bytes]]:
        """Entries of the stream `alerts`, oldest first."""
        with self.redis() as client:
            return [fields for _, fields in client.xrange(f"{self.prefix}alerts")]

    def wait_relayed(self, seconds: float = 60.0) -> None:
        """Until both sinks' cursors have passed every revision and slate, and Kafka's every dead letter."""
        wait_until("everything is relayed", lambda: not self.sql(UNRELAYED), seconds)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        with self.redis() as client:
            for key in client.scan_iter(f"{self.prefix}*"):
                client.delete(key)
        self.database.engine.dispose()


#: Rows that a sink has not confirmed.
UNRELAYED = """
SELECT a.alert_id FROM alerts a CROSS JOIN (VALUES ('kafka'), ('redis')) AS sinks (sink)
LEFT JOIN relay_cursors c ON c.outbox = 'alerts' AND c.sink = sinks.sink
    AND c.topic_generation = a.topic_generation AND c.partition = a.source_partition
WHERE c.position IS NULL OR c.position <= a.sequence
UNION ALL
SELECT r.recommendation_id FROM recommendations r CROSS JOIN (VALUES ('kafka'), ('redis')) AS sinks (sink)
LEFT JOIN relay_cursors c ON c.outbox = 'recommendations' AND c.sink = sinks.sink
    AND c.topic_generation = r.topic_generation AND c.partition = r.source_partition
WHERE c.position IS NULL OR c.position <= r.source_offset
UNION ALL
SELECT d.error_code FROM dead_letters d
LEFT JOIN relay_cursors c ON c.outbox = 'dead_letters' AND c.sink = 'kafka'
    AND c.topic_generation = d.topic_generation AND c.partition = d.source_partition
WHERE c.position IS NULL OR c.position <= d.source_offset
LIMIT 1
"""


@contextmanager
def deployed(
    kafka: str,
    database_url: str,
    redis_url: str,
    prefix: str,
    folder: Path,
    model: bytes | None,
    partitions: int = 2,
    **settings: str,
) -> Iterator[Deployment]:
    """A prepared deployment; every worker that still runs at the end is killed."""
    deployment = Deployment(kafka, database_url, redis_url, prefix, folder, partitions, settings)
    try:
        deployment.prepare(model)
        yield deployment
    finally:
        deployment.close()
