"""The course of the demo: services, a first detector, a worker, live payments and shoppers, a summary; and nothing left
at the end.

Time is squeezed: a small population of accounts lives some minutes as it would live weeks, so that there is history
when it starts, and fraud while one watches. History ends when the demo begins, and reaches the worker through Kafka
as everything does; it is too old to raise alerts.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
from pydantic import SecretStr
from rich.console import Console

from ops.clock import epoch_milliseconds
from ops.demo.live import LiveFeed, Watch
from ops.demo.prepare import (
    MERCHANTS,
    DemoConfig,
    Progress,
    demo_settings,
    first_detector,
    prepare_services,
    simulated_history,
    start_dashboard,
    start_worker,
    wait_ready,
)
from ops.demo.readings import Readings, quantile
from ops.demo.shop import DemoShop
from ops.demo.shop_readings import ShopFigures, ShopReadings
from ops.demo.teacher import Teacher
from ops.embedded import embedded_services
from ops.kafka_settings import kafka_settings
from ops.progress import progress_bar
from ops.secret_files import FILE_SUFFIX
from ops.service import Service, ServiceUnavailable
from ops.settings import Settings, variable
from ops.simulate.kafka import KafkaOutput
from ops.simulate.labels import labels_of
from ops.simulate.live import LIVE_LABEL_DELAY, LiveConfig, LiveTraffic
from ops.struct_types import prepare_struct_types
from storage.database import Database
from storage.registry import ModelRecord

#: How long the worker may take for what was already sent.
CATCH_UP_SECONDS = 120.0
DRAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Demo:
    """Everything that runs, and where it shows. dashboard: the console's address."""

    config: DemoConfig
    settings: Settings
    folder: Path
    database: Database
    worker: Service
    dashboard: str
    cards: KafkaOutput
    shop: DemoShop
    readings: Readings


def run_demo(given: Settings, config: DemoConfig, console: Console) -> dict[str, Any]:
    """Returns the summary. Raises KeyboardInterrupt where the demo is ended before its live phase."""
    prepare_struct_types()
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
        console_server = cleanup.enter_context(start_dashboard(settings, services.folder))
        demo = Demo(
            config,
            settings,
            services.folder,
            database,
            worker,
            console_server.url,
            KafkaOutput(kafka_settings(settings), topic_prefix=settings.topic_prefix),
            cleanup.enter_context(closing(DemoShop(settings, config, epoch_milliseconds()))),
            readings_of(settings, database, worker),
        )
        with progress_bar(quiet=not console.is_terminal, console=console) as progress:
            model = prepare_live(demo, progress)
        return live_phase(demo, model, console, began)


def prepare_live(demo: Demo, progress: Progress) -> ModelRecord:
    """Until the worker has scored the history with its first model, and knows the shoppers."""
    now = epoch_milliseconds()
    history = simulated_history(demo.config, now, progress)
    demo.cards.send(history, labels_of(history, LIVE_LABEL_DELAY).take(slice(0, 0)))
    demo.cards.flush()
    engagements = demo.shop.send_until(now)
    demo.shop.deliver()
    model = first_detector(history, demo.config, demo.settings, demo.database, now, progress)
    wait_ready(demo.worker, progress)
    wait_applied(demo.worker, lambda: demo.readings.sample().applied, len(history), CATCH_UP_SECONDS, progress)
    wait_applied(demo.worker, shop_readings_of(demo).applied, engagements, CATCH_UP_SECONDS, progress)
    return model


def wait_applied(
    worker: Service,
    applied: Callable[[], float],
    events: int,
    seconds: float,
    progress: Progress = lambda stage, done: None,
) -> bool:
    """Until the worker has stored so many; false where it took longer."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while (done := applied()) < events:
        progress("score history", done / events)
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


def shop_readings_of(demo: Demo) -> ShopReadings:
    """Of the slates that are made from now on."""
    return ShopReadings(
        worker_url=demo.worker.url,
        topic=f"{demo.settings.topic_prefix}engagements",
        database=demo.database,
        since=datetime.now(UTC),
        clock=time.monotonic,
    )


def live_phase(demo: Demo, model: ModelRecord, console: Console, began: float) -> dict[str, Any]:
    """Traffic until the time is over or Ctrl-C; then what came of it."""
    config = demo.config
    traffic = LiveTraffic(
        LiveConfig(
            start=epoch_milliseconds(),
            accounts=config.accounts,
            merchants=MERCHANTS,
            rate=config.rate,
            seed=config.seed,
        )
    )
    name, lines = f"{model.name}:{model.version}", exports(demo.settings)
    console.print(f"The console: {demo.dashboard}", markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def send_cards(now: int) -> int:
        batch = traffic.until(now)
        demo.cards.send(batch.transactions, batch.labels)
        return len(batch.transactions)

    shop = shop_readings_of(demo)
    teacher = Teacher(demo.settings, demo.database, demo.folder, time.monotonic)
    feeds = LiveFeed("cards", send_cards), LiveFeed("shoppers", demo.shop.send_until)
    with feeds[0], feeds[1], closing(teacher):
        watch = Watch(
            demo.worker,
            feeds,
            demo.readings,
            shop,
            teacher,
            model=name,
            dashboard=demo.dashboard,
            exports=lines,
            clock=time.monotonic,
        )
        with suppress(KeyboardInterrupt):
            watch.run(console, config.seconds)
        seconds = time.monotonic() - watch.began
        for feed in feeds:
            feed.stop()
    demo.cards.flush()
    demo.shop.deliver()
    sent = round(watch.before.applied) + feeds[0].sent
    drained = wait_applied(demo.worker, lambda: demo.readings.sample().applied, sent, DRAIN_SECONDS)
    drained &= wait_applied(demo.worker, shop.applied, demo.shop.sent.engagements, DRAIN_SECONDS)
    end = demo.readings.sample()
    figures = demo.readings.figures(now=True)
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
        "engagements": feeds[1].sent,
        "retrainings": teacher.lessons,
        **shop_summary(shop.figures(now=True)),
    }


def shop_summary(figures: ShopFigures) -> dict[str, Any]:
    return {
        "recommendations": figures.recommendations,
        "reward_per_slate": {each.policy: rounded(each.per_slate) for each in figures.policies},
        "reward_lift": rounded(figures.lift),
    }


def exports(settings: Settings) -> list[str]:
    """Lines for another shell in which `headgate` and one's own clients use the demo's services."""
    names = ("kafka", "redis", "database", "models", "topic_prefix", "redis_prefix")
    values = settings.environment()
    variables = [variable(name) + ending for name in names for ending in ("", FILE_SUFFIX)]
    return [f"export {name}={values[name]}" for name in variables if values.get(name)]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


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
