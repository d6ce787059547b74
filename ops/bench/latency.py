"""`headgate bench latency`: how long from a payment to its alert, in Kafka and in Redis, on the whole durable path.

Open loop: payments come at moments drawn beforehand (Poisson), whatever becomes of those before, and a latency counts
from the moment at which its payment was to be sent, so a worker that stalls is not spared the payments of that time
(Tene, "How not to measure latency", 2015). One `headgate worker` with its defaults, PostgreSQL with fsync on a real
disk, services and load generator on the same machine. Far more is flagged than usual, for the sake of samples. Every
payment must be scored once, and every alert be in SQL, Kafka and Redis.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from ops.bench.contestants import HEADGATE, alerts_of, contestant, ends_of_alerts, running
from ops.bench.measure import BenchmarkFailed, stored
from ops.bench.stage import Stage, stage
from ops.bench.throughput import ending_on_sigterm, machine
from ops.progress import progress_bar
from ops.simulate.cards import SimulationConfig, simulate
from ops.simulate.messages import transaction_messages
from ops.simulate.scenarios import DAY
from storage.database import Database, open_database

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]

#: Before the measured time: caches fill, and the broker's Java compiles (which takes 70 % of a core instead of 25).
WARM_SECONDS = 30.0
#: Payments in Kafka before the worker starts, which it has to get through first.
BACKLOG = 20_000
#: So many of the payments, or a second, are flagged, whichever is fewer: the reasons of one alert take as long as
#: scoring fifty payments, and no service has hundreds of alerts a second.
ALERT_SHARE, ALERTS_A_SECOND = 0.01, 10.0
READY_SECONDS, LAST_SECONDS = 120.0, 60.0
#: What a producer that cares for latency sets; librdkafka's default is 5.
LINGER_MS = 1
#: Seconds. Payments that are due within it are sent together, so that at high rates the generator does not take the
#: worker's core; they count as late by as much.
LEAST_SLEEP = 0.0005
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
#: A quantile is told where at least so many samples lie beyond it.
LEAST_BEYOND = 5


@dataclass(frozen=True, slots=True)
class LatencyConfig:
    """rate: payments a second; seconds: measured, after the warm-up."""

    rate: float
    seconds: float
    accounts: int
    partitions: int
    hidden: int
    warm_seconds: float = WARM_SECONDS


@dataclass(frozen=True, slots=True)
class Payments:
    """Messages with their ids and when each is due, seconds from the begin, in order."""

    due: Floats
    event_ids: Sequence[str]
    messages: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class Arrivals:
    """When an alert first named each payment: event id -> reading of the monotonic clock."""

    at: dict[str, float] = field(default_factory=dict)

    def heard(self, payload: bytes, now: float) -> None:
        for event_id in msgspec.json.decode(payload, type=_Named).event_ids:
            self.at.setdefault(event_id, now)


class _Named(msgspec.Struct):
    """All that is wanted of an alert."""

    event_ids: list[str]


def run_latency(config: LatencyConfig, *, quiet: bool) -> dict[str, Any]:
    """The result as `--json` prints it, latencies in seconds; shown as a table unless quiet. Raises BenchmarkFailed,
    ServiceUnavailable."""
    with (
        ending_on_sigterm(),
        progress_bar(quiet) as progress,
        stage(BACKLOG, config.accounts, config.partitions, config.hidden, progress, alert_share(config)) as prepared,
        prepared.database() as url,
    ):
        payments = make_payments(config, progress)
        database = open_database(url)
        try:
            entrant, alerts_before = contestant(HEADGATE), ends_of_alerts(prepared.kafka)
            with running(entrant, prepared, url, {"ALERT_RULE": "registered"}) as service:
                wait_for(lambda: scored(database) >= BACKLOG, READY_SECONDS, "the backlog was not scored")
                alerts_of(prepared, database, alerts_before)  # those of the backlog are published
                total = BACKLOG + len(payments.due)

                def published() -> None:
                    wait_for(lambda: scored(database) >= total, LAST_SECONDS, "not every payment was scored")
                    alerts_of(prepared, database, alerts_before)

                result = measured(prepared, payments, config, progress, published)
                alerts = alerts_of(prepared, database, alerts_before)
                if not service.running:
                    raise BenchmarkFailed(f"the worker ended. {service.end_of_log(30)}")
            problems = [*stored(database, entrant.counted).problems(total), *alerts.problems()]
        finally:
            database.engine.dispose()
    if problems:
        raise BenchmarkFailed(f"the figures do not count: {'; '.join(problems)}")
    result |= {"accounts": config.accounts, "partitions": config.partitions, "hidden": config.hidden}
    result |= {"disk": {"file_system": prepared.file_system, "fsync": True}, "machine": machine()}
    if not quiet:
        show(result, Console())
    return result


def alert_share(config: LatencyConfig) -> float:
    return min(ALERT_SHARE, ALERTS_A_SECOND / config.rate)


def make_payments(config: LatencyConfig, progress: Progress) -> Payments:
    """Simulated payments of a day that ends now, due at moments of a Poisson process."""
    count = int(config.rate * (config.warm_seconds + config.seconds))
    now = int(time.time() * 1000)
    simulation = SimulationConfig(
        accounts=config.accounts, merchants=5_000, start=now - DAY, end=now, events=count, fraud_share=0.002, seed=3
    )
    transactions = simulate(simulation, progress)
    messages = list(transaction_messages(transactions))
    return Payments(due_times(config.rate, len(messages), seed=4), transactions.columns()["event_id"], messages)


def due_times(rate: float, count: int, seed: int) -> Floats:
    """float64[count], seconds: a Poisson process."""
    return np.random.default_rng(seed).exponential(1 / rate, count).cumsum()


def measured(
    prepared: Stage, payments: Payments, config: LatencyConfig, progress: Progress, published: Callable[[], None]
) -> dict[str, Any]:
    """Sends the payments and listens for their alerts, until `published` has returned and all were heard."""
    with listening(prepared) as (in_kafka, in_redis):
        begin = time.monotonic() + 0.5
        late = send(prepared.kafka, payments, begin, progress)
        published()
        wait_for(lambda: settled(in_kafka, in_redis), LAST_SECONDS, "Kafka and Redis did not tell of the same payments")
    due = dict(zip(payments.event_ids, (begin + payments.due).tolist(), strict=True))
    first = begin + config.warm_seconds
    found = {
        name: np.array([at - due[event] for event, at in arrivals.at.items() if event in due and due[event] >= first])
        for name, arrivals in (("kafka", in_kafka), ("redis", in_redis))
    }
    slower = max(found.values(), key=lambda taken: float(np.quantile(taken, 0.99)) if len(taken) else np.inf)
    if not len(slower):
        raise BenchmarkFailed("no alert came")
    return {
        "rate": config.rate,
        "seconds": config.seconds,
        "alerts": len(slower),
        **latencies(slower),
        **{name: latencies(taken) for name, taken in found.items()},
        "sent_late": latencies(late[payments.due >= config.warm_seconds]),
    }


def latencies(taken: Floats) -> dict[str, float | None]:
    """Quantiles, as far as the samples carry them, and the highest."""
    told: dict[str, float | None] = {
        name: float(np.quantile(taken, share)) if len(taken) * (1 - share) >= LEAST_BEYOND else None
        for name, share in QUANTILES.items()
    }
    return told | {"max": float(taken.max()) if len(taken) else None}


def send(servers: str, payments: Payments, begin: float, progress: Progress) -> Floats:
    """Each payment when it is due; how much later each was handed to the client, float64 seconds."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": LINGER_MS, "log_level": 0})
    late = np.zeros(len(payments.due))
    for number, (due, (key, value)) in enumerate(zip((begin + payments.due).tolist(), payments.messages, strict=True)):
        now = time.monotonic()
        if due > now:
            producer.poll(0)
            time.sleep(max(LEAST_SLEEP, due - time.monotonic()))
            now = time.monotonic()
        producer.produce("transactions", value, key)
        late[number] = now - due
        if number % 1_000 == 0:
            producer.poll(0)
            progress("payments", number / len(payments.due))
    if producer.flush(30):
        raise BenchmarkFailed("Kafka did not take all payments")
    return late


@contextmanager
def listening(prepared: Stage) -> Iterator[tuple[Arrivals, Arrivals]]:
    """What comes from now on: (in Kafka, in Redis)."""
    in_kafka, in_redis, done = Arrivals(), Arrivals(), threading.Event()
    with closing(alerts_consumer(prepared.kafka)) as consumer, closing(redis.Redis.from_url(prepared.redis)) as client:
        last = client.xinfo_stream("headgate:alerts")["last-generated-id"] if client.exists("headgate:alerts") else "0"
        threads = [
            threading.Thread(target=listen_to_kafka, args=(consumer, in_kafka, done), daemon=True),
            threading.Thread(target=listen_to_redis, args=(client, last, in_redis, done), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield in_kafka, in_redis
        finally:
            done.set()
            for thread in threads:
                thread.join()


def alerts_consumer(servers: str) -> Consumer:
    """Of the topic `alerts`, from its end on."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-latency", "log_level": 0})
    partitions = consumer.list_topics("alerts", timeout=10).topics["alerts"].partitions
    places = [TopicPartition("alerts", number) for number in partitions]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.assign(places)
    return consumer


def listen_to_kafka(consumer: Consumer, arrivals: Arrivals, done: threading.Event) -> None:
    while not done.is_set():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None and (payload := message.value()) is not None:
            arrivals.heard(payload, time.monotonic())


def listen_to_redis(client: redis.Redis, last: Any, arrivals: Arrivals, done: threading.Event) -> None:
    while not done.is_set():
        answer: Any = client.xread({"headgate:alerts": last}, block=200)
        now = time.monotonic()
        for _, entries in answer or ():
            for entry, fields in entries:
                last = entry
                arrivals.heard(fields[b"payload"], now)


def settled(in_kafka: Arrivals, in_redis: Arrivals) -> bool:
    """Both have heard of the same payments, and of some."""
    return bool(in_kafka.at) and in_kafka.at.keys() == in_redis.at.keys()


def scored(database: Database) -> int:
    with database.reading() as connection:
        return contestant(HEADGATE).counted(connection)


def wait_for(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.1)


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    title = f"From payment to alert at {result['rate']:,.0f} payments/s, milliseconds"
    table = Table(title=title, title_justify="left")
    for name in ("", *QUANTILES, "max"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("kafka", "redis", "sent_late"):
        values = [result[name][quantile] for quantile in (*QUANTILES, "max")]
        table.add_row(name.replace("_", " "), *("" if value is None else f"{value * 1000:.1f}" for value in values))
    console.print(table)
    console.print(
        f"{result['alerts']:,} alerted payments in {result['seconds']:.0f} s, of {result['accounts']:,} accounts in "
        f"{result['partitions']} partitions; every payment scored once, every alert in SQL, Kafka and Redis; "
        f"PostgreSQL with fsync on {result['disk']['file_system']}; {result['machine']['cores']} cores"
    )
