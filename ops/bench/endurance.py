"""`headgate bench endurance`: whether a worker's memory stays flat under an even load over a long time.

One `headgate worker` with its defaults on the whole durable path, PostgreSQL with fsync on a real disk; payments of
accounts drawn evenly come at a fixed rate, whatever becomes of those before. The worker's resident memory is read every
few seconds from /proc (Linux). Every payment must be stored and scored once at the end.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from ops.bench.contestants import HEADGATE, contestant, running
from ops.bench.latency import scored
from ops.bench.measure import BenchmarkFailed
from ops.bench.stage import TOPIC, Stage, empty_stage
from ops.bench.throughput import ending_on_sigterm, machine
from ops.clock import epoch_milliseconds
from ops.progress import progress_bar
from ops.service import Service
from ops.simulate.messages import TransactionMessage
from storage.database import Database, open_database

Progress = Callable[[str, float], None]

MERCHANTS = 5_000
#: Payments are sent in so many pieces a second.
PIECES = 20
READING_SECONDS = 5.0
#: Of the whole time, the first part: accounts come to memory. After it memory should be flat.
FILLING_SHARE = 1 / 3
#: Without any progress at the end.
LAST_SECONDS = 60.0
LOOK_SECONDS = 0.5
MEBIBYTE = 1024.0
STORED = "SELECT (SELECT count(*) FROM transactions), (SELECT count(*) FROM predictions)"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EnduranceConfig:
    """rate: payments a second, a multiple of PIECES."""

    rate: int
    minutes: float
    accounts: int
    partitions: int
    hidden: int

    @property
    def pieces(self) -> int:
        return round(self.minutes * 60 * PIECES)

    @property
    def piece(self) -> int:
        """Payments of a piece."""
        return self.rate // PIECES

    @property
    def payments(self) -> int:
        return self.pieces * self.piece


@dataclass(frozen=True, slots=True)
class Reading:
    """At so many seconds from the first payment: the worker's resident memory, payments sent that SQL has not yet."""

    seconds: float
    resident_mebibytes: float
    behind: int


def run_endurance(config: EnduranceConfig, *, quiet: bool) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. Raises BenchmarkFailed, ServiceUnavailable."""
    if config.rate % PIECES:
        raise BenchmarkFailed(f"--rate {config.rate}: must be a multiple of {PIECES}, the pieces in a second")
    with (
        ending_on_sigterm(),
        progress_bar(quiet) as progress,
        empty_stage(100_000, config.partitions, config.hidden, progress) as prepared,
        prepared.database() as url,
    ):
        database = open_database(url)
        try:
            with running(contestant(HEADGATE), prepared, url) as service:
                readings = loaded(prepared, service, database, config, progress)
                sent = config.payments
                wait_while_scoring(database, sent, service)
            with database.reading() as connection:
                found = tuple(connection.execute(text(STORED)).one())
        finally:
            database.engine.dispose()
    if found != (sent, sent):
        raise BenchmarkFailed(f"of {sent} payments {found[0]} transactions and {found[1]} predictions are stored")
    result = {"rate": config.rate, "minutes": config.minutes, "events": sent, **summary(readings)}
    result |= {"accounts": config.accounts, "partitions": config.partitions, "hidden": config.hidden}
    result["machine"] = machine()
    if not quiet:
        show(result, Console())
    return result


def loaded(
    prepared: Stage, service: Service, database: Database, config: EnduranceConfig, progress: Progress
) -> list[Reading]:
    """Sends the payments, each piece when it is due, and reads meanwhile."""
    producer = Producer({"bootstrap.servers": prepared.kafka, "linger.ms": 20, "compression.type": "lz4"})
    readings: list[Reading] = []
    sent, began = 0, time.monotonic()
    for number, messages in enumerate(payments(config.accounts, config.piece, config.pieces, epoch_milliseconds)):
        time.sleep(max(0.0, began + number / PIECES - time.monotonic()))
        for key, value in messages:
            produce(producer, key, value)
        sent += len(messages)
        producer.poll(0)
        now = time.monotonic() - began
        if now >= READING_SECONDS * len(readings):
            if not service.running:
                raise BenchmarkFailed(f"the worker ended. {service.end_of_log(30)}")
            readings.append(Reading(now, resident_mebibytes(service.pid), sent - scored(database)))
            progress("payments", number / config.pieces)
    if producer.flush(30):
        raise BenchmarkFailed("Kafka did not take all payments")
    return readings


def wait_while_scoring(database: Database, sent: int, service: Service) -> None:
    """Until every payment is scored: however far behind the worker is, as long as it goes on."""
    done, since = scored(database), time.monotonic()
    while done < sent:
        time.sleep(LOOK_SECONDS)
        now = scored(database)
        if now > done:
            done, since = now, time.monotonic()
        elif not service.running or time.monotonic() - since > LAST_SECONDS:
            raise BenchmarkFailed(f"{done:,} of {sent:,} payments were scored, and no more. {service.end_of_log(30)}")


def produce(producer: Producer, key: str, value: bytes) -> None:
    """Waits where the client's queue is full."""
    while True:
        try:
            producer.produce(TOPIC, value, key)
            return
        except BufferError:
            producer.poll(0.1)


def payments(accounts: int, size: int, pieces: int, clock: Callable[[], int]) -> Iterator[list[tuple[str, bytes]]]:
    """(key, message) of each payment, piece by piece; each event id once, at the present time."""
    draw = np.random.default_rng(5)
    for piece in range(pieces):
        now = clock()
        account, merchant = draw.integers(0, accounts, size).tolist(), draw.integers(0, MERCHANTS, size).tolist()
        amount = np.round(draw.lognormal(3, 1, size), 2).tolist()
        yield [
            (
                f"account-{account[n]}",
                _encode(
                    TransactionMessage(
                        f"payment-{piece * size + n}",
                        now,
                        f"account-{account[n]}",
                        f"merchant-{merchant[n]}",
                        amount[n],
                        channel="online",
                        country="DE",
                        category="food",
                    )
                ),
            )
            for n in range(size)
        ]


def resident_mebibytes(pid: int) -> float:
    """Of a process that runs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(kibibytes) / MEBIBYTE


def summary(readings: Sequence[Reading]) -> dict[str, Any]:
    """By minute: resident_mebibytes (the mean of its readings), and how many payments sent SQL had not yet. Growth an
    hour: the slope of a line through the readings once memory has settled; spread: between the highest and the lowest
    of those."""
    last = readings[-1].seconds
    settled = [reading for reading in readings if reading.seconds >= last * FILLING_SHARE]
    at, resident = np.array([r.seconds for r in settled]), np.array([r.resident_mebibytes for r in settled])
    by_minute: dict[str, list[Reading]] = {}
    for reading in readings:
        by_minute.setdefault(str(int(reading.seconds // 60)), []).append(reading)
    return {
        "resident_mebibytes": {
            minute: round(float(np.mean([r.resident_mebibytes for r in own])), 1) for minute, own in by_minute.items()
        },
        "behind": {minute: max(r.behind for r in own) for minute, own in by_minute.items()},
        "settled_mebibytes": float(resident.mean()),
        "growth_mebibytes_an_hour": float(np.polyfit(at, resident, 1)[0] * 3600) if len(settled) > 1 else 0.0,
        "spread_mebibytes": float(np.ptp(resident)),
        "most_behind": max(reading.behind for reading in readings),
        "behind_when_settled": float(np.median([reading.behind for reading in settled])),
    }


def show(result: dict[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    table = Table(title=f"Resident memory at {result['rate']:,} payments/s", title_justify="left")
    table.add_column("minute", justify="right")
    table.add_column("MiB", justify="right")
    table.add_column("payments behind", justify="right")
    for minute, resident in result["resident_mebibytes"].items():
        table.add_row(minute, f"{resident:,.0f}", f"{result['behind'][minute]:,}")
    console.print(table)
    console.print(
        f"{result['events']:,} payments, each stored and scored once, at most {result['most_behind']:,} behind; in the "
        f"last two thirds {result['settled_mebibytes']:,.0f} MiB on average, "
        f"a spread of {result['spread_mebibytes']:.0f}, growing by {result['growth_mebibytes_an_hour']:.1f} an hour"
    )
