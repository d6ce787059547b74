"""Everything before the demo's live phase: settings, topics and schema, history, a first detector, a worker.

Services that the user gave are treated with care: topics and Redis keys get a prefix of this run, the topics are
removed at the end, and a database whose champion is a real model is refused.
"""

import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from pydantic import SecretStr

from models.events import Events
from models.labels import LabelledHistory
from models.sequences import TrainingConfig
from ops.clock import utc_now
from ops.compose import choose_device
from ops.embedded import EmbeddedServices
from ops.jobs.train import train_and_register
from ops.kafka_settings import kafka_settings
from ops.model_registry import open_registry
from ops.service import LOOPBACK, ServerCommand, Service, ServiceUnavailable, free_port, start_service, this_program
from ops.settings import Settings
from ops.simulate.cards import SimulatedTransactions, SimulationConfig, simulate
from ops.simulate.labels import labels_of
from ops.simulate.live import LIVE_LABEL_DELAY, time_scale
from ops.simulate.population import build_population
from storage.database import Database, open_database, upgrade
from storage.registry import ModelRecord
from streams.detection import MODEL_NAME
from streams.kafka import check_broker, create_topics, delete_topics, topic_configurations
from streams.policy_watch import POLICY_NAME

PARTITIONS = 4
MERCHANTS = 500
SECONDS_A_DAY = 86_400
#: The alert budget as a share of the events: of 200 a second, 60 a minute.
ALERT_SHARE = 0.005
#: What is older when it is scored raises no alert: the history.
ALERT_MAX_AGE_SECONDS = 30
#: More than one would give away in earnest, so that there is something to compare with within a minute.
RANDOM_HOLDOUT = 0.2
#: Most of what a slate earns comes within seconds; some purchases are known later and lost to training.
REWARD_WINDOW_SECONDS = 10
#: Of the processor, so that the first model is as good on a busy machine.
TRAINING_SECONDS = 20.0
READY_SECONDS = 120.0
#: Kept with the model, and how a later demo recognises it.
MADE_BY_DEMO = "first model of a demo"

Progress = Callable[[str, float], None]


class DemoRefused(Exception):
    """The demo would harm what the given services hold; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """seconds: of live traffic, None until Ctrl-C; rate: transactions a second on average."""

    seconds: float | None = None
    rate: float = 200.0
    seed: int = 7

    @property
    def accounts(self) -> int:
        """So many that each has an event about every twenty seconds."""
        return int(np.clip(20 * self.rate, 200, 5_000))

    @property
    def history_events(self) -> int:
        """Ten minutes of them, within bounds."""
        return int(np.clip(600 * self.rate, 20_000, 150_000))


def demo_settings(given: Settings, services: EmbeddedServices) -> Settings:
    """The user's settings with the demo's addresses, folders and limits."""
    run = uuid.uuid4().hex[:8]
    own: dict[str, object] = {
        "kafka": services.kafka,
        "redis": SecretStr(services.redis),
        "database": SecretStr(services.database),
        "models": str(services.folder / "models"),
        "state": str(services.folder / "state"),
        "metrics_port": free_port(),
        "dashboard_host": LOOPBACK,
        "dashboard_port": port_or_another(given.dashboard_port),
        "alert_max_age_seconds": ALERT_MAX_AGE_SECONDS,
        "alert_rule": "registered",  # ten minutes of history, with days' worth of events, mislead a budget per day
        "random_holdout": RANDOM_HOLDOUT,
        "reward_window_hours": REWARD_WINDOW_SECONDS / 3600,
    }
    if "kafka" not in given.model_fields_set:  # how to reach another broker is nothing to ours
        own |= {name: each.default for name, each in Settings.model_fields.items() if name.startswith("kafka_")}
    else:
        own["topic_prefix"] = f"{given.topic_prefix}demo-{run}."
    if "redis" in given.model_fields_set:
        own["redis_prefix"] = f"{given.redis_prefix}demo-{run}:"
    return given.model_copy(update=own)


def prepare_services(settings: Settings, cleanup: ExitStack, *, remove_topics: bool) -> Database:
    """Schema and topics. Raises DemoRefused where the database serves a real model."""
    kafka = kafka_settings(settings)
    check_broker(kafka)
    url = settings.database.get_secret_value()
    upgrade(url)
    database = open_database(url)
    cleanup.callback(database.engine.dispose)
    registry = open_registry(settings, database, registers=True)
    detector, policy = registry.champion(MODEL_NAME), registry.champion(POLICY_NAME)
    real = detector or policy
    if real is not None and (detector is None or detector.promoted_why != MADE_BY_DEMO):
        raise DemoRefused(
            f"{database.where} serves {real.name}:{real.version}, which the demo would replace; "
            "give HEADGATE_DATABASE an empty database, or none"
        )
    topics = topic_configurations(settings.topic_prefix, settings.record_size_limit)
    create_topics(kafka, topics, partitions=PARTITIONS, replication=1)
    if remove_topics:
        cleanup.callback(delete_topics, kafka, list(topics))
    return database


def start_worker(settings: Settings, folder: Path) -> Service:
    """The ordinary `headgate worker`; returns at once, `wait_ready` waits for it."""
    work = folder / "worker"
    work.mkdir()
    port = settings.metrics_port
    command = ServerCommand(
        name="worker",
        arguments=[*this_program(), "worker"],
        folder=work,
        port=port,
        url=f"http://{LOOPBACK}:{port}",
        probe=lambda: None,
        stop_seconds=30.0,
        environment=settings.environment(),
    )
    return start_service(command)


def start_dashboard(settings: Settings, folder: Path) -> Service:
    """The ordinary `headgate dashboard`; returns at once. The demo goes on without it."""
    work = folder / "dashboard"
    work.mkdir()
    command = ServerCommand(
        name="dashboard",
        arguments=[*this_program(), "dashboard"],
        folder=work,
        port=settings.dashboard_port,
        url=f"http://{LOOPBACK}:{settings.dashboard_port}",
        probe=lambda: None,
        environment=settings.environment(),
    )
    return start_service(command)


def port_or_another(wanted: int) -> int:
    """This one where nobody listens on it."""
    if wanted == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, wanted))
        except OSError:
            return free_port()
    return wanted


def simulated_history(config: DemoConfig, now: int, progress: Progress) -> SimulatedTransactions:
    """What the accounts did until now (epoch milliseconds), at the pace at which they go on."""
    population = build_population(config.accounts, MERCHANTS, config.seed)
    return simulate(
        SimulationConfig(
            accounts=config.accounts,
            merchants=MERCHANTS,
            start=now - round(config.history_events / config.rate * 1000),
            end=now,
            events=config.history_events,
            seed=config.seed,
            run=f"history{now}",
            time_scale=time_scale(population, config.rate),
        ),
        progress,
    )


def first_detector(
    history: SimulatedTransactions,
    config: DemoConfig,
    settings: Settings,
    database: Database,
    now: int,
    progress: Progress,
) -> ModelRecord:
    """Trained on what is known of the history by now, and registered as the champion."""
    labels = labels_of(history, LIVE_LABEL_DELAY)
    in_time = labels.take(labels.given_at <= now)
    known = np.full(len(history), -1, np.int8)
    known[in_time.number] = in_time.fraud
    events = Events.from_columns(history.columns())
    horizon = timedelta(milliseconds=LIVE_LABEL_DELAY.longest)
    record, _ = train_and_register(
        LabelledHistory.of(events, known, now=now, horizon=horizon),
        TrainingConfig(
            alerts_per_day=ALERT_SHARE * config.rate * SECONDS_A_DAY,
            events_per_day=config.rate * SECONDS_A_DAY,
            time_budget_seconds=TRAINING_SECONDS,
            seed=config.seed,
        ),
        open_registry(settings, database, registers=True),
        database,
        quality=None,
        promote=MADE_BY_DEMO,
        clock=utc_now,
        progress=progress,
        device=choose_device(settings.device),
        stopwatch=time.thread_time,
    )
    return record


def wait_ready(worker: Service, progress: Progress) -> None:
    """Until the worker has its partitions. Raises ServiceUnavailable."""
    deadline = time.monotonic() + READY_SECONDS
    pause = threading.Event()
    progress("worker starts", 0.0)
    while not _is_ready(worker):
        if not worker.running:
            raise ServiceUnavailable(f"the worker ended while starting. {worker.end_of_log()}")
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"the worker was not ready in {READY_SECONDS:.0f} s. {worker.end_of_log()}")
        pause.wait(0.1)
    progress("worker starts", 1.0)


def _is_ready(worker: Service) -> bool:
    try:
        with urllib.request.urlopen(f"{worker.url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
