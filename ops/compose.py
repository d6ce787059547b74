"""From settings to a flow: which part gets which of the others. Composition only; ops/worker.py runs it."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import redis
import structlog
import torch

from models.alert_rule import parse_rule
from models.artifact import BadModel, TrainedDetector
from models.scoring import Scorer
from ops.clock import utc_now
from ops.compose_recommendations import build_recommendations
from ops.compose_state import StatePart, slots_to_reserve, state_rules
from ops.kafka_settings import group_of
from ops.redis_settings import redis_views
from ops.settings import Settings
from storage.database import Database, DatabaseUnavailable
from storage.redis_views import RedisViews
from storage.registry import CorruptModel, ModelRecord, ModelRegistry
from streams import drift_watch, partition_watch, threshold_watch, verdicts
from streams.batch import OwnedPartition, Processor
from streams.batch_size import BatchSize
from streams.commit import CommitResult, Committer
from streams.detection import DetectionProcessor, DetectionRules
from streams.drift_watch import DriftWatch
from streams.feedback import FeedbackProcessor
from streams.flow import Flow, owned_by
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, producer, records_consumer
from streams.kafka_refusals import Refusals
from streams.labels import LOOK_SECONDS, LabelWatch
from streams.models_in_use import WatchedModels
from streams.ownership import Ownership
from streams.partition_watch import PartitionWatch
from streams.periodic import Periodic
from streams.pipeline import Pipeline
from streams.reading import TopicReader
from streams.records import DecodeLimits
from streams.recovery import PartitionSource
from streams.relay import Relay
from streams.rows import RowEncoder
from streams.shadow import ShadowWatch
from streams.sinks import (
    ALERTS,
    DEAD_LETTERS,
    MODEL_UPDATES,
    PREDICTIONS,
    RECOMMENDATIONS,
    KafkaSink,
    RedisSink,
    model_updates,
)
from streams.state_keeping import StateRules
from streams.state_metrics import StateMetrics
from streams.swap import ASK_SECONDS, ChampionWatch, Tell
from streams.threshold_watch import ThresholdWatch
from streams.verdicts import VerdictWatch

log = structlog.get_logger(__name__)

#: A rate of 0 or below would make amounts that no detector has seen.
Rate = Annotated[float, msgspec.Meta(gt=0)]


class WorkerFailed(Exception):
    """The worker cannot go on; the message says what happened, where, and what to do."""


def load_detector(registry: ModelRegistry, record: ModelRecord) -> TrainedDetector:
    try:
        return TrainedDetector.from_bytes(registry.load(record))
    except (BadModel, CorruptModel) as error:
        raise WorkerFailed(
            f"model {record.name}:{record.version} is refused: {error}; "
            "promote another version with `headgate models promote`"
        ) from error


def build_flow(
    settings: Settings,
    kafka: KafkaSettings,
    database: Database,
    registry: ModelRegistry,
    champion: ModelRecord,
    metrics: FlowMetrics,
    worker: str,
    refusals: Refusals,
) -> Flow:
    """The flow with its pipelines and relays, not yet started."""
    ownership = Ownership()
    rates = read_rates(settings.rates)
    limits = DecodeLimits(
        settings.record_size_limit, int(settings.future_tolerance_seconds * 1000), settings.pseudonyms
    )
    rows = RowEncoder(database.dialect)
    transactions, feedback, engagements, items = (
        f"{settings.topic_prefix}{name}" for name in ("transactions", "feedback", "engagements", "items")
    )
    views = redis_views(settings)
    alert_max_age = int(settings.alert_max_age_seconds * 1000)
    thresholds = ThresholdWatch(
        database, registry, parse_rule(settings.alert_rule), metrics, alert_max_age=alert_max_age
    )
    drift = DriftWatch(database, metrics, utc_now, worker=worker)
    relays = build_relays(settings, kafka, views, database, metrics, refusals)
    tell = operator_line(views, worker)
    announce = announcing(relays, owned_by(ownership, transactions))
    models = WatchedModels(
        ChampionWatch(registry, champion, metrics, tell, clock=utc_now, changed=announce),
        ShadowWatch(registry, champion.name, metrics, tell, clock=utc_now),
    )
    labels = LabelWatch(database, metrics, utc_now, horizon=settings.label_horizon)
    labels.load()
    models.look()  # before the first batch: a shadow, and the way back from a model that fails at once
    verdict_watch = VerdictWatch(database, utc_now)
    flow: Flow
    partitions: PartitionWatch

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        flow.on_database_away(failures, error)

    device = choose_device(settings.device)
    state = StatePart(read_state_rules(settings), database, wait, StateMetrics(metrics.registry))
    capacity = slots_to_reserve(settings)
    scorer = Scorer(load_detector(registry, champion), device=device, initial_capacity=capacity)
    detection = DetectionProcessor(
        scorer,
        f"{champion.name}:{champion.version}",
        PartitionSource(database, rates, wait),
        rows,
        DetectionRules(
            limits=limits,
            fold_within=int(settings.alert_fold_minutes * 60_000),
            alert_max_age=alert_max_age,
            rates=rates,
        ),
        owned_by(ownership, transactions),
        metrics,
        models=models,
        keeping=state.keeping(transactions, scorer.kept, scorer.drop_partition),
        set_threshold=thresholds.apply,
        take_labels=labels.take,
        sample=drift.sample,
        verdicts=verdict_watch.recent,
    )
    learning = FeedbackProcessor(
        database,
        rows,
        limits,
        wait=wait,
        owned=owned_by(ownership, feedback),
        expiry=timedelta(days=settings.feedback_expiry_days),
    )

    recommending = build_recommendations(
        settings, database, registry, ownership, metrics, limits, tell, wait, device, state
    )

    def on_commit(topic: str, result: CommitResult) -> None:
        flow.on_commit(result)
        if topic in state.snapshots:
            state.snapshots[topic].committed()

    def pipeline(topic: str, processor: Processor) -> Pipeline:
        return Pipeline(
            topic,
            TopicReader(
                topic,
                lambda: records_consumer(kafka, group_of(settings), refusals.hear),
                on_end=lambda *end: flow.seen_end(*end),
                on_out_of_range=lambda *place: flow.out_of_range(*place),
                on_error=refusals.hear,
            ),
            processor,
            Committer(database, wait, utc_now),
            accept=ownership.accept,
            size=BatchSize(settings.latency_budget_ms / 1000),
            clock=time.time,
            metrics=metrics,
            on_commit=lambda result: on_commit(topic, result),
            on_failure=lambda error: flow.on_failure(error),
        )

    watch = partial(Periodic, metrics=metrics)
    flow = Flow(
        background=[
            watch("model-watch", ASK_SECONDS, models.look),
            watch("label-watch", LOOK_SECONDS, labels.look),
            watch("verdict-watch", verdicts.LOOK_SECONDS, verdict_watch.look),
            watch("threshold-watch", threshold_watch.LOOK_SECONDS, thresholds.look, wake=thresholds.wake),
            watch("drift-watch", drift_watch.LOOK_SECONDS, drift.look),
            watch("partition-watch", partition_watch.LOOK_SECONDS, lambda: partitions.look()),
            *recommending.background,
            *state.snapshots.values(),
        ],
        database=database,
        kafka=kafka,
        ownership=ownership,
        pipelines=[
            pipeline(transactions, detection),
            pipeline(feedback, learning),
            pipeline(engagements, recommending.engagements),
            pipeline(items, recommending.items),
        ],
        relays=relays,
        metrics=metrics,
        clock=utc_now,
        owner_name=worker,
        start_latest=settings.start_from == "latest",
        keyed=[transactions, engagements],
        warnings=recommending.warnings,
    )
    partitions = PartitionWatch(
        database, flow.assigned, flow.take_again, time.monotonic, patience=2 * settings.session_timeout_seconds + 5
    )
    return flow


def announcing(relays: Sequence[Relay], owned: Callable[[], Sequence[OwnedPartition] | None]) -> Callable[[], None]:
    """Has a change of the champion published, where that is this worker's business."""

    def announce() -> None:
        for owner in owned() or ():
            for relay in relays:
                relay.wake(owner, [MODEL_UPDATES])

    return announce


def operator_line(views: RedisViews, worker: str) -> Tell:
    """Messages on the Redis channel `operator`; the log has them too, so a Redis that is away loses none."""

    def tell(message: str) -> None:
        try:
            views.tell_operator(msgspec.json.encode({"worker": worker, "at": utc_now(), "message": message}))
        except redis.RedisError as error:
            log.warning("the operator could not be told", error=str(error), message=message)

    return tell


def build_relays(
    settings: Settings,
    kafka: KafkaSettings,
    views: RedisViews,
    database: Database,
    metrics: FlowMetrics,
    refusals: Refusals,
) -> list[Relay]:
    to_kafka = [ALERTS, RECOMMENDATIONS, DEAD_LETTERS, model_updates(f"{settings.topic_prefix}transactions")]
    if settings.publish_predictions:
        to_kafka.append(PREDICTIONS)
    sink = KafkaSink(producer(kafka), settings.topic_prefix, refusals.hear)
    return [
        Relay(sink, to_kafka, database, metrics, clock=utc_now),
        Relay(RedisSink(views), [ALERTS, RECOMMENDATIONS], database, metrics, clock=utc_now),
    ]


def read_state_rules(settings: Settings) -> StateRules:
    try:
        return state_rules(settings)
    except ValueError as error:
        raise WorkerFailed(f"HEADGATE_STATE: {settings.state!r} is no place for snapshots: {error}") from error


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
