"""`headgate worker`: puts the parts together and runs them until a signal or a failure.

Composition only. It waits, with one clear line each, for services that are absent at the start and for a first
champion; from then on the flow looks after itself.
"""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import redis
import structlog
import torch
import uvloop

from models.artifact import BadModel, TrainedDetector
from models.scoring import Scorer
from ops.clock import utc_now
from ops.health_server import HealthServer
from ops.settings import Settings
from storage.database import Database, DatabaseUnavailable, SchemaOutdated, open_database
from storage.redis_views import RedisViews
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams.app import AppSettings, FlowApp, build_app
from streams.commit import Committer
from streams.decode import DecodeLimits
from streams.detection import MODEL_NAME, DetectionProcessor, DetectionRules
from streams.feedback import FeedbackProcessor
from streams.flow import Flow, owned_by
from streams.health import FlowMetrics
from streams.kafka import (
    KafkaSettings,
    KafkaUnavailable,
    TopicMissing,
    check_broker,
    describe_topics,
    producer,
)
from streams.ownership import Ownership
from streams.pipeline import Pipeline
from streams.recovery import PartitionSource
from streams.relay import Relay
from streams.rows import RowEncoder
from streams.sinks import ALERTS, DEAD_LETTERS, PREDICTIONS, KafkaSink, RedisSink

log = structlog.get_logger(__name__)

#: A rate of 0 or below would make amounts that no detector has seen.
Rate = Annotated[float, msgspec.Meta(gt=0)]

#: What a person may be about to mend while a worker waits for it.
ABSENT = (KafkaUnavailable, TopicMissing, DatabaseUnavailable, SchemaOutdated, redis.RedisError)
LONGEST_WAIT = 10.0
STOP_SECONDS = 20.0


class WorkerFailed(Exception):
    """The worker cannot go on; the message says what happened, where, and what to do."""


def run_worker(settings: Settings) -> None:
    """Runs until SIGINT or SIGTERM; raises WorkerFailed."""
    torch.set_num_threads(1)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    kafka = KafkaSettings(settings.kafka)
    if not wait_for_services(settings, kafka, stopping):
        return
    database = open_database(settings.database.get_secret_value())
    registry = ModelRegistry(database, settings.models)
    champion = wait_for_champion(registry, stopping)
    if champion is None:
        return
    uvloop.run(_serve(settings, kafka, database, registry, champion, stopping))


def wait_for_services(settings: Settings, kafka: KafkaSettings, stopping: threading.Event) -> bool:
    """True once the broker (with our topics), the database (migrated) and Redis answer; False when told to stop."""
    topics = [f"{settings.topic_prefix}transactions", f"{settings.topic_prefix}feedback"]

    def check_kafka() -> None:
        check_broker(kafka)
        describe_topics(kafka, topics)

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
    return all(_wait_for(setting, check, stopping) for setting, check in checks.items())


def _wait_for(setting: str, check: Callable[[], None], stopping: threading.Event) -> bool:
    seconds = 0.5
    while not stopping.is_set():
        try:
            check()
            return True
        except ABSENT as error:
            log.warning("waiting for a service", setting=setting, problem=str(error), seconds=seconds)
        stopping.wait(seconds)
        seconds = min(seconds * 2, LONGEST_WAIT)
    return False


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


def load_detector(registry: ModelRegistry, record: ModelRecord) -> TrainedDetector:
    try:
        return TrainedDetector.from_bytes(registry.load(record))
    except (BadModel, CorruptModel) as error:
        raise WorkerFailed(
            f"model {record.name}:{record.version} is refused: {error}; "
            "promote another version with `headgate models promote`"
        ) from error


async def _serve(
    settings: Settings,
    kafka: KafkaSettings,
    database: Database,
    registry: ModelRegistry,
    champion: ModelRecord,
    stopping: threading.Event,
) -> None:
    metrics = FlowMetrics()
    worker = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}"
    flow = build_flow(settings, kafka, database, registry, champion, metrics, worker)
    app = build_app(
        AppSettings(
            servers=settings.kafka,
            group=f"{settings.topic_prefix}{settings.group}",
            worker=worker,
            session_timeout=settings.session_timeout_seconds,
            max_poll_records=settings.max_batch_records,
        ),
        flow,
    )
    health = HealthServer(settings.metrics_host, settings.metrics_port, metrics.registry, flow.health)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stopping.is_set():
        return
    gc.freeze()
    with health:
        flow.start()
        log.info("worker starts", worker=worker, model=f"{champion.name}:{champion.version}", metrics=health.url)
        try:
            await app.start()
            await _until_stopped(app, flow, stop)
        finally:
            log.info("worker stops", worker=worker)
            await _stop(app, flow)
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


async def _stop(app: FlowApp, flow: Flow) -> None:
    """Finishes what is at hand. A claim that waits for the database keeps neither Faust nor the process alive."""
    await flow.release()
    flow.stop_waiting()
    try:
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(app.stop(), STOP_SECONDS)
    except TimeoutError:
        log.warning("the Kafka consumer did not stop in time", seconds=STOP_SECONDS)
    await asyncio.get_running_loop().run_in_executor(None, flow.stop)


async def _crash(app: object) -> None:
    """Returns when Faust has given up."""
    await app._crashed.wait()  # type: ignore[attr-defined]


def build_flow(
    settings: Settings,
    kafka: KafkaSettings,
    database: Database,
    registry: ModelRegistry,
    champion: ModelRecord,
    metrics: FlowMetrics,
    worker: str,
) -> Flow:
    """The flow with its pipelines and relays, not yet started."""
    ownership = Ownership()
    rates = read_rates(settings.rates)
    limits = DecodeLimits(settings.record_size_limit, int(settings.future_tolerance_seconds * 1000))
    rows = RowEncoder(database.dialect)
    transactions, feedback = f"{settings.topic_prefix}transactions", f"{settings.topic_prefix}feedback"
    flow: Flow

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        flow.on_database_away(failures, error)

    detection = DetectionProcessor(
        Scorer(load_detector(registry, champion), device=choose_device(settings.device)),
        f"{champion.name}:{champion.version}",
        PartitionSource(database, rates, wait),
        rows,
        DetectionRules(
            limits=limits,
            fold_within=int(settings.alert_fold_minutes * 60_000),
            alert_max_age=int(settings.alert_max_age_seconds * 1000),
            rates=rates,
        ),
        owned_by(ownership, transactions),
        metrics,
    )
    learning = FeedbackProcessor(
        database,
        rows,
        limits,
        wait=wait,
        owned=owned_by(ownership, feedback),
        expiry=timedelta(days=settings.feedback_expiry_days),
    )

    def pipeline(topic: str, processor: DetectionProcessor | FeedbackProcessor) -> Pipeline:
        return Pipeline(
            topic,
            processor,
            Committer(database, wait, utc_now),
            max_batch_records=settings.max_batch_records,
            clock=time.time,
            metrics=metrics,
            on_commit=lambda result: flow.on_commit(result),
            on_failure=lambda error: flow.on_failure(error),
        )

    flow = Flow(
        database=database,
        kafka=kafka,
        ownership=ownership,
        pipelines=[pipeline(transactions, detection), pipeline(feedback, learning)],
        relays=build_relays(settings, kafka, database, metrics),
        metrics=metrics,
        clock=utc_now,
        owner_name=worker,
        start_latest=settings.start_from == "latest",
        fetch_wait_ms=settings.fetch_wait_ms,
    )
    return flow


def build_relays(settings: Settings, kafka: KafkaSettings, database: Database, metrics: FlowMetrics) -> list[Relay]:
    client = redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=10)
    views = RedisViews(
        client,
        prefix=settings.redis_prefix,
        ttl_seconds=settings.redis_ttl_seconds,
        stream_length=settings.alerts_stream_maxlen,
    )
    to_kafka = [ALERTS, DEAD_LETTERS]
    if settings.publish_predictions:
        to_kafka.append(PREDICTIONS)
    return [
        Relay(KafkaSink(producer(kafka), settings.topic_prefix), to_kafka, database, metrics, clock=utc_now),
        Relay(RedisSink(views), [ALERTS], database, metrics, clock=utc_now),
    ]


def read_rates(path: Path | None) -> dict[str, float]:
    """Currency -> how much of the base currency one unit is."""
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Rate])
    except (OSError, msgspec.DecodeError) as error:
        raise WorkerFailed(f"HEADGATE_RATES: cannot read {path}: {error}") from error


def choose_device(setting: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if setting == "auto" else setting
