"""The course of the demo: services, a first detector, a worker, live traffic, a summary; and nothing left at the end.

Time is squeezed: a small population of accounts lives some minutes as it would live weeks, so that there is history
when it starts, and fraud while one watches. History ends when the demo begins, and reaches the worker through Kafka
as everything does; it is too old to raise alerts.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import redis
from pydantic import SecretStr
from rich.console import Console

from ops.demo.live import LiveFeed, Watch
from ops.demo.prepare import (
    MERCHANTS,
    DemoConfig,
    Progress,
    demo_settings,
    first_detector,
    prepare_services,
    simulated_history,
    start_worker,
    wait_ready,
)
from ops.demo.readings import Readings, quantile
from ops.embedded import embedded_services
from ops.progress import progress_bar
from ops.service import Service, ServiceUnavailable
from ops.settings import Settings, variable
from ops.simulate.kafka import KafkaOutput
from ops.simulate.labels import labels_of
from ops.simulate.live import LIVE_LABEL_DELAY, LiveConfig, LiveTraffic
from storage.database import Database
from storage.registry import ModelRecord

#: How long the worker may take for what was already sent.
CATCH_UP_SECONDS = 120.0
DRAIN_SECONDS = 30.0


def run_demo(given: Settings, config: DemoConfig, console: Console) -> dict[str, Any]:
    """Returns the summary. Raises KeyboardInterrupt where the demo is ended before its live phase."""
    began = time.monotonic()
    with sigterm_as_interrupt(), ExitStack() as cleanup:
        addresses = {
            name: _address(given, name) if name in given.model_fields_set else None
            for name in ("kafka", "redis", "database")
        }
        services = cleanup.enter_context(embedded_services(**addresses))
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(services.folder)  # torch would make a folder that stays
        settings = demo_settings(given, services)
        database = prepare_services(settings, cleanup, remove_topics=addresses["kafka"] is not None)
        worker = cleanup.enter_context(start_worker(settings, services.folder))
        output = KafkaOutput(settings.kafka, topic_prefix=settings.topic_prefix)
        readings = readings_of(settings, database, worker)
        with progress_bar(quiet=not console.is_terminal, console=console) as progress:
            model = prepare_live(config, settings, database, worker, output, readings, progress)
        return live_phase(config, worker, output, readings, model, exports(settings), console, began)


def prepare_live(
    config: DemoConfig,
    settings: Settings,
    database: Database,
    worker: Service,
    output: KafkaOutput,
    readings: Readings,
    progress: Progress,
) -> ModelRecord:
    """Until the worker has scored the history with its first model."""
    now = epoch_milliseconds()
    history = simulated_history(config, now, progress)
    output.send(history, labels_of(history, LIVE_LABEL_DELAY).take(slice(0, 0)))
    output.flush()
    model = first_detector(history, config, settings, database, now, progress)
    wait_ready(worker, progress)
    wait_scored(worker, readings, len(history), CATCH_UP_SECONDS, progress)
    return model


def wait_scored(
    worker: Service, readings: Readings, events: int, seconds: float, progress: Progress = lambda stage, done: None
) -> bool:
    """Until the worker has stored so many predictions; false where it took longer."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while (applied := readings.sample().applied) < events:
        progress("score history", applied / events)
        if not worker.running:
            raise ServiceUnavailable(f"the worker ended. {worker.end_of_log()}")
        if time.monotonic() > deadline:
            return False
        pause.wait(0.1)
    progress("score history", 1.0)
    return True


def readings_of(settings: Settings, database: Database, worker: Service) -> Readings:
    return Readings(
        worker_url=worker.url,
        topic=f"{settings.topic_prefix}transactions",
        client=redis.Redis.from_url(settings.redis.get_secret_value(), socket_timeout=5),
        redis_prefix=settings.redis_prefix,
        database=database,
        since=datetime.now(UTC),
        clock=time.monotonic,
    )


def live_phase(
    config: DemoConfig,
    worker: Service,
    output: KafkaOutput,
    readings: Readings,
    model: ModelRecord,
    exports: list[str],
    console: Console,
    began: float,
) -> dict[str, Any]:
    """Traffic until the time is over or Ctrl-C; then what came of it."""
    traffic = LiveTraffic(
        LiveConfig(
            start=epoch_milliseconds(),
            accounts=config.accounts,
            merchants=MERCHANTS,
            rate=config.rate,
            seed=config.seed,
        )
    )
    name = f"{model.name}:{model.version}"
    for line in exports:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with LiveFeed(traffic, output) as feed:
        watch = Watch(worker, feed, readings, model=name, exports=exports, clock=time.monotonic)
        with suppress(KeyboardInterrupt):
            watch.run(console, config.seconds)
        seconds = time.monotonic() - watch.began
        feed.stop()
    output.flush()
    drained = wait_scored(worker, readings, round(watch.before.applied) + feed.sent, DRAIN_SECONDS)
    end = readings.sample()
    figures = readings.figures(now=True)
    events = round(end.applied - watch.before.applied)
    return {
        "seconds": round(seconds, 1),
        "events": events,
        "events_per_second": round(events / seconds, 1),
        "all_scored": drained,
        "alerts": figures.alerts,
        "labelled_alerts": figures.labelled,
        "precision": None if figures.precision is None else round(figures.precision, 4),
        "latency_p50_seconds": rounded(quantile(watch.before, end, 0.5)),
        "latency_p99_seconds": rounded(quantile(watch.before, end, 0.99)),
        "first_alert_seconds": rounded(None if watch.first_alert_at is None else watch.first_alert_at - began),
        "model": name,
        "validation_average_precision": rounded(model.metrics.get("average_precision")),
    }


def exports(settings: Settings) -> list[str]:
    """Lines for another shell in which `headgate` and one's own clients use the demo's services."""
    names = ("kafka", "redis", "database", "models", "topic_prefix", "redis_prefix")
    values = settings.environment()
    return [f"export {variable(name)}={values[variable(name)]}" for name in names if values.get(variable(name))]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def epoch_milliseconds() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that nothing is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _address(given: Settings, name: str) -> str:
    value = getattr(given, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value
