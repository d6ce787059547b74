"""How each contestant runs: the worker as it is with everything on, and the peers' programs; each a process of its own.

Every contestant reads the same topic from its beginning in a consumer group of its own and writes into an empty
database of its own. Its processes, one or several in that group, end with the run, or with the benchmark, whatever
happens.
"""

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import redis
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import Connection, text

from ops.bench.measure import BenchmarkFailed, peer_events, worker_events
from ops.bench.stage import TOPIC, Stage
from ops.service import ServerCommand, Service, start_service
from ops.settings import PREFIX
from storage.database import Database

HEADGATE = "headgate"
PEERS = {"faust": "ops.bench.faust_peer", "quix": "ops.bench.quix_peer", "bytewax": "ops.bench.bytewax_peer"}
CHECKOUT = Path(__file__).parent.parent.parent
RELAY_SECONDS = 60.0
#: Partition -> offset.
Places = Mapping[int, int]
#: The backlog is some days of simulated traffic; its alerts are wanted however old they are.
OLDEST_ALERT_SECONDS = 10 * 365 * 86_400

UNRELAYED = text("""
SELECT count(*) FROM alerts a CROSS JOIN (VALUES ('kafka'), ('redis')) AS sinks (sink)
LEFT JOIN relay_cursors c ON c.outbox = 'alerts' AND c.sink = sinks.sink
    AND c.topic_generation = a.topic_generation AND c.partition = a.source_partition
WHERE c.position IS NULL OR c.position <= a.sequence
""")


@dataclass(frozen=True, slots=True)
class Contestant:
    """counted: the topic's events that its own progress in SQL has."""

    name: str
    module: str
    counted: Callable[[Connection], int]


@dataclass(frozen=True, slots=True)
class Alerts:
    """Alert revisions in each place, once the relay has caught up."""

    sql: int
    kafka: int
    redis: int

    def problems(self) -> list[str]:
        if self.sql and self.sql == self.kafka == self.redis:
            return []
        return [f"{self.sql} alert revisions in SQL, {self.kafka} in Kafka, {self.redis} in Redis"]


def contestant(name: str) -> Contestant:
    """Raises BenchmarkFailed for a name that there is not."""
    if name == HEADGATE:
        return Contestant(name, "ops", worker_events)
    if name not in PEERS:
        raise BenchmarkFailed(f"there is no peer {name!r}; choose from {', '.join(PEERS)}")
    return Contestant(name, PEERS[name], peer_events)


@contextmanager
def running(
    entrant: Contestant, stage: Stage, database_url: str, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Its process, in a folder and a consumer group of its own. settings: more of them for the worker, without their
    prefix."""
    with running_together(entrant, stage, database_url, 1, settings) as (service,):
        yield service


@contextmanager
def running_together(
    entrant: Contestant, stage: Stage, database_url: str, processes: int, settings: Mapping[str, str] | None = None
) -> Iterator[Sequence[Service]]:
    """So many of its processes, each in a folder of its own, in one consumer group of their own."""
    group = f"bench-{entrant.name}-{uuid.uuid4().hex[:8]}"
    with ExitStack() as running_until_then:
        yield [
            running_until_then.enter_context(
                start_service(_command(entrant, stage, database_url, group, f"{group}-{number}", settings or {}))
            )
            for number in range(processes)
        ]


def _command(
    entrant: Contestant, stage: Stage, database_url: str, group: str, folder_name: str, settings: Mapping[str, str]
) -> ServerCommand:
    if entrant.name == HEADGATE:
        return headgate_command("worker", stage, database_url, group, folder_name, settings)
    values = {"kafka": stage.kafka, "database": database_url, "topic": TOPIC, "group": group}
    arguments = [part for name, value in values.items() for part in (f"--{name}", value)]
    return _process(entrant.name, stage, folder_name, ["-m", entrant.module, *arguments, "--model", str(stage.model)])


def headgate_command(
    command: str, stage: Stage, database_url: str, group: str, folder_name: str, settings: Mapping[str, str]
) -> ServerCommand:
    """`headgate COMMAND` on the stage, with these settings (without their prefix) and none of the environment's."""
    environment = worker_settings(stage, database_url, group)
    environment |= {PREFIX + name: value for name, value in settings.items()}
    foreign = [name for name in os.environ if name.startswith(PREFIX) and name not in environment]
    without = ["env", *(part for name in foreign for part in ("-u", name))]
    return _process(command, stage, folder_name, ["-m", "ops", command], without, environment)


def _process(
    name: str,
    stage: Stage,
    folder_name: str,
    python: Sequence[str],
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> ServerCommand:
    """Whether it is ready, what it does in SQL says."""
    folder = stage.folder / folder_name
    folder.mkdir()
    return ServerCommand(
        name,
        [*before, sys.executable, *python],
        folder,
        0,
        stage.kafka,
        probe=lambda: None,
        environment={"PYTHONPATH": str(CHECKOUT), **(environment or {})},
        stop_seconds=30,
    )


def worker_settings(stage: Stage, database_url: str, group: str) -> dict[str, str]:
    """Defaults but for addresses, the device (the peers' is the CPU too) and the age of alerts."""
    settings = {
        "KAFKA": stage.kafka,
        "DATABASE": database_url,
        "REDIS": stage.redis,
        "MODELS": str(stage.models),
        "STATE": str(stage.models.parent / "state"),
        "GROUP": group,
        "TOPIC_PREFIX": "",
        "METRICS_PORT": "0",
        "DEVICE": "cpu",
        "ALERT_MAX_AGE_SECONDS": str(OLDEST_ALERT_SECONDS),
    }
    return {PREFIX + name: value for name, value in settings.items()}


def alerts_of(stage: Stage, database: Database, from_places: Places) -> Alerts:
    """What the relay has published since then, at a moment at which nothing is left: alerts are closed by time, so a
    worker without payments goes on to publish."""
    deadline = time.monotonic() + RELAY_SECONDS
    while True:
        before = _alerts_in_sql(database)
        ends = ends_of_alerts(stage.kafka)
        with redis.Redis.from_url(stage.redis) as client:
            in_redis = int(client.xlen("headgate:alerts"))
        in_sql, left = after = _alerts_in_sql(database)
        if before == after and not left:
            return Alerts(in_sql, revisions_in_kafka(stage.kafka, from_places, ends), in_redis)
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{left} alert revisions were not relayed in {RELAY_SECONDS:.0f} s")
        time.sleep(0.1)


def _alerts_in_sql(database: Database) -> tuple[int, int]:
    """(revisions, those of them that the relay has not noted as published)."""
    with database.reading() as connection:
        in_sql = int(connection.execute(text("SELECT count(*) FROM alerts")).scalar() or 0)
        return in_sql, int(connection.execute(UNRELAYED).scalar() or 0)


def ends_of_alerts(servers: str, topic: str = "alerts") -> Places:
    """Where each partition ends now."""
    with closing(Consumer({"bootstrap.servers": servers, "group.id": "bench-offsets"})) as client:
        numbers = client.list_topics(topic, timeout=10).topics[topic].partitions
        return {each: client.get_watermark_offsets(TopicPartition(topic, each), timeout=10)[1] for each in numbers}


def revisions_in_kafka(servers: str, begins: Places, ends: Places, topic: str = "alerts") -> int:
    """Alert revisions between these places, each counted once: a relay that lost its partitions
    before it noted what it published publishes that again, with the same ids."""
    found: set[tuple[str, int]] = set()
    with closing(Consumer({"bootstrap.servers": servers, "group.id": "bench-offsets"})) as client:
        left = {number: end for number, end in ends.items() if end > begins[number]}
        client.assign([TopicPartition(topic, number, begins[number]) for number in left])
        while left:
            first = client.poll(RELAY_SECONDS)
            if first is None:
                raise BenchmarkFailed(f"Kafka did not give the alerts in {RELAY_SECONDS:.0f} s")
            for message in [first, *client.consume(10_000, 0)]:
                if (problem := message.error()) is not None:
                    raise BenchmarkFailed(f"Kafka did not give the alerts: {problem.str()}")
                number, offset = message.partition(), message.offset()
                if number not in left or offset is None or offset >= ends[number]:
                    continue
                revision = msgspec.json.decode(message.value() or b"", type=_Revision)
                found.add((revision.alert_id, revision.revision))
                if offset + 1 == ends[number]:
                    del left[number]
    return len(found)


class _Revision(msgspec.Struct):
    """What tells alert messages apart."""

    alert_id: str
    revision: int
