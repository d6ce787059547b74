"""`headgate worker`: puts the parts together and runs them until a signal or a failure.

Composition only. It waits, with one clear line each, for services that are absent at the start and for a first
champion; from then on the flow looks after itself. It answers about its health from the start.
"""

import asyncio
import faulthandler
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import redis
import structlog
import torch
import uvloop

from ops.clock import utc_now
from ops.compose import WorkerFailed, build_flow
from ops.hanging import build_watchdog
from ops.health_server import HealthServer
from ops.kafka_settings import group_of, kafka_settings, needed_rights
from ops.model_registry import open_registry
from ops.settings import PREFIX, Settings
from ops.struct_types import prepare_struct_types
from storage.database import Database, DatabaseRefused, DatabaseUnavailable, SchemaOutdated, open_database
from storage.day_partitions import ensure_days
from storage.redis_refusals import in_words, refusal_of
from storage.registry import ModelRecord, ModelRegistry
from streams.app import AppSettings, FlowApp, build_app
from streams.detection import MODEL_NAME
from streams.flow import Flow
from streams.health import FlowMetrics
from streams.kafka import (
    KafkaRefused,
    KafkaSettings,
    KafkaUnavailable,
    TopicMissing,
)
from streams.kafka_refusals import Refusals
from streams.kafka_rights import check_rights
from streams.leaving import leave_group
from streams.periodic import Periodic
from streams.watchdog import LOOK_SECONDS

log = structlog.get_logger(__name__)


#: What a person may be about to mend while a worker waits for it.
ABSENT = (KafkaUnavailable, TopicMissing, DatabaseRefused, DatabaseUnavailable, SchemaOutdated, redis.RedisError)
LONGEST_WAIT = 10.0
STOP_SECONDS = 20.0
#: Between two looks whether the hot tables have partitions for the days ahead.
DAYS_SECONDS = 3600.0


class WorkerHealth:
    """What /ready and /health say: what the worker waits for, and once it works what its flow says."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._waiting_for: str | None = None
        self._flow: Flow | None = None

    def waits_for(self, what: str) -> None:
        self._waiting_for = what

    def works(self, flow: Flow) -> None:
        self._flow = flow

    def answer(self) -> Mapping[str, Any]:
        if self._flow is not None:
            return self._flow.health()
        warnings = [f"the worker waits for {self._waiting_for}"]
        return {
            "ready": False,
            "worker": self._worker,
            "failure": None,
            "warnings": warnings,
            "partitions": [],
            "stopped": [],
        }


def run_worker(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM; raises WorkerFailed and CannotListen. Where it hangs, the process ends
    (ops/hanging.py)."""
    faulthandler.enable()  # a library that crashes says where
    torch.set_num_threads(1)
    prepare_struct_types()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    worker = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    metrics, health = FlowMetrics(), WorkerHealth(worker)
    with HealthServer(settings.metrics_host, settings.metrics_port, metrics.registry, health.answer) as server:
        _work(settings, worker, metrics, health, server.url, stopping)


def _work(
    settings: Settings, worker: str, metrics: FlowMetrics, health: WorkerHealth, url: str, stopping: threading.Event
) -> None:
    """Waits for what it needs, then runs the flow. url: where metrics and health are."""
    kafka = kafka_settings(settings)
    refusals = Refusals(metrics.kafka_refused, time.monotonic)
    health.waits_for("Kafka, the database and Redis")
    if not wait_for_services(settings, kafka, metrics, stopping):
        return
    database = open_database(settings.database.get_secret_value())
    if settings.model_signing_key.get_secret_value():
        log.warning("HEADGATE_MODEL_SIGNING_KEY is not for workers: keep it where models are trained")
    registry = open_registry(settings, database, on_untrusted=metrics.model_untrusted)
    health.waits_for("a first champion: `headgate train`")
    champion = wait_for_champion(registry, stopping)
    if champion is None:
        return
    flow = build_flow(settings, kafka, database, registry, champion, metrics, worker, refusals)
    health.works(flow)
    log.info("worker starts", worker=worker, model=f"{champion.name}:{champion.version}", metrics=url)
    uvloop.run(_serve(settings, kafka, database, flow, metrics, refusals, worker, stopping))


@contextmanager
def _making_days(database: Database, metrics: FlowMetrics) -> Iterator[None]:
    """Now and once an hour."""
    periodic = Periodic("day-partitions", DAYS_SECONDS, lambda: make_days(database), metrics)
    with suppress(DatabaseUnavailable):  # partitions can wait, the rows of their days find a place
        make_days(database)
    periodic.start()
    try:
        yield
    finally:
        periodic.stop()


def make_days(database: Database) -> None:
    """Partitions for the days ahead, where the database has any. Raises DatabaseUnavailable."""
    made = ensure_days(database, utc_now().date())
    if made:
        log.info("partitions were made for the days ahead", partitions=len(made), last=made[-1])


def wait_for_services(
    settings: Settings, kafka: KafkaSettings, metrics: FlowMetrics, stopping: threading.Event
) -> bool:
    """True once the broker (with our topics), the database (migrated) and Redis answer; False when told to stop. Raises
    KafkaRefused: waiting would mend neither a password nor a right."""

    def check_kafka() -> None:
        check_rights(kafka, needed_rights(settings))

    def check_database() -> None:
        open_database(settings.database.get_secret_value()).check()

    def check_redis() -> None:
        with redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=5) as client:
            client.ping()

    checks: Mapping[str, Callable[[], None]] = {
        "HEADGATE_KAFKA": check_kafka,
        "HEADGATE_DATABASE": check_database,
        "HEADGATE_REDIS": check_redis,
    }
    return all(_wait_for(setting, check, metrics, stopping) for setting, check in checks.items())


def _wait_for(setting: str, check: Callable[[], None], metrics: FlowMetrics, stopping: threading.Event) -> bool:
    seconds = 0.5
    while not stopping.is_set():
        try:
            check()
            return True
        except KafkaRefused:
            raise
        except ABSENT as error:
            problem = in_words(error) if isinstance(error, redis.RedisError) else str(error)
            log.warning("waiting for a service", setting=setting, problem=problem, seconds=seconds)
            if (reason := refusal(error)) is not None:
                metrics.store_refused(setting.removeprefix(PREFIX).lower(), reason)
        stopping.wait(seconds)
        seconds = min(seconds * 2, LONGEST_WAIT)
    return False


def refusal(error: Exception) -> str | None:
    """Why the database or Redis refuses us, or we them; None where they are merely away, or not as they should be."""
    if isinstance(error, DatabaseRefused):
        return "authorization"
    if isinstance(error, DatabaseUnavailable):
        return error.refused
    return refusal_of(error) if isinstance(error, redis.RedisError) else None


def wait_for_champion(registry: ModelRegistry, stopping: threading.Event) -> ModelRecord | None:
    """The champion's record; waits until one is registered."""
    seconds = 0.5
    said = False
    while not stopping.is_set():
        try:
            champion = registry.champion(MODEL_NAME)
        except DatabaseUnavailable as error:
            log.warning("waiting for a service", setting="HEADGATE_DATABASE", problem=str(error), seconds=seconds)
        else:
            if champion is not None:
                return champion
            if not said:
                log.warning("no champion yet; train one with `headgate train`", model=MODEL_NAME)
                said = True
        stopping.wait(seconds)
        seconds = min(seconds * 1.5, 2.0)
    return None


async def _serve(
    settings: Settings,
    kafka: KafkaSettings,
    database: Database,
    flow: Flow,
    metrics: FlowMetrics,
    refusals: Refusals,
    worker: str,
    stopping: threading.Event,
) -> None:
    app = build_app(
        AppSettings(
            kafka=kafka,
            group=group_of(settings),
            worker=worker,
            session_timeout=settings.session_timeout_seconds,
        ),
        flow,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stopping.is_set():
        return
    gc.freeze()
    look = build_watchdog(flow, kafka, database, metrics, refusals).look
    watchdog = Periodic("watchdog", LOOK_SECONDS, look, metrics)
    with _making_days(database, metrics):
        flow.start()
        watchdog.start()
        try:
            await app.start()
            await _until_stopped(app, flow, stop)
        finally:
            log.info("worker stops", worker=worker)
            watchdog.stop()
            await _stop(app, flow, lambda: leave_group(kafka, app.conf.id, worker))
    problem = flow.failure or app.crash_reason
    if problem is not None:
        raise WorkerFailed(f"{type(problem).__name__}: {problem}") from problem


async def _until_stopped(app: FlowApp, flow: Flow, stop: asyncio.Event) -> None:
    """Returns on a signal, on a failure in the flow, or when Faust has given up."""
    crashed = asyncio.ensure_future(_crash(app))
    ended = asyncio.ensure_future(stop.wait())
    failed = asyncio.ensure_future(flow.failed.wait())
    await asyncio.wait({crashed, ended, failed}, return_when=asyncio.FIRST_COMPLETED)
    for task in (crashed, ended, failed):
        task.cancel()


async def _stop(app: FlowApp, flow: Flow, leave: Callable[[], bool]) -> None:
    """Finishes what is at hand, and hands over. A claim that waits for the database keeps neither Faust nor the process
    alive."""
    await flow.release()
    flow.stop_waiting()
    try:
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(app.stop(), STOP_SECONDS)
    except TimeoutError:
        log.warning("the Kafka consumer did not stop in time", seconds=STOP_SECONDS)
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(None, leave)
    except KafkaUnavailable as error:
        log.warning("others have to wait for the session's end", error=str(error))
    await loop.run_in_executor(None, flow.stop)


async def _crash(app: object) -> None:
    """Returns when Faust has given up."""
    await app._crashed.wait()  # type: ignore[attr-defined]
