"""How fast a contestant commits, and whether it stored what it claims: read from SQL, where everyone's results lie.

The pace counts from the first commit that is seen to the last, so that starting Python and joining the consumer group
play no part. Clock and sleep are injected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from storage.database import Database
from storage.progress import audit

POLL_SECONDS = 0.05


class BenchmarkFailed(Exception):
    """A contestant did not do its work; the message says which, what happened, and the end of its log."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: from the start to the first commit; from the first commit on, after which a contestant is stopped where
    it is; without any progress."""

    first_commit: float = 90.0
    measured: float = 60.0
    stall: float = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Events in SQL at a moment (seconds of the clock)."""

    moment: float
    events: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What the samples of one run say. first_commit and total: seconds from when the run started."""

    events: int
    events_per_second: float
    first_commit: float
    total: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What a contestant left in SQL. counted: by its own progress; unbalanced: partitions whose outcomes do not add up
    to the offsets passed (nothing but the worker keeps such a book)."""

    counted: int
    transactions: int
    predictions: int
    distinct_events: int
    flagged: int
    unbalanced: int

    def problems(self, events: int | None) -> list[str]:
        """What is wrong, in words; events: how many there must be, None where the run was stopped before the end."""
        found = []
        if not self.counted == self.transactions == self.predictions == self.distinct_events:
            found.append(
                f"{self.counted} events counted, {self.transactions} transactions, {self.predictions} predictions of "
                f"{self.distinct_events} different events"
            )
        if events is not None and self.predictions != events:
            found.append(f"{self.predictions} predictions of {events} events")
        if self.unbalanced:
            found.append(f"{self.unbalanced} partitions do not add up")
        return found


def follow(
    events_in_sql: Callable[[], int],
    failure: Callable[[], str | None],
    target: int,
    limits: Limits,
    *,
    started: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[Sample]:
    """A sample of each change, until all `target` events are in SQL or the measured time is over. Raises
    BenchmarkFailed when the contestant fails (`failure` says how), or makes no progress."""
    samples: list[Sample] = []
    while True:
        moment, events = clock(), events_in_sql()
        if events and (not samples or events > samples[-1].events):
            samples.append(Sample(moment, events))
        if events >= target or (samples and moment - samples[0].moment > limits.measured):
            return samples
        problem = failure()
        if problem is None and not samples and moment - started > limits.first_commit:
            problem = f"no commit in {limits.first_commit:.0f} s"
        if problem is None and samples and moment - samples[-1].moment > limits.stall:
            problem = f"no progress in {limits.stall:.0f} s, at {events} of {target} events"
        if problem is not None:
            raise BenchmarkFailed(problem)
        sleep(POLL_SECONDS)


def pace(samples: Sequence[Sample], started: float) -> Pace:
    """The events between the first and the last sample, by the time between them; where all came in one commit, by
    the time since the start."""
    first, last = samples[0], samples[-1]
    counted, seconds = last.events - first.events, last.moment - first.moment
    if not counted:
        counted, seconds = last.events, last.moment - started
    return Pace(last.events, counted / seconds, first.moment - started, last.moment - started)


def worker_events(connection: Connection) -> int:
    """Transactions with an outcome, by the worker's own book."""
    return _count(
        connection,
        "SELECT sum(applied + duplicates + dead_letters) FROM stream_progress WHERE topic = 'transactions'",
    )


def peer_events(connection: Connection) -> int:
    return _count(connection, "SELECT sum(events) FROM bench_progress")


def owners(database: Database) -> int:
    """Workers that own partitions of the transactions."""
    with database.reading() as connection:
        return _count(connection, "SELECT count(DISTINCT owner) FROM stream_progress WHERE topic = 'transactions'")


def stored(database: Database, counted: Callable[[Connection], int]) -> Stored:
    with database.reading() as connection:
        return Stored(
            counted=counted(connection),
            transactions=_count(connection, "SELECT count(*) FROM transactions"),
            predictions=_count(connection, "SELECT count(*) FROM predictions"),
            distinct_events=_count(connection, "SELECT count(DISTINCT event_id) FROM predictions"),
            flagged=_count(connection, "SELECT count(*) FROM predictions WHERE flagged"),
            unbalanced=len(audit(connection)),
        )


def _count(connection: Connection, statement: str) -> int:
    return int(connection.execute(text(statement)).scalar() or 0)
