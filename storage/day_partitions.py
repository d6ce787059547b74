"""The hot tables' partitions on PostgreSQL: one for each day, of Kafka records' timestamps, made some days ahead.

Each of the tables has a partition `_before` for all that was recorded before its first day, and one `_default`, which
takes the rows of days that nobody has made a partition for: no row is ever refused for want of one. What a partition
covers is read from the database's catalogue, not from its name. SQLite has plain tables; everything here does nothing
there.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Date, text

from storage.database import Database, DatabaseRefused, LockUnavailable
from storage.tables import LogKey

log = structlog.get_logger(__name__)

PARTITIONED = (
    "transactions",
    "predictions",
    "shadow_predictions",
    "duplicates",
    "engagements",
    "recommendations",
    "recommendation_items",
)
DAYS_AHEAD = 7
#: After a longer pause the days without records share one partition.
LONGEST_PAUSE = 31
#: Rows of one day that are taken out of the default partition; a day with more of them stays there.
MOST_MOVED = 100_000
#: Key of PostgreSQL's advisory lock.
PARTITIONS_LOCK = 4_815_162_345
#: Who waits for a lock holds up everybody who comes after, so nobody waits for longer than this.
LOCK_TIMEOUT = "200ms"
ONE_DAY = timedelta(days=1)

_BOUND = r"\((?:'([-\d]+)'|MINVALUE|MAXVALUE)\)"
_BOUNDS = re.compile(rf"FOR VALUES FROM {_BOUND} TO {_BOUND}")


#: One step into the key for each day, instead of a look at every row.
STEP_FROM_DAY_TO_DAY = """
WITH RECURSIVE days(day) AS (
    SELECT min(day) FROM {table}
    UNION ALL
    SELECT (SELECT min(later.day) FROM {table} later WHERE later.day > days.day) FROM days WHERE days.day IS NOT NULL
)
SELECT day FROM days WHERE day IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class DayPartition:
    """A partition of a table: the days from `first` (None: from the beginning) until before `end`; the default one has
    no end."""

    table: str
    name: str
    first: date | None
    end: date | None


def partitions_of(connection: Connection, table: str) -> list[DayPartition]:
    """By their days, the default one last; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    connection.execute(text("SET LOCAL datestyle = 'ISO'"))
    rows = connection.execute(
        text(
            "SELECT child.relname, pg_get_expr(child.relpartbound, child.oid) AS bounds FROM pg_inherits "
            "JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = to_regclass(:parent)"
        ),
        {"parent": table},
    )
    found = [_partition(table, row.relname, row.bounds) for row in rows]
    return sorted(found, key=lambda one: (one.end or date.max, one.first or date.min))


def days_from(connection: Connection, table: type[LogKey], generation: int, partition: int, offset: int) -> list[date]:
    """The days on which a topic partition has rows from this offset on."""
    name: str = table.__tablename__  # type: ignore[attr-defined]
    row = (
        f"SELECT 1 FROM {name} AS log WHERE log.day = days.day AND log.topic_generation = :generation "
        "AND log.source_partition = :partition AND log.source_offset >= :offset LIMIT 1"
    )
    days: Any = stored_days(connection, name)
    if connection.dialect.name == "postgresql":
        statement = f"SELECT day FROM unnest(CAST(:days AS date[])) AS days (day) CROSS JOIN LATERAL ({row}) AS there"
    else:
        days = json.dumps([str(day) for day in days])
        statement = f"SELECT day FROM (SELECT value AS day FROM json_each(:days)) AS days WHERE EXISTS ({row})"
    values = {"days": days, "generation": generation, "partition": partition, "offset": offset}
    return list(connection.execute(text(statement).columns(day=Date()), values).scalars())


def among_days_from(
    connection: Connection, table: type[LogKey], generation: int, partition: int, offset: int, *joined: type[LogKey]
) -> list[ColumnElement[bool]]:
    """What a statement may add that asks for one topic partition's rows from this offset on: their days, of the table
    and of those joined with it by the log key. Without them PostgreSQL plans and opens all partitions; SQLite has none.
    Days of rows that are committed later are not among them: for transactions that see one state."""
    if connection.dialect.name != "postgresql":
        return []
    days = days_from(connection, table, generation, partition, offset)
    return [each.day.in_(days) for each in (table, *joined)]


def days_since(moment: datetime) -> date:
    """The first day whose records may tell of events from this moment on: events are not ahead of their records by more
    than the tolerance of the settings, which is less than a day."""
    return (moment.astimezone(UTC) - ONE_DAY).date()


def stored_days(connection: Connection, table: str) -> list[date]:
    """Days on which there may be rows: those of partitions of one day; those with rows of all others."""
    days, others = [], []
    for one in partitions_of(connection, table):
        if one.first is not None and one.end == one.first + ONE_DAY:
            days.append(one.first)
        else:
            others.append(one.name)
    for name in others if connection.dialect.name == "postgresql" else [table]:
        days += connection.execute(text(STEP_FROM_DAY_TO_DAY.format(table=name)).columns(day=Date())).scalars()
    return days


def missing_days(partitions: Sequence[DayPartition], today: date, ahead: int = DAYS_AHEAD) -> list[tuple[date, date]]:
    """The ranges [first, end) to make partitions for, so that all is covered from the last partition there is, until
    `ahead` days after today. A pause longer than LONGEST_PAUSE days is one range."""
    covered = max((one.end for one in partitions if one.end is not None), default=today)
    ranges = []
    if (today - covered).days > LONGEST_PAUSE:
        ranges.append((covered, today))
        covered = today
    while covered <= today + ahead * ONE_DAY:
        ranges.append((covered, covered + ONE_DAY))
        covered += ONE_DAY
    return ranges


def ensure_days(database: Database, today: date) -> list[str]:
    """Makes the partitions of today and of the days ahead that are missing, and returns their names. What cannot be
    done without waiting for others is left for the next time. Raises DatabaseUnavailable."""
    made: list[str] = []
    if database.dialect == "postgresql":
        for table in PARTITIONED:
            try:
                made += _ensure_days_of(database, table, today)
            except LockUnavailable as error:
                log.info("the table is busy; its next days are added later", table=table, error=str(error))
            except DatabaseRefused as error:
                log.warning("may not add days to a table; `headgate db roles` allows it", table=table, error=str(error))
    return made


def _ensure_days_of(database: Database, table: str, today: date) -> list[str]:
    made = []
    with database.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": PARTITIONS_LOCK}).scalar():
            return []  # another worker is at it
        for first, end in missing_days(partitions_of(connection, table), today):
            if _make(connection, table, first, end):
                made.append(_name(table, first))
    return made


def _make(connection: Connection, table: str, first: date, end: date) -> bool:
    """With the rights of the tables' owner, by a function of the schema (migration 0014). False where the default
    partition holds too many rows of these days."""
    made = connection.execute(
        text("SELECT headgate_make_days(:table, CAST(:first AS date), CAST(:end AS date), :most)"),
        {"table": table, "first": first, "end": end, "most": MOST_MOVED},
    ).scalar()
    if made is None:
        log.warning("a day stays in the default partition", table=table, day=str(first), most_rows=MOST_MOVED)
    return made is not None


def _name(table: str, first: date) -> str:
    return f"{table}_{first:%Y%m%d}"


def _partition(table: str, name: str, bounds: str) -> DayPartition:
    match = _BOUNDS.fullmatch(bounds)
    if match is None:
        return DayPartition(table, name, None, None)
    return DayPartition(table, name, *(None if day is None else date.fromisoformat(day) for day in match.groups()))
