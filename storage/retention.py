"""What of the hot tables nobody needs any more, and its removal: whole partitions, or bounded pieces of those that hold
other days too. SQLite has the latter only.

A day is needed as long as one of its rows is: by the restore of a partition, which begins at one of its two kept
snapshots, or without them with rows of the whole topic if that was rescaled; by the next version of what labels say; by
a relay that has yet to publish it. Why training needs days is not known here.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, Date, bindparam, select, text

from storage.cold_states import remove_superseded
from storage.database import Database, LockUnavailable
from storage.day_partitions import LOCK_TIMEOUT, STEP_FROM_DAY_TO_DAY, days_from, days_since, partitions_of
from storage.label_state import newest_version
from storage.partition_counts import latest_count
from storage.progress import record_control
from storage.snapshots import KEPT_SNAPSHOTS, SnapshotRecord, latest_snapshots
from storage.tables import Engagement, LogKey, Prediction, Recommendation, StreamProgress, Transaction

TRANSACTIONS, ENGAGEMENTS = "transactions", "engagements"
#: Kind of topic -> its tables.
TABLES: dict[str, tuple[str, ...]] = {
    TRANSACTIONS: ("transactions", "predictions", "shadow_predictions"),
    ENGAGEMENTS: ("engagements", "recommendations", "recommendation_items"),
}
_RESTORED_FROM: dict[str, tuple[type[LogKey], ...]] = {
    TRANSACTIONS: (Transaction, Prediction),
    ENGAGEMENTS: (Engagement, Recommendation),
}
#: In stream_controls: only from this offset on is all of a partition stored.
PRUNED_CONTROL = "pruned"
PIECE_ROWS = 20_000
#: Tries to get at a table that others read and write, a pause apart so that those who wait behind us get their turn.
ATTEMPTS = 50
PAUSE_SECONDS = 1.0
LAST_OFFSET = 2**62


@dataclass(frozen=True, slots=True)
class LogPartition:
    """A partition of a topic as that was created last."""

    topic: str
    generation: int
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


@dataclass(frozen=True, slots=True)
class Need:
    """Days from `first` on are needed, and why."""

    first: date
    why: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A partition of a table that was dropped (rows: 0), or rows of it that were deleted."""

    table: str
    partition: str
    rows: int


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A partition of a table that others held for as long as we tried to drop it."""

    table: str
    partition: str

    def __str__(self) -> str:
        return f"{self.partition}: {self.table} is read without a pause; it goes when the readers are done"


def current_partitions(connection: Connection, kind: str) -> list[LogPartition]:
    """Those that workers claimed, of a kind of topic under any prefix."""
    rows = connection.execute(
        text(
            "SELECT topic, topic_generation, partition FROM stream_progress AS own WHERE topic LIKE :ending "
            "AND topic_generation = (SELECT max(topic_generation) FROM stream_progress AS any_of "
            "WHERE any_of.topic = own.topic) ORDER BY topic, partition"
        ),
        {"ending": f"%{kind}"},
    )
    return [LogPartition(row.topic, row.topic_generation, row.partition) for row in rows]


def kept_snapshots(connection: Connection, one: LogPartition) -> list[SnapshotRecord]:
    """Newest first."""
    return latest_snapshots(connection, one.generation, one.partition, LAST_OFFSET)


def restore_begins(records: Sequence[SnapshotRecord], usable: Callable[[SnapshotRecord], bool]) -> int | None:
    """The lowest offset that a restore begins at; None where fewer snapshots can be used than are kept. records: newest
    first."""
    offsets = [record.next_offset for record in records if usable(record)]
    return offsets[KEPT_SNAPSHOTS - 1] if len(offsets) >= KEPT_SNAPSHOTS else None


def needed_to_restore(connection: Connection, kind: str, one: LogPartition, begin: int | None) -> Need | None:
    """begin: as restore_begins has it. None where nothing is stored from there on."""
    first = _first_day(connection, one, begin or 0, *_RESTORED_FROM[kind])
    if begin is None:
        return _need(first, f"{one} has fewer than {KEPT_SNAPSHOTS} snapshots that can be read")
    return _need(first, f"{one} is restored from offset {begin} on")


def needed_since_rescale(connection: Connection, kind: str, begins: Mapping[LogPartition, int | None]) -> list[Need]:
    """begins: of every partition claimed, as restore_begins has it. What a rescaled topic has of any partition, as long
    as one of its partitions, claimed or not, is restored without a snapshot: it begins with rows of all the others."""
    topics: dict[tuple[str, int], list[LogPartition]] = {}
    for one in begins:
        topics.setdefault((one.topic, one.generation), []).append(one)
    needs = []
    for (topic, generation), partitions in topics.items():
        uuid = select(StreamProgress.topic_uuid).where(StreamProgress.topic_generation == generation).limit(1)
        count = latest_count(connection, topic, connection.execute(uuid).scalar_one())
        if count is None or not any(count.boundaries.values()):
            continue
        ready = {one.partition for one in partitions if begins[one] is not None}
        lacking = next((number for number in range(count.partitions) if number not in ready), None)
        days = [_first_day(connection, one, 0, *_RESTORED_FROM[kind]) for one in partitions]
        first = min((day for day in days if day is not None), default=None)
        if lacking is not None and first is not None:
            what = f"{topic}/{lacking} has fewer than {KEPT_SNAPSHOTS} snapshots that can be read"
            needs.append(Need(first, f"{topic} was rescaled and {what}"))
    return needs


def needed_for_labels(connection: Connection, one: LogPartition) -> Need | None:
    """Of a partition of transactions: events that no version of what labels say counts yet."""
    version = newest_version(connection)
    counted = 0 if version is None else version.positions.get(f"{one.generation}:{one.partition}", 0)
    first = _first_day(connection, one, counted, Transaction)
    if version is not None:
        first = min(first or date.max, days_since(version.matured_until))
    return _need(first, f"what labels say has yet to count events of {one}")


def needed_to_publish(connection: Connection, one: LogPartition) -> Need | None:
    """Of a partition of engagements: slates that a sink has not confirmed."""
    cursor = connection.execute(
        text(
            "SELECT sink, position FROM relay_cursors WHERE outbox = 'recommendations' "
            "AND topic_generation = :generation AND partition = :partition ORDER BY position LIMIT 1"
        ),
        {"generation": one.generation, "partition": one.partition},
    ).one_or_none()
    if cursor is None:
        return None
    first = _first_day(connection, one, cursor.position, Recommendation)
    return _need(first, f"slates of {one} are not published to {cursor.sink} yet")


def _need(first: date | None, why: str) -> Need | None:
    return None if first is None else Need(first, why)


def _first_day(connection: Connection, one: LogPartition, offset: int, *tables: type[LogKey]) -> date | None:
    found = (days_from(connection, table, one.generation, one.partition, offset) for table in tables)
    return min((day for days in found for day in days), default=None)


def note_pruned(connection: Connection, one: LogPartition, begin: int, before: date) -> None:
    """Says from which offset on the partition is complete once the days are removed."""
    record_control(connection, one.generation, one.partition, PRUNED_CONTROL, begin, f"days before {before}")


def has_rows_before(connection: Connection, table: str, before: date) -> bool:
    statement = text(f"SELECT 1 FROM {table} WHERE day < :before LIMIT 1").bindparams(
        bindparam("before", before, Date())
    )
    return connection.execute(statement).first() is not None


def rows_before(connection: Connection, table: str, before: date) -> int:
    """How many rows of a table are of days before one."""
    statement = text(f"SELECT count(*) FROM {table} WHERE day < :before").bindparams(
        bindparam("before", before, Date())
    )
    return int(connection.execute(statement).scalar_one())


def remove_days(
    database: Database, table: str, before: date, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Removed | LeftBehind]:
    """Removes what a table has of days before one, piece by piece. Raises DatabaseUnavailable."""
    with database.reading() as connection:
        partitions = partitions_of(connection, table)
    attempts = ATTEMPTS
    for one in partitions:
        if one.end is not None and one.end <= before:
            if _drop(database, one.name, attempts, sleep):
                yield Removed(table, one.name, 0)
            else:
                attempts = 1  # whoever reads one of them mostly reads them all
                yield LeftBehind(table, one.name)
        elif one.first is None or one.first < before:
            yield from _delete(database, table, one.name, before)
    if not partitions:
        yield from _delete(database, table, table, before)


def _drop(database: Database, partition: str, attempts: int, sleep: Callable[[float], None]) -> bool:
    """Locks the whole table, for a moment; whoever comes meanwhile waits no longer than we do for our turn. False where
    our turn never came."""
    for attempt in range(attempts):
        if attempt:
            sleep(PAUSE_SECONDS)
        with suppress(LockUnavailable), database.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.execute(text(f"DROP TABLE {partition}"))
            return True
    return False


def _delete(database: Database, table: str, partition: str, before: date) -> Iterator[Removed]:
    with database.reading() as connection:
        found = connection.execute(text(STEP_FROM_DAY_TO_DAY.format(table=partition)).columns(day=Date()))
        days = [day for day in found.scalars() if day < before]
    place = "ctid" if database.dialect == "postgresql" else "rowid"
    for day in days:
        some = f"SELECT {place} FROM {partition} WHERE day = :day LIMIT {PIECE_ROWS}"
        statement = text(f"DELETE FROM {partition} WHERE {place} IN ({some})")
        statement = statement.bindparams(bindparam("day", day, Date()))
        while True:
            with database.begin() as connection:
                rows = connection.execute(statement).rowcount
            if rows:
                yield Removed(table, partition, rows)
            if rows < PIECE_ROWS:
                break


def remove_superseded_states(database: Database, one: LogPartition, begin: int) -> Iterator[int]:
    """Removes cold states that no restore from `begin` on asks for; how many, piece by piece."""
    after: str | None = ""
    while after is not None:
        with database.begin() as connection:
            removed, after = remove_superseded(connection, one.generation, one.partition, begin, after=after)
        yield removed
