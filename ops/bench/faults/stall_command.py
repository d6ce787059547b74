"""`headgate bench faults --peers`: the stall after kill -9 of one of two workers, beside Quix Streams and Faust.

All in one run: each contestant runs as two processes in a consumer group of its own, with its defaults, on topics of
its own of the same Kafka. The peers only pass event ids on (stall_peer.py); the worker does everything it always does,
and publishes its predictions.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.contestants import CHECKOUT
from ops.bench.faults.contenders import trained_detector
from ops.bench.faults.deployment import deployed
from ops.bench.faults.stall import PARTITIONS, Process, Stalled, Traffic, measured
from ops.bench.faults.worker_process import NeverHappened
from ops.bench.measure import BenchmarkFailed
from ops.bench.stage import disk_folder
from ops.bench.throughput import ending_on_sigterm
from ops.clock import utc_now
from ops.local_services import start_kafka, start_postgres, start_redis
from ops.progress import progress_bar
from ops.service import ServerCommand, start_service
from streams.kafka import KafkaSettings, create_topics

HEADGATE = "headgate"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program with the options of stall_peer.py."""

    title: str
    module: str
    guarantee: str


PEERS: Mapping[str, Peer] = {
    "quix": Peer("Quix Streams, at least once", "ops.bench.faults.quix_stall_peer", "at-least-once"),
    "quix_exactly_once": Peer("Quix Streams, exactly once", "ops.bench.faults.quix_stall_peer", "exactly-once"),
    "faust": Peer("Faust (stock)", "ops.bench.faults.faust_stall_peer", "at-least-once"),
}


@dataclass(frozen=True, slots=True)
class Services:
    """kafka: bootstrap servers; the others: URLs."""

    folder: Path
    kafka: str
    database: str
    redis: str


def run_stalls(*, quiet: bool, contestants: Sequence[str] = (HEADGATE, *PEERS)) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. Raises BenchmarkFailed, ServiceUnavailable."""
    found: list[Stalled] = []
    with ending_on_sigterm(), progress_bar(quiet) as progress, disk_folder() as (folder, _), ExitStack() as cleanup:
        kafka = cleanup.enter_context(start_kafka(folder / "kafka"))
        postgres = cleanup.enter_context(start_postgres(folder / "postgres"))
        redis = cleanup.enter_context(start_redis(folder / "redis"))
        services = Services(folder, kafka.url, postgres.url, redis.url)
        for name in contestants:
            progress("contestants", len(found) / len(contestants))
            try:
                found.append(headgate(services) if name == HEADGATE else peer(services, name))
            except NeverHappened as error:
                raise BenchmarkFailed(f"{name}: {error}") from error
        progress("contestants", 1.0)
    if not quiet:
        Console().print(table(found))
    own = next((one for one in found if one.contestant == HEADGATE), None)
    if own is not None and (own.lost or own.stall_seconds is None):
        raise BenchmarkFailed(f"the worker did not pass: {own}")
    return {"stalls": {one.contestant: asdict(one) for one in found}}


def headgate(services: Services) -> Stalled:
    """Two workers with their defaults; SQL must hold each event once. Raises BenchmarkFailed, NeverHappened."""
    work = services.folder / HEADGATE
    work.mkdir()
    model = trained_detector(0, round(utc_now().timestamp() * 1000), lambda stage, done: None)
    settings = {"PUBLISH_PREDICTIONS": "true", "STATE": str(work / "state")}
    kafka, database, redis = services.kafka, services.database, services.redis
    with deployed(kafka, database, redis, "stall.", work, model, PARTITIONS, **settings) as deployment:

        def start() -> Sequence[Process]:
            return [deployment.worker(name) for name in ("one", "two")]

        traffic = Traffic(services.kafka, deployment.transactions, f"{deployment.prefix}predictions")
        found = measured(HEADGATE, traffic, f"{deployment.prefix}headgate", start)
        rows = deployment.value("SELECT count(*) FROM predictions")
        different = deployment.value("SELECT count(DISTINCT event_id) FROM predictions")
        if not rows == different == found.events:
            raise BenchmarkFailed(f"{found.events} events, but {rows} predictions of {different} events in SQL")
        return found


def peer(services: Services, name: str) -> Stalled:
    source, target, group = (f"{name}-{part}" for part in ("source", "target", "group"))
    topics: Mapping[str, Mapping[str, str]] = {source: {}, target: {}}
    create_topics(KafkaSettings(services.kafka), topics, partitions=PARTITIONS, replication=1)
    options = {"kafka": services.kafka, "source": source, "target": target, "group": group}
    options |= {"guarantee": PEERS[name].guarantee}
    arguments = [sys.executable, "-m", PEERS[name].module]
    arguments += [part for option, value in options.items() for part in (f"--{option}", value)]
    with ExitStack() as cleanup:

        def start() -> Sequence[Process]:
            return [cleanup.enter_context(start_service(command(number))) for number in range(2)]

        def command(number: int) -> ServerCommand:
            folder = services.folder / f"{name}-{number}"
            folder.mkdir()
            environment = {"PYTHONPATH": str(CHECKOUT)}
            return ServerCommand(
                name, arguments, folder, 0, services.kafka, probe=lambda: None, environment=environment
            )

        return measured(name, Traffic(services.kafka, source, target), group, start)


def table(found: Sequence[Stalled]) -> Table:
    shown = Table(title="kill -9 of one of two workers, default settings", title_justify="left")
    for column in ("", "first new output", "events", "lost", "more than once"):
        shown.add_column(column, justify="right" if column else "left")
    for one in found:
        title = PEERS[one.contestant].title if one.contestant in PEERS else "Headgate"
        stall = "never" if one.stall_seconds is None else f"{one.stall_seconds:.1f} s"
        shown.add_row(title, stall, f"{one.events:,}", str(one.lost), str(one.doubled))
    return shown
