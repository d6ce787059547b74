"""`headgate bench state`: what snapshots cost the stream, and how much memory many accounts take.

In process, with the parts that a worker has. Copies: a scorer over accounts that all fit, batch by batch, with
snapshots and without in turn; a partition is copied every so many events, as it is at full load, and a thread writes
the files to a temporary folder. Memory: far more accounts than may be resident, one event after another from new ones
and some from old; those that leave go to a SQLite file in the transaction of their batch and are read back from there.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from prometheus_client import CollectorRegistry
from rich.console import Console
from sqlalchemy import text

from models.artifact import TrainedDetector
from models.calibration import Calibration
from models.detector import Detector, DetectorConfig
from models.events import Events
from models.scoring import Scorer
from ops.progress import progress_bar
from storage.database import Database, DatabaseUnavailable, open_database, upgrade
from storage.progress import claim_partitions
from storage.snapshots import SnapshotFiles
from streams.batch import OwnedPartition
from streams.snapshots import Cadence
from streams.state_codec import ActiveFrom
from streams.state_keeping import StateKeeping, StateRules
from streams.state_metrics import StateMetrics

TOPIC, MODEL = "transactions", "fraud:1"
BATCH = 8_192
PARTITIONS = 4
MERCHANTS = 5_000
START = datetime(2026, 1, 1, tzinfo=UTC)
MILLISECONDS_AN_EVENT = 10
#: Of the events of the memory part, those of an account that was there before, wherever it is now.
OLD_SHARE = 0.1

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class StateBenchConfig:
    """accounts, events and every (a partition is copied after so many) are of the copies; many and most_resident of
    the memory part."""

    accounts: int = 100_000
    events: int = 1_000_000
    every: int = 200_000
    rounds: int = 3
    many: int = 10_000_000
    most_resident: int = 1_000_000
    hidden: int = 64


def run_state(parts: Sequence[str], config: StateBenchConfig, *, quiet: bool) -> dict[str, Any]:
    """The result as `--json` prints it; said in words unless quiet."""
    torch.set_num_threads(1)
    known = {"copies": copies, "memory": memory}
    if unknown := set(parts) - known.keys():
        raise ValueError(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    with progress_bar(quiet) as progress:
        found = {part: known[part](config, progress) for part in parts}
    if not quiet:
        Console().print(in_words(found))
    return found


def in_words(found: dict[str, Any]) -> str:
    lines = []
    if said := found.get("copies"):
        lines.append(
            f"{said['without']:,} events/s without snapshots, {said['with']:,} with; an event takes "
            f"{said['cpu_without']:.2f} and {said['cpu_with']:.2f} us of CPU, {said['compute_without']:.2f} and "
            f"{said['compute_with']:.2f} of them in the thread that scores; {said['copied']:,} entities copied, "
            f"{said['microseconds_per_entity']:.2f} us each; restored in {said['restore_microseconds_per_account']:.2f}"
        )
    if said := found.get("memory"):
        lines.append(
            f"{said['accounts']:,} accounts, {said['resident']:,} of them resident: {said['peak_bytes'] / 2**30:.2f} "
            f"GiB at most, {said['bytes_per_resident']:,.0f} bytes each; {said['evicted']:,} left, "
            f"{said['returned']:,} came back; {said['events_per_second']:,.0f} events/s"
        )
    return "\n".join(lines)


def copies(config: StateBenchConfig, progress: Progress) -> dict[str, Any]:
    """Medians of the rounds. Of CPU time all threads count, the one that writes the files too; it depends less on what
    else the machine does."""
    runs: dict[bool, list[Pace]] = {True: [], False: []}
    copied, seconds, restored, restoring = 0, 0.0, 0, 0.0
    for number in range(config.rounds):
        for snapshots in (True, False) if number % 2 else (False, True):
            progress("copies", (2 * number + len(runs[True]) - number) / (2 * config.rounds))
            with tempfile.TemporaryDirectory() as folder, Kept(Path(folder), config, snapshots=snapshots) as kept:
                runs[snapshots].append(kept.pace(config))
                copied += int(kept.number("headgate_snapshot_entities_total"))
                seconds += kept.number("headgate_snapshot_copy_seconds_sum")
                if snapshots:
                    accounts, duration = kept.restored_elsewhere(Path(folder), config)
                    restored, restoring = restored + accounts, restoring + duration
    progress("copies", 1.0)
    return {
        "without": round(median(pace.events_per_second for pace in runs[False])),
        "with": round(median(pace.events_per_second for pace in runs[True])),
        "cpu_without": round(median(pace.cpu for pace in runs[False]), 3),
        "cpu_with": round(median(pace.cpu for pace in runs[True]), 3),
        "compute_without": round(median(pace.compute for pace in runs[False]), 3),
        "compute_with": round(median(pace.compute for pace in runs[True]), 3),
        "copied": copied,
        "microseconds_per_entity": round(1e6 * seconds / max(copied, 1), 3),
        "restore_microseconds_per_account": round(1e6 * restoring / max(restored, 1), 3),
    }


def memory(config: StateBenchConfig, progress: Progress) -> dict[str, Any]:
    """peak_bytes: of the whole process; bytes_per_resident: what it grew by, for each resident account."""
    with tempfile.TemporaryDirectory() as folder, Kept(Path(folder), config, snapshots=False) as kept:
        before, began, events = peak_bytes(), time.perf_counter(), 0
        for batch, share in many_accounts(config):
            kept.score(batch)
            events += len(batch)
            progress("memory", share)
        seconds, after = time.perf_counter() - began, peak_bytes()
        resident = kept.scorer.resident_accounts
        return {
            "accounts": config.many,
            "events": events,
            "resident": resident,
            "peak_bytes": after,
            "bytes_per_resident": round((after - before) / resident),
            "state_bytes_per_account": kept.scorer.state_bytes_per_account,
            "evicted": int(kept.number("headgate_entities_evicted_total")),
            "returned": int(kept.number("headgate_entities_returned_total")),
            "events_per_second": round(events / seconds),
        }


@dataclass(frozen=True, slots=True)
class Pace:
    """cpu: microseconds of an event, of all threads; compute: of the thread that scores."""

    events_per_second: float
    cpu: float
    compute: float


class Kept:
    """A scorer with what keeps its state, and a database whose progress lets every snapshot be named."""

    def __init__(self, folder: Path, config: StateBenchConfig, *, snapshots: bool) -> None:
        self.scorer = Scorer(untrained(config.hidden))
        self._registry = CollectorRegistry()
        self._database = bench_database(folder)
        self._owners = owners(self._database)
        self._position = 0
        files = SnapshotFiles(str(folder / "state")) if snapshots else None
        rules = StateRules(files, Cadence(seconds=1e9, offsets=config.every * PARTITIONS), config.most_resident)
        metrics = StateMetrics(self._registry)
        drop = self.scorer.drop_partition
        self._keeping = StateKeeping(
            TOPIC, self.scorer.kept, drop, rules, self._database, give_up, lambda: START, metrics
        )

    def __enter__(self) -> "Kept":
        for owner in self._owners.values():
            self._keeping.restore(owner, ActiveFrom(MODEL, 0))
        self._keeping.snapshots.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._keeping.snapshots.stop()
        self._database.engine.dispose()

    def score(self, events: Events) -> None:
        """One batch, from what it lacks to what leaves with it, committed."""
        self._keeping.between_batches(self._standing(), 0.0)
        for partition, owner in self._owners.items():
            rows = np.flatnonzero(events.partition == partition)
            ids = [events.account_id[row] for row in rows.tolist()]
            self._keeping.before_batch(owner, ids, self._position, ActiveFrom(MODEL, 0))
        self.scorer.score(events)
        self._position = int(events.offset[-1]) + 1
        works = self._keeping.after_batch([], self._standing())
        for work in works:
            work.owner.prepared += 1
            with self._database.begin() as connection:
                for finish in work.finish:
                    finish(connection)
            work.owner.written += 1
        self._keeping.snapshots.committed()

    def pace(self, config: StateBenchConfig) -> "Pace":
        """Of a scorer that knows all its accounts already."""
        draw = np.random.default_rng(0)
        for first in range(0, config.accounts, BATCH):
            self.score(events_of(first, np.arange(first, min(first + BATCH, config.accounts))))
        begin = self._position
        batches = [
            events_of(begin + first, draw.integers(0, config.accounts, BATCH))
            for first in range(0, config.events, BATCH)
        ]
        events = sum(map(len, batches))
        began, cpu, compute = time.perf_counter(), time.process_time(), time.thread_time()
        for batch in batches:
            self.score(batch)
        return Pace(
            events / (time.perf_counter() - began),
            1e6 * (time.process_time() - cpu) / events,
            1e6 * (time.thread_time() - compute) / events,
        )

    def restored_elsewhere(self, folder: Path, config: StateBenchConfig) -> tuple[int, float]:
        """How many accounts another worker finds in the snapshots, and the seconds that takes."""
        self._keeping.snapshots.done(60)
        other = Kept(folder, config, snapshots=True)
        began = time.perf_counter()
        for owner in other._owners.values():
            other._keeping.restore(owner, ActiveFrom(MODEL, 0))
        return other.scorer.resident_accounts, time.perf_counter() - began

    def number(self, name: str) -> float:
        return self._registry.get_sample_value(name, {"topic": TOPIC}) or 0.0

    def _standing(self) -> dict[int, tuple[OwnedPartition, int, ActiveFrom | None]]:
        return {partition: (owner, self._position, ActiveFrom(MODEL, 0)) for partition, owner in self._owners.items()}


def many_accounts(config: StateBenchConfig) -> Iterator[tuple[Events, float]]:
    """Batches, and the share of accounts that have come by then: each once, and among them events of older ones."""
    draw, seen, first = np.random.default_rng(1), 0, 0
    while seen < config.many:
        new = np.arange(seen, min(seen + round(BATCH * (1 - OLD_SHARE)), config.many))
        old = draw.integers(0, max(seen, 1), round(len(new) * OLD_SHARE / (1 - OLD_SHARE)) if seen else 0)
        yield events_of(first, draw.permutation(np.concatenate([new, old]))), new[-1] / config.many
        seen, first = seen + len(new), first + len(new) + len(old)


def events_of(first: int, account: npt.NDArray[np.int64]) -> Events:
    """Of accounts by their numbers; first: the number of the first event, all partitions counting together."""
    draw, number = np.random.default_rng(first), first + np.arange(len(account))
    partition = (account % PARTITIONS).astype(np.int32)
    return Events.from_columns(
        {
            "partition": partition,
            "offset": number,
            "event_id": [f"event-{one}" for one in number.tolist()],
            "occurred_at": int(START.timestamp() * 1000) + number * MILLISECONDS_AN_EVENT,
            "account_id": [f"account-{one}" for one in account.tolist()],
            "merchant_id": [f"merchant-{one}" for one in draw.integers(0, MERCHANTS, len(account)).tolist()],
            "amount": np.round(draw.lognormal(3, 1, len(account)), 2),
            "channel": ["online"] * len(account),
            "country": ["DE"] * len(account),
            "category": ["food"] * len(account),
        }
    )


def untrained(hidden: int) -> TrainedDetector:
    """Costs what a trained one does."""
    return TrainedDetector(
        network=Detector(DetectorConfig(hidden=hidden)).eval(),
        calibration=Calibration("probability", 1.0, 0.0, ()),
        threshold=0.5,
        surprise_weight=0.5,
        surprise_mean=5.0,
        surprise_scale=4.0,
        notes={},
    )


def bench_database(folder: Path) -> Database:
    url = f"sqlite:///{folder / 'headgate.sqlite'}"
    upgrade(url)
    return open_database(url)


def owners(database: Database) -> dict[int, OwnedPartition]:
    """Partitions whose progress is past every event."""
    claims = claim_partitions(
        database,
        topic=TOPIC,
        topic_uuid="bench",
        start_offsets=dict.fromkeys(range(PARTITIONS), 0),
        owner="bench",
        backend_pid=None,
        now=START,
    )
    with database.begin() as connection:
        connection.execute(text("UPDATE stream_progress SET next_offset = :end"), {"end": 2**40})
    return {number: OwnedPartition(claim, "bench", 1, 0, 0) for number, claim in claims.items()}


def give_up(failures: int, error: DatabaseUnavailable) -> None:
    del failures
    raise error


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
