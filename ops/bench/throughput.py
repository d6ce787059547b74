"""`headgate bench throughput`: events a second of the whole durable path, beside stock Faust, Quix Streams and Bytewax.

All read the same topic from its beginning, one after the other and in another order each round, on the same machine
with the same broker and the same PostgreSQL (fsync on, real disk). Same decoding, model step and COPY; the worker does
everything else that it always does on top. Every run is checked in SQL: one transaction and one prediction an event.
"""

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.contestants import (
    HEADGATE,
    Alerts,
    Contestant,
    alerts_of,
    contestant,
    ends_of_alerts,
    running_together,
)
from ops.bench.measure import BenchmarkFailed, Limits, Pace, Stored, follow, owners, pace, stored
from ops.bench.stage import Stage, stage
from ops.progress import progress_bar
from ops.service import Service
from storage.database import Database, open_database

#: What the table calls them, and whose version the result tells.
TITLES = {"headgate": "Headgate", "faust": "Faust (stock)", "quix": "Quix Streams", "bytewax": "Bytewax"}
PACKAGES = {"faust": "faust-streaming", "quix": "quixstreams", "bytewax": "bytewax"}


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant's run in one round. complete: it passed all events before its time was over; owners: processes
    that owned partitions then (only the worker says so)."""

    round: int
    contestant: str
    pace: Pace
    complete: bool
    stored: Stored
    alerts: Alerts | None
    owners: int
    problems: Sequence[str]


def run_throughput(
    *, events: int, accounts: int, partitions: int, hidden: int, rounds: int, peers: Sequence[str], quiet: bool
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. Raises BenchmarkFailed, ServiceUnavailable."""
    entrants = [contestant(name) for name in (HEADGATE, *dict.fromkeys(peers))]
    with (
        ending_on_sigterm(),
        progress_bar(quiet) as progress,
        stage(events, accounts, partitions, hidden, progress) as prepared,
    ):
        runs: list[Run] = []
        for number in range(rounds):
            for entrant in entrants[number % len(entrants) :] + entrants[: number % len(entrants)]:
                progress("runs", len(runs) / (rounds * len(entrants)))
                runs.append(run_once(entrant, prepared, number, events))
        progress("runs", 1.0)
    result = summary(runs, [entrant.name for entrant in entrants]) | {
        "events": events,
        "accounts": accounts,
        "partitions": partitions,
        "hidden": hidden,
        "disk": {"file_system": prepared.file_system, "fsync": True},
        "machine": machine(peers),
    }
    if not quiet:
        show(result, Console())
    failed = [problem for run in result["rounds"] for problem in run["problems"]]
    if failed:
        raise BenchmarkFailed(f"the figures do not count: {'; '.join(failed)}")
    return result


#: Called with the run's database, and with what says why a process failed, None while none did.
OnceRunning = Callable[[Database, Callable[[], str | None]], None]


def run_once(
    entrant: Contestant,
    prepared: Stage,
    number: int,
    events: int,
    *,
    processes: int = 1,
    once_running: OnceRunning = lambda database, failure: None,
) -> Run:
    """processes: in one consumer group; once_running: what is to be done before the run counts as started. Raises
    BenchmarkFailed."""
    prepared.empty_redis()
    alerts_before = ends_of_alerts(prepared.kafka)
    with prepared.database() as url:
        database = open_database(url)
        try:
            with running_together(entrant, prepared, url, processes) as services:

                def events_in_sql() -> int:
                    with database.reading() as connection:
                        return entrant.counted(connection)

                failure = partial(failure_of, services)
                once_running(database, failure)
                started = time.monotonic()
                samples = follow(
                    events_in_sql, failure, events, Limits(), started=started, clock=time.monotonic, sleep=time.sleep
                )
                alerts = alerts_of(prepared, database, alerts_before) if entrant.name == HEADGATE else None
                owning = owners(database)
            complete = samples[-1].events >= events
            left = stored(database, entrant.counted)
        finally:
            database.engine.dispose()
    problems = left.problems(events if complete else None) + (alerts.problems() if alerts else [])
    return Run(number, entrant.name, pace(samples, started), complete, left, alerts, owning, problems)


def failure_of(services: Sequence[Service]) -> str | None:
    """The first that ended, with its last words; None while all run."""
    ended = [f"{service.name} ended. {service.end_of_log(30)}" for service in services if not service.running]
    return ended[0] if ended else None


def summary(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """Medians over the rounds; a ratio is the median of the rounds' own ratios, since the machine's mood changes."""
    paces: dict[str, list[float]] = {
        name: [run.pace.events_per_second for run in runs if run.contestant == name] for name in names
    }
    peers = [name for name in names if name != HEADGATE]
    return {
        "events_per_second": median(paces[HEADGATE]),
        "peers": {name: median(paces[name]) for name in peers},
        "ratios": {
            name: median(own / other for own, other in zip(paces[HEADGATE], paces[name], strict=True)) for name in peers
        },
        "spread": {name: [min(values), max(values)] for name, values in paces.items()},
        "rounds": [asdict(run) for run in runs],
        "checks": {name: not any(run.problems for run in runs if run.contestant == name) for name in names},
    }


def machine(peers: Sequence[str] = ()) -> dict[str, Any]:
    """Versions of what the worker runs on, and of the peers that ran."""
    packages = ("aiokafka", "faust-streaming", "torch", "psycopg", *(PACKAGES[name] for name in peers))
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    table = Table(title="Events a second, median of the rounds (lowest to highest)", title_justify="left")
    for name in ("", "events/s", "", "Headgate is", "first commit", "every event once"):
        table.add_column(name, justify="right" if name else "left")
    for name, (low, high) in result["spread"].items():
        runs = [run for run in result["rounds"] if run["contestant"] == name]
        own = result["events_per_second"] if name == HEADGATE else result["peers"][name]
        table.add_row(
            TITLES[name],
            f"{own:,.0f}",
            f"({low:,.0f} to {high:,.0f})",
            "" if name == HEADGATE else f"{result['ratios'][name]:.1f} times",
            f"{median(run['pace']['first_commit'] for run in runs):.1f} s",
            "yes" if result["checks"][name] else "NO",
        )
    console.print(table)
    disk, on = result["disk"], result["machine"]
    console.print(
        f"{result['events']:,} events of {result['accounts']:,} accounts in {result['partitions']} partitions; "
        f"{result['hidden']} hidden units; PostgreSQL with fsync on {disk['file_system']}; "
        f"{on['cores']} cores, Python {on['python']}"
    )


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that nothing stays behind."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
