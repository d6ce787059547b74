"""The body of `headgate simulate`: does what options.py found sensible, into files or into Kafka.

A thin shell around files, the broker, the clock and Ctrl-C. What is simulated, and what may be asked for, is decided
elsewhere.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ops.kafka_settings import kafka_settings
from ops.settings import Settings
from ops.simulate.cards import Progress, SimulatedTransactions, check, simulate
from ops.simulate.kafka import KafkaOutput
from ops.simulate.labels import Labels, labels_of
from ops.simulate.live import LiveTraffic, batches, check_live
from ops.simulate.options import Options, check_options, history_config, history_label_delay, live_config
from ops.simulate.output import write_labels, write_transactions
from ops.simulate.population import build_population

#: Transactions of a history that are sent at once, followed by the labels known by then.
ROWS_A_BATCH = 20_000

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was written or sent."""

    events: int = 0
    frauds: int = 0
    labels: int = 0

    def plus(self, transactions: SimulatedTransactions, labels: Labels | None) -> "Counts":
        return Counts(
            events=self.events + len(transactions),
            frauds=self.frauds + int(np.count_nonzero(transactions.fraud)),
            labels=self.labels + (0 if labels is None else len(labels)),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """seconds: from the first decision until everything was written or delivered."""

    counts: Counts
    seconds: float

    def summary(self) -> str:
        counts = self.counts
        made = f"{counts.events:,} transactions, {counts.frauds:,} of them frauds, {counts.labels:,} labels"
        return f"{made}; {self.seconds:.1f} s, {counts.events / self.seconds:,.0f} transactions/s"

    def as_json(self) -> dict[str, float]:
        return {
            "events": self.counts.events,
            "frauds": self.counts.frauds,
            "labels": self.counts.labels,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.counts.events / self.seconds, 1),
        }


def run_simulation(
    options: Options, load_settings: Callable[[], Settings], progress: Progress, clock: Clock = time.time
) -> Outcome:
    """load_settings is called only where a broker is needed. Raises BadSimulation, KafkaUnavailable, TopicMissing."""
    began = time.perf_counter()
    check_options(options)
    if options.output is not None:
        counts = _history_into_files(options, options.output, milliseconds(clock()), progress)
    elif options.rate is not None:
        counts = _live_into_kafka(options, load_settings, progress, clock)
    else:
        counts = _history_into_kafka(options, load_settings, milliseconds(clock()), progress)
    return Outcome(counts, time.perf_counter() - began)


def _history_into_files(options: Options, output: Path, now: int, progress: Progress) -> Counts:
    delay = history_label_delay(options)
    transactions = simulate(history_config(options, now), progress)
    write_transactions(output, transactions, progress)
    if options.labels is None:
        return Counts().plus(transactions, None)
    labels = labels_of(transactions, delay, legitimate_share=options.legitimate_share)
    write_labels(options.labels, labels)
    return Counts().plus(transactions, labels)


def _history_into_kafka(
    options: Options, load_settings: Callable[[], Settings], now: int, progress: Progress
) -> Counts:
    config, delay = history_config(options, now), history_label_delay(options)
    check(config)
    counts = Counts()
    with open_kafka(load_settings()) as output:
        transactions = simulate(config, progress)
        labels = labels_of(transactions, delay, legitimate_share=options.legitimate_share)
        for part, known in in_order_of_time(transactions, labels, now):
            output.send(part, known)
            counts = counts.plus(part, known)
            progress("send", counts.events / max(len(transactions), 1))
    return counts


def in_order_of_time(
    transactions: SimulatedTransactions, labels: Labels, now: int
) -> Iterator[tuple[SimulatedTransactions, Labels]]:
    """Transactions in parts, each with the labels given by its end; at last those given by `now`. Later ones are not
    known yet, and left out."""
    given = 0
    for first in range(0, len(transactions), ROWS_A_BATCH):
        part = transactions.rows(slice(first, first + ROWS_A_BATCH))
        is_last = first + ROWS_A_BATCH >= len(transactions)
        end = now if is_last else int(part.occurred_at[-1])
        known = int(np.searchsorted(labels.given_at, end, side="right"))
        yield part, labels.take(slice(given, known))
        given = known


def _live_into_kafka(
    options: Options, load_settings: Callable[[], Settings], progress: Progress, clock: Clock
) -> Counts:
    config = live_config(options, start=0)
    check_live(config)
    with open_kafka(load_settings(), linger_ms=0) as output, until_interrupted() as stopping:
        build_population(config.accounts, config.merchants, config.seed)  # takes its time before time starts
        traffic = LiveTraffic(replace(config, start=milliseconds(clock())))
        return send_live(traffic, output, options.for_seconds, progress, clock=clock, stopping=stopping)


def send_live(
    traffic: LiveTraffic,
    output: KafkaOutput,
    seconds: float | None,
    progress: Progress,
    *,
    clock: Clock,
    stopping: threading.Event,
) -> Counts:
    """Until the time is over (None: never) or somebody stops it; all that was due by then is sent."""
    start = traffic.config.start / 1000
    counts = Counts()

    def now() -> float:
        return clock() if seconds is None else min(clock(), start + seconds)

    def over() -> bool:
        return stopping.is_set() or (seconds is not None and clock() >= start + seconds)

    for batch in batches(traffic, clock=now, wait=stopping.wait, stop=over):
        output.send(batch.transactions, batch.labels)
        counts = counts.plus(batch.transactions, batch.labels)
        if seconds is not None:
            progress("live", (now() - start) / seconds)
    rest = traffic.until(milliseconds(now()))
    output.send(rest.transactions, rest.labels)
    return counts.plus(rest.transactions, rest.labels)


def open_kafka(settings: Settings, linger_ms: int = 5) -> KafkaOutput:
    return KafkaOutput(kafka_settings(settings), topic_prefix=settings.topic_prefix, linger_ms=linger_ms)


@contextmanager
def until_interrupted() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set instead of ending the process. For the main thread."""
    stopping = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
