"""Where the contestants run: services of our own on a real disk, one topic full of events, one trained detector.

Everything lies in one temporary folder and ends with the context. PostgreSQL keeps fsync on. Each contestant gets a
database of its own, a copy of a template with the schema, the champion and an empty `bench_progress`.
"""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

from models.events import Events
from models.feature_schema import FEATURE_SCHEMA
from models.labels import LabelledHistory
from models.sequences import TrainingConfig
from models.train_detector import train
from ops.bench.payment_memos import payment_memos
from ops.clock import utc_now
from ops.local_services import start_kafka, start_postgres, start_redis
from ops.service import ServiceUnavailable
from ops.simulate.cards import SimulatedTransactions, SimulationConfig, simulate
from ops.simulate.kafka import KafkaOutput
from ops.simulate.labels import LabelDelay, labels_of
from ops.simulate.messages import transaction_messages
from ops.simulate.scenarios import DAY
from storage.database import Database, open_database, upgrade
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from streams.kafka import KafkaSettings, create_topics, topic_configurations

TOPIC = "transactions"
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
#: Payments a day that a mean account of the simulated population makes.
PAYMENTS_A_DAY = 1.5
FRAUD_SHARE = 0.002
#: The detector learns from a smaller population of its own; its threshold flags about this share of events.
HISTORY_EVENTS, HISTORY_ACCOUNTS, HISTORY_FRAUDS = 100_000, 4_000, 0.01
ALERT_SHARE = 0.003

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """kafka: bootstrap servers; redis: URL; models: the registry's folder; model: the champion's file."""

    folder: Path
    file_system: str
    kafka: str
    redis: str
    models: Path
    model: Path
    postgres: Database

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh copy of the template, dropped afterwards."""
        name = f"bench_{uuid.uuid4().hex[:12]}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE bench_template STRATEGY file_copy")
        self.administer("CHECKPOINT")  # nobody pays for what the one before left in memory
        try:
            yield _url(self.postgres, name)
        finally:
            self.administer(f"DROP DATABASE {name} WITH (FORCE)")

    def empty_redis(self) -> None:
        with redis.Redis.from_url(self.redis) as client:
            client.flushdb()

    def administer(self, statement: str) -> None:
        with self.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))


@contextmanager
def stage(
    events: int, accounts: int, partitions: int, hidden: int, progress: Progress, alert_share: float = ALERT_SHARE
) -> Iterator[Stage]:
    """alert_share: of events that are flagged, about. Raises ServiceUnavailable where a service cannot be had."""
    with empty_stage(events, partitions, hidden, progress, alert_share) as prepared:
        produce(prepared.kafka, events, accounts, progress)
        yield prepared


@contextmanager
def empty_stage(
    events: int, partitions: int, hidden: int, progress: Progress, alert_share: float = ALERT_SHARE
) -> Iterator[Stage]:
    """All of it but the events, which so many are to come of."""
    with (
        disk_folder() as (folder, file_system),
        start_kafka(folder / "kafka") as kafka,
        start_postgres(folder / "postgres", fsync=True) as postgres,
        start_redis(folder / "redis") as cache,
    ):
        model = train_detector(hidden, min(HISTORY_EVENTS, max(events, 5_000)), alert_share, progress)
        prepared = Stage(
            folder=folder,
            file_system=file_system,
            kafka=kafka.url,
            redis=cache.url,
            models=folder / "models",
            model=folder / "detector.safetensors",
            postgres=open_database(postgres.url),
        )
        prepared.model.write_bytes(model)
        prepare_template(prepared, model)
        make_topics(kafka.url, partitions)
        try:
            yield prepared
        finally:
            prepared.postgres.engine.dispose()


@contextmanager
def disk_folder() -> Iterator[tuple[Path, str]]:
    """A temporary folder on a real disk and its file system, removed afterwards. Others may enter it: PostgreSQL does
    not run as root."""
    candidates = dict.fromkeys([Path(tempfile.gettempdir()), Path("/var/tmp")])  # in this order
    found = {parent: file_system_of(parent) for parent in candidates if os.access(parent, os.W_OK)}
    real = [parent for parent, kind in found.items() if kind not in IN_MEMORY]
    if not real:
        raise ServiceUnavailable(
            f"the benchmark needs a folder on a real disk, not in memory: {', '.join(map(str, found))} is no such; "
            "set TMPDIR"
        )
    folder = Path(tempfile.mkdtemp(prefix="headgate-bench-", dir=real[0]))
    folder.chmod(0o755)
    try:
        yield folder, found[real[0]]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_system_of(folder: Path) -> str:
    """The type of the file system that holds a folder (ext4, overlay, tmpfs); "unknown" where it is not Linux."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return deepest_mount(folder.resolve(), lines)


def deepest_mount(folder: Path, mountinfo: list[str]) -> str:
    """From lines of /proc/self/mountinfo (proc(5)): field 5 is the mount point, the first after " - " the type. Of two
    mounts at one point the later one counts."""
    mounts = [(Path(line.split(" ")[4]), line.split(" - ", 1)[1].split(" ")[0]) for line in mountinfo]
    above = [(len(point.parts), place) for place, (point, _) in enumerate(mounts) if folder.is_relative_to(point)]
    return mounts[max(above)[1]][1] if above else "unknown"


def train_detector(hidden: int, events: int, alert_share: float, progress: Progress) -> bytes:
    """A detector's file, trained for two epochs on simulated history with all its labels."""
    accounts = max(events * HISTORY_ACCOUNTS // HISTORY_EVENTS, 50)
    now = int(time.time() * 1000)
    config = SimulationConfig(
        accounts=accounts, start=now - 20 * DAY, end=now, events=events, fraud_share=HISTORY_FRAUDS, seed=2
    )
    history = simulate(config)
    training = TrainingConfig(
        hidden=hidden, epochs=2, alerts_per_day=events * alert_share, events_per_day=float(events)
    )
    labelled = LabelledHistory.matured(Events.from_columns(history.columns()), history.fraud.astype(np.int8))
    return train(labelled, training, progress).model.to_bytes()


def prepare_template(prepared: Stage, model: bytes) -> None:
    prepared.administer("CREATE DATABASE bench_template")
    url = _url(prepared.postgres, "bench_template")
    upgrade(url)
    template = open_database(url)
    try:
        with template.begin() as connection:
            connection.execute(text("CREATE TABLE bench_progress (source_partition int PRIMARY KEY, events bigint)"))
        ModelRegistry(template, str(prepared.models)).register(
            MODEL_NAME, "detector", model, feature_schema=FEATURE_SCHEMA, metrics={}, clock=utc_now, alias="champion"
        )
    finally:
        template.engine.dispose()


def make_topics(kafka: str, partitions: int) -> None:
    """Those that are missing."""
    wanted = topic_configurations("", 1_000_000)
    create_topics(KafkaSettings(kafka), wanted, partitions=partitions, replication=1)


def produce(kafka: str, events: int, accounts: int, progress: Progress, memo_share: float | None = None) -> None:
    """Simulated payments that end now, at the pace at which such a population pays. memo_share: of payments with a
    memo; None for the population's own memos."""
    end = int(time.time() * 1000)
    span = max(int(events / (accounts * PAYMENTS_A_DAY) * DAY), 3_600_000)
    config = SimulationConfig(
        accounts=accounts, merchants=5_000, start=end - span, end=end, events=events, fraud_share=FRAUD_SHARE, seed=1
    )
    transactions: SimulatedTransactions = simulate(config, progress)
    nothing = labels_of(transactions, LabelDelay(0, 0)).take(slice(0, 0))
    with KafkaOutput(KafkaSettings(kafka)) as output:
        for first in range(0, len(transactions), 50_000):
            part = transactions.rows(slice(first, first + 50_000))
            if memo_share is None:
                output.send(part, nothing)
            else:
                memos = payment_memos(np.random.default_rng([first, 1]), len(part), memo_share)
                output.produce(TOPIC, transaction_messages(part, memos))
            progress("produce", min(1.0, (first + 50_000) / len(transactions)))


def _url(server: Database, name: str) -> str:
    return make_url(server.engine.url).set(database=name).render_as_string(hide_password=False)
