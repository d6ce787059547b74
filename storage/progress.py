"""Who owns a partition, how far SQL has it, and how far each outbox was published. SQL owns progress.

An owner is fenced by its epoch: every statement that moves something names the epoch and the place it moves from, so
a worker that was replaced while it slept changes nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, text

from storage.database import Database, LockUnavailable
from storage.tables import UtcTimestamp

CLAIM_LOCK = 4_815_162_343
CLAIM_LOCK_TIMEOUT = "1s"
CLAIM_ATTEMPTS = 8

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to move one partition, from next_offset on, for as long as its epoch is the newest."""

    topic: str
    topic_generation: int
    partition: int
    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Advance:
    """A step of one partition in one batch; the counts say what became of the offsets in between."""

    topic_generation: int
    partition: int
    epoch: int
    base_offset: int
    next_offset: int
    applied: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    gaps: int = 0


@dataclass(frozen=True, slots=True)
class ProgressRow:
    topic: str
    topic_uuid: str
    topic_generation: int
    partition: int
    epoch: int
    owner: str
    backend_pid: int | None
    start_offset: int
    next_offset: int
    applied: int
    duplicates: int
    dead_letters: int
    gaps: int
    lost: int = 0

    @property
    def adds_up(self) -> bool:
        """The law of stream_progress: every offset passed has exactly one outcome."""
        outcomes = self.applied + self.duplicates + self.dead_letters + self.gaps + self.lost
        return self.next_offset - self.start_offset == outcomes


_PROGRESS_COLUMNS = ", ".join(ProgressRow.__dataclass_fields__)


def claim_partitions(
    database: Database,
    *,
    topic: str,
    topic_uuid: str,
    start_offsets: Mapping[int, int],
    owner: str,
    backend_pid: int | None,
    now: datetime,
    seen: Mapping[int, int] | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[int, Claim]:
    """Takes a new epoch of each partition in start_offsets, which say where one begins that SQL has never seen. With
    `seen`, only of those that still are at the epoch seen (0: SQL has never seen them). check: called when it is our
    turn to claim; what it raises gives the claim up.

    Where a frozen owner's transaction holds a row, that owner's backend is ended and the claim tried again.
    """
    for attempt in range(CLAIM_ATTEMPTS):
        try:
            with database.begin() as connection:
                take_claim_lock(connection)
                check()
                return _claim(connection, topic, topic_uuid, start_offsets, owner, backend_pid, now, seen)
        except LockUnavailable:
            if attempt == CLAIM_ATTEMPTS - 1:
                raise
        with database.begin() as connection:
            _end_frozen_owners(connection, topic, topic_uuid, start_offsets)
    raise AssertionError("unreachable")


def take_claim_lock(connection: Connection) -> None:
    """One claim, rescale or accepted loss at a time, until the transaction ends; none waits for a row for long."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{CLAIM_LOCK_TIMEOUT}'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CLAIM_LOCK})


def under_claim_lock(database: Database, act: Callable[[Connection], Found]) -> Found:
    """What `act` makes of a transaction that holds the claim lock; again where an owner held a row for too long."""
    for _ in range(CLAIM_ATTEMPTS - 1):
        with suppress(LockUnavailable), database.begin() as connection:
            take_claim_lock(connection)
            return act(connection)
    with database.begin() as connection:
        take_claim_lock(connection)
        return act(connection)


def _claim(
    connection: Connection,
    topic: str,
    topic_uuid: str,
    start_offsets: Mapping[int, int],
    owner: str,
    backend_pid: int | None,
    now: datetime,
    seen: Mapping[int, int] | None,
) -> dict[int, Claim]:
    moment = _moment(connection, now)
    generation = _topic_generation(connection, topic, topic_uuid)
    claims = {}
    for partition, start in sorted(start_offsets.items()):
        key = {"generation": generation, "partition": partition, "owner": owner, "pid": backend_pid, "now": moment}
        expected = None if seen is None else seen[partition]
        row = connection.execute(
            text(
                "UPDATE stream_progress SET epoch = epoch + 1, owner = :owner, backend_pid = :pid, updated_at = :now "
                "WHERE topic_generation = :generation AND partition = :partition "
                "AND epoch = coalesce(CAST(:seen AS bigint), epoch) RETURNING epoch, next_offset"
            ),
            {**key, "seen": expected},
        ).one_or_none()
        if row is None and not expected:
            row = connection.execute(
                text(
                    "INSERT INTO stream_progress (topic_generation, partition, topic, topic_uuid, epoch, owner, "
                    "backend_pid, start_offset, next_offset, applied, duplicates, dead_letters, gaps, updated_at) "
                    "VALUES (:generation, :partition, :topic, :uuid, 1, :owner, :pid, :start, :start, 0, 0, 0, 0, "
                    ":now) ON CONFLICT (topic_generation, partition) DO NOTHING RETURNING epoch, next_offset"
                ),
                {**key, "topic": topic, "uuid": topic_uuid, "start": start},
            ).one_or_none()
        if row is not None:
            claims[partition] = Claim(topic, generation, partition, row.epoch, row.next_offset)
    return claims


def _topic_generation(connection: Connection, topic: str, topic_uuid: str) -> int:
    """The number for this topic's UUID; a new one for a topic that was never seen (or was created anew)."""
    known = connection.execute(
        text("SELECT topic_generation FROM stream_progress WHERE topic = :topic AND topic_uuid = :uuid LIMIT 1"),
        {"topic": topic, "uuid": topic_uuid},
    ).scalar()
    if known is not None:
        return int(known)
    newest = connection.execute(text("SELECT max(topic_generation) FROM stream_progress")).scalar()
    return int(newest or 0) + 1


def _end_frozen_owners(connection: Connection, topic: str, topic_uuid: str, partitions: Iterable[int]) -> None:
    connection.execute(
        text(
            "SELECT pg_terminate_backend(backend_pid) FROM stream_progress "
            "WHERE topic = :topic AND topic_uuid = :uuid AND partition = ANY(:partitions) "
            "AND backend_pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'headgate')"
        ),
        {"topic": topic, "uuid": topic_uuid, "partitions": list(partitions)},
    )


def advance(connection: Connection, advances: Sequence[Advance], now: datetime) -> int:
    """Moves the partitions whose row still has our epoch and base offset; how many these are. One round trip.

    To be the last statement before COMMIT: the rows stay locked from here to there. By the driver itself, as it is part
    of every batch: by SQLAlchemy a small commit costs half as much CPU again.
    """
    if not advances:
        return 0
    moment = _moment(connection, now)
    # In one order everywhere, so that two workers cannot wait for each other.
    steps = sorted(advances, key=lambda step: (step.topic_generation, step.partition))
    values = [{name: getattr(step, name) for name in Advance.__dataclass_fields__} | {"now": moment} for step in steps]
    driver: Any = connection.connection.driver_connection
    with closing(driver.cursor()) as cursor:
        cursor.executemany(_advance_statement(connection.dialect.name), values)
        moved: int = cursor.rowcount
    return moved


@cache
def _advance_statement(dialect: str) -> str:
    """With parameters as the driver writes them."""
    value = "%({})s".format if dialect == "postgresql" else ":{}".format
    counts = ", ".join(f"{name} = {name} + {value(name)}" for name in ("applied", "duplicates", "dead_letters", "gaps"))
    return (
        f"UPDATE stream_progress SET next_offset = {value('next_offset')}, {counts}, updated_at = {value('now')} "
        f"WHERE topic_generation = {value('topic_generation')} AND partition = {value('partition')} "
        f"AND epoch = {value('epoch')} AND next_offset = {value('base_offset')}"
    )


def set_backend_pid(connection: Connection, owned: Collection[tuple[int, int, int]], pid: int) -> None:
    """Notes which backend writes for us, for (generation, partition, epoch) that are still ours."""
    for generation, partition, epoch in owned:
        connection.execute(
            text(
                "UPDATE stream_progress SET backend_pid = :pid "
                "WHERE topic_generation = :generation AND partition = :partition AND epoch = :epoch"
            ),
            {"pid": pid, "generation": generation, "partition": partition, "epoch": epoch},
        )


def read_progress(connection: Connection, topic_generation: int, partitions: Collection[int]) -> dict[int, ProgressRow]:
    rows = connection.execute(
        text(f"SELECT {_PROGRESS_COLUMNS} FROM stream_progress WHERE topic_generation = :generation"),
        {"generation": topic_generation},
    )
    return {row.partition: _progress(row) for row in rows if row.partition in partitions}


def all_progress(connection: Connection) -> list[ProgressRow]:
    """Every partition ever seen, for audits and health."""
    return [_progress(row) for row in connection.execute(text(f"SELECT {_PROGRESS_COLUMNS} FROM stream_progress"))]


def current_progress(connection: Connection) -> list[tuple[ProgressRow, datetime]]:
    """The partitions of each topic as it is now, without those of topics of that name that were deleted, and when each
    was written to last."""
    statement = text(
        f"SELECT {_PROGRESS_COLUMNS}, updated_at FROM stream_progress WHERE topic_generation = "
        "(SELECT max(newest.topic_generation) FROM stream_progress newest WHERE newest.topic = stream_progress.topic) "
        "ORDER BY topic, partition"
    ).columns(updated_at=UtcTimestamp())
    return [
        (ProgressRow(**{name: getattr(row, name) for name in ProgressRow.__dataclass_fields__}), row.updated_at)
        for row in connection.execute(statement)
    ]


def audit(connection: Connection) -> list[ProgressRow]:
    """Partitions whose counts do not add up to the offsets passed. Empty, or there is a bug."""
    return [row for row in all_progress(connection) if not row.adds_up]


def hold_epoch(connection: Connection, topic_generation: int, partition: int, epoch: int) -> bool:
    """Whether the epoch is the partition's newest. If so it stays that until the transaction ends, of which SQLite has
    but one that writes."""
    lock = " FOR SHARE" if connection.dialect.name == "postgresql" else ""
    found = connection.execute(
        text(
            "SELECT 1 FROM stream_progress WHERE topic_generation = :generation AND partition = :partition "
            f"AND epoch = :epoch{lock}"
        ),
        {"generation": topic_generation, "partition": partition, "epoch": epoch},
    )
    return found.first() is not None


def record_control(
    connection: Connection, topic_generation: int, partition: int, name: str, from_offset: int, value: str
) -> None:
    """From this offset on the partition uses this version of what comes from outside its log."""
    connection.execute(
        text(
            "INSERT INTO stream_controls (topic_generation, partition, name, from_offset, value) "
            "VALUES (:generation, :partition, :name, :from_offset, :value) "
            "ON CONFLICT (topic_generation, partition, name, from_offset) DO UPDATE SET value = excluded.value"
        ),
        {
            "generation": topic_generation,
            "partition": partition,
            "name": name,
            "from_offset": from_offset,
            "value": value,
        },
    )


@dataclass(frozen=True, slots=True)
class Control:
    """From this offset on a partition uses this value of something that comes from outside its log."""

    from_offset: int
    value: str


def latest_control(connection: Connection, topic_generation: int, partition: int, name: str) -> Control | None:
    row = connection.execute(
        text(
            "SELECT from_offset, value FROM stream_controls WHERE topic_generation = :generation "
            "AND partition = :partition AND name = :name ORDER BY from_offset DESC LIMIT 1"
        ),
        {"generation": topic_generation, "partition": partition, "name": name},
    ).one_or_none()
    return None if row is None else Control(row.from_offset, row.value)


def claim_cursor(connection: Connection, outbox: str, sink: str, claim: Claim, now: datetime) -> int | None:
    """Takes the cursor under the claim's epoch; its position, or None where a newer epoch has it."""
    return connection.execute(
        text(
            "INSERT INTO relay_cursors (outbox, sink, topic_generation, partition, epoch, position, updated_at) "
            "VALUES (:outbox, :sink, :generation, :partition, :epoch, 0, :now) "
            "ON CONFLICT (outbox, sink, topic_generation, partition) DO UPDATE "
            "SET epoch = excluded.epoch, updated_at = excluded.updated_at "
            "WHERE relay_cursors.epoch <= excluded.epoch RETURNING position"
        ),
        {
            "outbox": outbox,
            "sink": sink,
            "generation": claim.topic_generation,
            "partition": claim.partition,
            "epoch": claim.epoch,
            "now": _moment(connection, now),
        },
    ).scalar()


def move_cursor(connection: Connection, outbox: str, sink: str, claim: Claim, position: int, now: datetime) -> bool:
    """False where a newer epoch has the cursor. Not flushed to disk at once: moving again is harmless."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL synchronous_commit = off"))
    moved = connection.execute(
        text(
            "UPDATE relay_cursors SET position = :position, updated_at = :now WHERE outbox = :outbox AND sink = :sink "
            "AND topic_generation = :generation AND partition = :partition AND epoch = :epoch"
        ),
        {
            "position": position,
            "outbox": outbox,
            "sink": sink,
            "generation": claim.topic_generation,
            "partition": claim.partition,
            "epoch": claim.epoch,
            "now": _moment(connection, now),
        },
    )
    return bool(moved.rowcount)


def _progress(row: Row[Any]) -> ProgressRow:
    return ProgressRow(**row._mapping)


def _moment(connection: Connection, now: datetime) -> object:
    """A moment as the driver takes it in plain SQL text (tables.UtcTimestamp does this for typed statements)."""
    return UtcTimestamp().process_bind_param(now, connection.dialect)
