"""Alerts and verdicts as the flow reads and writes them: open alerts, timelines, labels on alerts."""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Boolean, Connection, Date, TextClause, TextualSelect, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased

from storage.tables import Alert, Feedback, RelayCursor, UtcTimestamp

EPOCH_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """The latest revision of an open alert."""

    alert_id: str
    revision: int
    sequence: int
    source_offset: int | None
    status: str
    closed_by: str | None
    event_ids: list[str]
    account_id: str
    occurred_at: datetime
    scored_at: datetime
    score: float
    score_kind: str
    threshold: float
    severity: str
    amount_at_risk: float
    model: str
    reasons: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A transaction with its prediction, for an alert's timeline."""

    event_id: str
    occurred_at: datetime
    amount_e4: int
    currency: str
    merchant_id: str
    channel: str | None
    country: str | None
    category: str | None
    score: float
    flagged: bool


Position = tuple[int, int]

#: The row of a table at a wanted position. Named one by one too, days spare PostgreSQL a look at all other partitions.
_AT = (
    "{table}.day = wanted.day AND {table}.topic_generation = :generation AND {table}.source_partition = :partition "
    "AND {table}.source_offset = wanted.source_offset AND {table}.day IN ({days})"
)
#: [[day, offset], ...] in JSON as rows: one parameter however many positions. PostgreSQL must look each up by itself:
#: it has no statistics of a new day's table, and a join that it may turn around reads all of that, for each alert; so
#: does SQLite, where CROSS keeps the order.
STORED_AT = {
    "postgresql": (
        "WITH wanted(day, source_offset) AS (SELECT CAST(pair ->> 0 AS date), CAST(pair ->> 1 AS bigint) "
        "FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS pair) SELECT {columns} FROM wanted "
        f"CROSS JOIN LATERAL (SELECT * FROM transactions WHERE {_AT} LIMIT 1) t ".replace("{table}", "transactions")
        + f"CROSS JOIN LATERAL (SELECT * FROM predictions WHERE {_AT} LIMIT 1) p".replace("{table}", "predictions")
    ),
    "sqlite": (
        "WITH wanted(day, source_offset) AS (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') "
        "FROM json_each(:wanted)) SELECT {columns} FROM wanted "
        f"CROSS JOIN transactions t ON {_AT} ".replace("{table}", "t")
        + f"CROSS JOIN predictions p ON {_AT}".replace("{table}", "p")
    ),
}


_NEWEST_TIMELINE = {
    dialect: text(statement).columns(timeline=Alert.__table__.c.timeline.type)
    for dialect, statement in {
        "postgresql": "SELECT wanted.alert_id, newest.timeline "
        "FROM jsonb_array_elements_text(CAST(:wanted AS jsonb)) AS wanted(alert_id) CROSS JOIN LATERAL "
        "(SELECT timeline FROM alerts WHERE alert_id = wanted.alert_id ORDER BY revision DESC LIMIT 1) newest",
        "sqlite": "SELECT alert_id, timeline FROM json_each(:wanted) AS wanted JOIN alerts ON alert_id = wanted.value "
        "AND revision = (SELECT max(revision) FROM alerts WHERE alert_id = wanted.value)",
    }.items()
}


def open_alerts(connection: Connection, topic_generation: int, partition: int) -> list[StoredAlert]:
    later = aliased(Alert)
    newest = select(func.max(later.revision)).where(later.alert_id == Alert.alert_id).scalar_subquery()
    columns = [getattr(Alert, name) for name in StoredAlert.__dataclass_fields__]
    rows = connection.execute(
        select(*columns).where(
            Alert.topic_generation == topic_generation,
            Alert.source_partition == partition,
            Alert.status == "open",
            Alert.revision == newest,
        )
    )
    return [StoredAlert(**row._mapping) for row in rows]


def next_alert_sequence(connection: Connection, topic_generation: int, partition: int) -> int:
    """Behind all that are stored, and all that were published: the last ones may have been erased since, and what a
    sink has passed it would not look at again."""
    newest = connection.execute(
        select(func.max(Alert.sequence)).where(
            Alert.topic_generation == topic_generation, Alert.source_partition == partition
        )
    ).scalar()
    passed = connection.execute(
        select(func.max(RelayCursor.position)).where(
            RelayCursor.outbox == "alerts",
            RelayCursor.topic_generation == topic_generation,
            RelayCursor.partition == partition,
        )
    ).scalar()
    return max(0 if newest is None else int(newest) + 1, int(passed or 0))


def stored_transactions_at(
    connection: Connection, topic_generation: int, partition: int, positions: Sequence[Position]
) -> dict[Position, StoredTransaction]:
    """The transactions at (day, offset) positions of one partition that are stored."""
    if not positions:
        return {}
    days = {day: (EPOCH_DAY + timedelta(days=day)).isoformat() for day, _ in sorted(positions)}
    wanted = msgspec.json.encode([(days[day], offset) for day, offset in positions]).decode()
    statement = _stored_at(connection.dialect.name, tuple(days.values()))
    values = {"wanted": wanted, "generation": topic_generation, "partition": partition}
    return {
        ((row.day - EPOCH_DAY).days, row.source_offset): StoredTransaction(
            **{name: getattr(row, name) for name in StoredTransaction.__dataclass_fields__}
        )
        for row in connection.execute(statement, values)
    }


@functools.lru_cache(maxsize=64)
def _stored_at(dialect: str, days: tuple[str, ...]) -> TextualSelect:
    """The same one for the same days, so that it is prepared once."""
    names = [name for name in StoredTransaction.__dataclass_fields__ if name not in ("score", "flagged")]
    columns = ", ".join(("t.day", "t.source_offset", *(f"t.{name}" for name in names), "p.score", "p.flagged"))
    among = ", ".join(f"'{day}'" for day in days)
    return text(STORED_AT[dialect].format(columns=columns, days=among)).columns(
        day=Date(), occurred_at=UtcTimestamp(), flagged=Boolean()
    )


def previous_timelines(connection: Connection, alert_ids: Collection[str]) -> dict[str, list[Any]]:
    """The latest stored timeline of each alert. An alert may have a hundred revisions, each with one of its own."""
    if not alert_ids:
        return {}
    wanted = msgspec.json.encode(list(alert_ids)).decode()
    rows = connection.execute(_NEWEST_TIMELINE[connection.dialect.name], {"wanted": wanted})
    return {row.alert_id: row.timeline for row in rows}


def write_alerts(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts revisions, with all columns, and says how many; one that is there already stays as it is."""
    if connection.dialect.name == "postgresql":
        return connection.execute(_insert_alerts(), {"rows": msgspec.json.encode(rows).decode()}).rowcount
    statement = sqlite.insert(Alert).on_conflict_do_nothing(index_elements=["alert_id", "revision"])
    return connection.execute(statement, list(rows), execution_options={"preserve_rowcount": True}).rowcount


@functools.cache
def _insert_alerts() -> TextClause:
    """All rows as one parameter: a statement for each takes longer than all the rest of a small batch."""
    dialect: Any = postgresql.dialect  # has no types
    columns = {column.name: column.type.compile(dialect()) for column in Alert.__table__.c}
    names, typed = ", ".join(columns), ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return text(
        f"INSERT INTO alerts ({names}) SELECT {names} FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS row({typed}) "
        "ON CONFLICT (alert_id, revision) DO NOTHING"
    )


def judged_alerts(connection: Connection, alert_ids: Collection[str]) -> set[str]:
    """Those that a label was given to, on the alert itself or on one of its events."""
    judged: set[str] = set()
    wanted = list(alert_ids)
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        on_alert = select(Feedback.alert_id).where(
            Feedback.kind == "label", Feedback.status == "joined", Feedback.alert_id.in_(some)
        )
        judged |= {row.alert_id for row in connection.execute(on_alert)}
        events = {
            event_id: row.alert_id
            for row in connection.execute(select(Alert.alert_id, Alert.event_ids).where(Alert.alert_id.in_(some)))
            for event_id in row.event_ids
        }
        on_event = select(Feedback.event_id).where(
            Feedback.kind == "label", Feedback.status == "joined", Feedback.event_id.in_(events)
        )
        judged |= {events[row.event_id] for row in connection.execute(on_event)}
    return judged


def judged_since(connection: Connection, moment: datetime) -> tuple[set[str], set[str]]:
    """The alert ids and event ids that a label was joined with since a moment."""
    statement = select(Feedback.alert_id, Feedback.event_id).where(
        Feedback.kind == "label", Feedback.status == "joined", Feedback.joined_at >= moment
    )
    rows = connection.execute(statement).all()
    return (
        {row.alert_id for row in rows if row.alert_id is not None},
        {row.event_id for row in rows if row.event_id is not None},
    )


def known_feedback(connection: Connection, feedback_ids: Collection[str]) -> set[str]:
    """Those ids that are stored already."""
    known: set[str] = set()
    wanted = list(feedback_ids)
    for start in range(0, len(wanted), 500):
        some = select(Feedback.feedback_id).where(Feedback.feedback_id.in_(wanted[start : start + 500]))
        known |= {row.feedback_id for row in connection.execute(some)}
    return known
