"""Events a second of the whole durable path by the number of partitions and of worker processes, and with memos, on
local services.

Runs and their checks are those of throughput.py. Workers that share a group must all own partitions before the first
event comes, else the run would show how they start: a gate holds the events back until then.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ops.bench.contestants import HEADGATE, contestant
from ops.bench.measure import BenchmarkFailed, owners
from ops.bench.stage import TOPIC, Stage, empty_stage, make_topics, produce, stage
from ops.bench.starting_gate import StartingGate
from ops.bench.throughput import Run, run_once
from storage.database import Database
from streams.kafka import KafkaSettings, delete_topics

#: Partitions that the workers share.
SHARED_PARTITIONS = 4
OWNING_SECONDS, RENEWAL_SECONDS = 120.0, 30.0

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class ServiceLoad:
    """Of each run."""

    events: int = 200_000
    accounts: int = 100_000
    hidden: int = 64


def by_partitions(numbers: Sequence[int], load: ServiceLoad, progress: Progress) -> dict[int, Run]:
    """One worker, each number of partitions on a stage of its own. Raises BenchmarkFailed, ServiceUnavailable."""
    runs = {}
    for number in numbers:
        named = _named(f"{number} partitions", progress)
        with stage(load.events, load.accounts, number, load.hidden, named) as prepared:
            named("run", 0.0)
            runs[number] = run_once(contestant(HEADGATE), prepared, 0, load.events)
            named("run", 1.0)
    return runs


def by_workers(numbers: Sequence[int], load: ServiceLoad, progress: Progress) -> dict[int, Run]:
    """So many processes in one group over four partitions, one stage. Raises BenchmarkFailed, ServiceUnavailable."""
    if max(numbers) > SHARED_PARTITIONS:
        raise BenchmarkFailed(f"{max(numbers)} workers cannot share {SHARED_PARTITIONS} partitions")
    runs = {}
    with empty_stage(load.events, SHARED_PARTITIONS, load.hidden, progress) as prepared:
        for place, number in enumerate(numbers):
            progress("workers", place / len(numbers))
            runs[number] = run_together(prepared, number, load, progress)
        progress("workers", 1.0)
    return runs


def by_memos(share: float, rounds: int, load: ServiceLoad, progress: Progress) -> list[tuple[Run, Run]]:
    """One worker, the same events without memos and with them on such a share of them, in turn. Raises BenchmarkFailed,
    ServiceUnavailable."""
    with empty_stage(load.events, SHARED_PARTITIONS, load.hidden, progress) as prepared:

        def run(memos: float) -> Run:
            renew_topic(prepared.kafka)
            produce(prepared.kafka, load.events, load.accounts, progress, memos)
            return run_once(contestant(HEADGATE), prepared, 0, load.events)

        pairs = []
        for number in range(rounds):
            progress("memos", number / rounds)
            first, second = (0.0, share) if number % 2 == 0 else (share, 0.0)
            found = {first: run(first), second: run(second)}
            pairs.append((found[0.0], found[share]))
        progress("memos", 1.0)
    return pairs


def run_together(prepared: Stage, workers: int, load: ServiceLoad, progress: Progress) -> Run:
    """Over a new topic."""
    renew_topic(prepared.kafka)
    gate = StartingGate(prepared.kafka, TOPIC, SHARED_PARTITIONS)
    produce(prepared.kafka, load.events, load.accounts, progress)

    def all_own_partitions(database: Database, failure: Callable[[], str | None]) -> None:
        deadline = time.monotonic() + OWNING_SECONDS
        while owners(database) != workers:
            problem = failure()
            if problem is None and time.monotonic() > deadline:
                problem = f"{owners(database)} of {workers} workers own partitions after {OWNING_SECONDS:.0f} s"
            if problem is not None:
                raise BenchmarkFailed(problem)
            time.sleep(0.1)
        gate.open()

    return run_once(contestant(HEADGATE), prepared, 0, load.events, processes=workers, once_running=all_own_partitions)


def renew_topic(servers: str) -> None:
    """The topic of payments, empty. A broker deletes in the background: while the old topic still answers, it counts as
    there, and what is produced into it is lost with it."""
    delete_topics(KafkaSettings(servers), [TOPIC])
    with closing(Consumer({"bootstrap.servers": servers, "group.id": "bench-offsets", "log_level": 0})) as client:
        _wait_for(lambda: not _exists(client), f"Kafka did not delete the topic {TOPIC}")
        make_topics(servers, SHARED_PARTITIONS)
        _wait_for(lambda: _exists(client) and _is_empty(client), f"Kafka did not make the topic {TOPIC}")


def _wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + RENEWAL_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{otherwise} in {RENEWAL_SECONDS:.0f} s")
        time.sleep(0.1)


def _exists(client: Consumer) -> bool:
    return client.list_topics(TOPIC, timeout=RENEWAL_SECONDS).topics[TOPIC].error is None


def _is_empty(client: Consumer) -> bool:
    try:
        places = (TopicPartition(TOPIC, number) for number in range(SHARED_PARTITIONS))
        return not any(client.get_watermark_offsets(place, timeout=RENEWAL_SECONDS)[1] for place in places)
    except KafkaException:  # it has no leaders yet
        return False


def _named(run: str, progress: Progress) -> Progress:
    return lambda step, done: progress(f"{run}: {step}", done)


def runs_summary(runs: dict[int, Run], workers: Callable[[int], int]) -> dict[str, Any]:
    """By each number: events a second, how many times the first one's, and what is wrong. workers: that must own
    partitions then, by the number."""
    first = next(iter(runs.values())).pace.events_per_second
    found = {}
    for number, run in runs.items():
        problems = list(run.problems)
        if run.owners != workers(number):
            problems.append(f"{run.owners} workers owned partitions at the end, not {workers(number)}")
        found[str(number)] = {
            "events_per_second": run.pace.events_per_second,
            "ratio": run.pace.events_per_second / first,
            "events": run.pace.events,
            "complete": run.complete,
            "problems": problems,
        }
    return found
