"""Versions of what labels say of merchants, in SQL: what became known since the one before, and what was made of it.

A version counts the events until `matured_until` that lie before its `positions` in the log, with the labels that it
or an earlier version marked as known (feedback.label_version). All of it is read and written in one snapshot, so each
event and each label is taken in once, however late it is committed and whatever clocks say. How it is folded is not
known here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from string import Template
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, and_, bindparam, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite

from storage.day_partitions import days_from, days_since
from storage.tables import (
    UNREAD_LABELS,
    Alert,
    Feedback,
    LabelVersion,
    MerchantLabels,
    Prediction,
    Transaction,
    UtcTimestamp,
)

Times = npt.NDArray[np.int64]
#: Stands for a time that there is none of, among epoch milliseconds.
NO_TIME = -(2**60)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROWS_AT_ONCE = 20_000
NAMES_AT_ONCE = 500
SUMS = ("events_week", "events_month", "frauds_week", "frauds_month", "unexplained_week", "unexplained_month")
TIMES = ("as_of", "run_first", "run_last", "run_after", "latest_legitimate")
COUNTS = ("run_frauds", "legitimate_since_run")

#: By the ids of a batch: a join of all of it took minutes where the planner did not know yet how many rows there are.
LABELS_ABOUT = """
SELECT ${column} AS about, label, given_at, feedback_id, label_version FROM feedback
WHERE kind = 'label' AND status = 'joined' AND given_at <= :known_at AND ${column} ${among_wanted}
"""
AMONG_WANTED = {"postgresql": "= ANY(:wanted)", "sqlite": "IN (SELECT value FROM json_each(:wanted))"}


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """positions: "generation:partition" -> the offset before which it counts events."""

    version: int
    known_at: datetime
    matured_until: datetime
    positions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """given_at in epoch milliseconds; known: to an earlier version."""

    given_at: int
    fraud: bool
    known: bool


@dataclass(frozen=True, slots=True)
class LabelledEvent:
    """labels: all that were given by the moment that was asked for, in the order of given_at. unexplained is None for
    an event that was scored before that was stored."""

    merchant_id: str
    occurred_at: int
    unexplained: float | None
    labels: Sequence[GivenLabel]


@dataclass(frozen=True, slots=True)
class MerchantColumns:
    """Rows of `merchant_labels` as columns, m merchants: times in epoch milliseconds, NO_TIME for none; sums
    float64[m, 6] as SUMS names them."""

    merchant_id: Sequence[str]
    as_of: Times
    sums: npt.NDArray[np.float64]
    run_open: npt.NDArray[np.bool_]
    run_frauds: Times
    run_first: Times
    run_last: Times
    run_after: Times
    latest_legitimate: Times
    legitimate_since_run: Times


def begin_snapshot(connection: Connection) -> None:
    """To be the transaction's first statement: all that follows sees one state of the database, and takes its time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def newest_version(connection: Connection) -> StoredVersion | None:
    columns = (LabelVersion.version, LabelVersion.known_at, LabelVersion.matured_until, LabelVersion.positions)
    row = connection.execute(select(*columns).order_by(LabelVersion.version.desc()).limit(1)).one_or_none()
    return None if row is None else StoredVersion(*row)


def log_positions(connection: Connection) -> dict[str, int]:
    """Up to where each partition is stored, as StoredVersion has it."""
    rows = connection.execute(text("SELECT topic_generation, partition, next_offset FROM stream_progress"))
    return {_place(row.topic_generation, row.partition): row.next_offset for row in rows}


def newly_matured(
    connection: Connection, before: StoredVersion | None, version: StoredVersion
) -> Iterator[LabelledEvent]:
    """The events that a version counts and the one before it does not, in the order of their time, as a stream: first
    those that were stored after their maturity."""
    until = Transaction.occurred_at <= version.matured_until
    if before is None:
        yield from _events(connection, version.known_at, until)
        return
    late, days = [], set[date]()
    for place, position in version.positions.items():
        counted = before.positions.get(place, 0)
        if position > counted:
            generation, partition = map(int, place.split(":"))
            late.append(
                and_(
                    Transaction.topic_generation == generation,
                    Transaction.source_partition == partition,
                    Transaction.source_offset >= counted,
                )
            )
            days.update(days_from(connection, Transaction, generation, partition, counted))
    if late:
        old = Transaction.occurred_at <= before.matured_until
        yield from _events(connection, version.known_at, Transaction.day.in_(sorted(days)), or_(*late), old)
    recent = Transaction.day >= days_since(before.matured_until)
    yield from _events(connection, version.known_at, recent, Transaction.occurred_at > before.matured_until, until)


def newly_labelled(connection: Connection, before: StoredVersion | None, known_at: datetime) -> Iterator[LabelledEvent]:
    """The events that the version before counts and that were given a label which it does not know."""
    if before is None:
        return
    names = sorted(_newly_labelled_ids(connection, known_at))
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = Transaction.event_id.in_(names[start : start + NAMES_AT_ONCE])
        counted = Transaction.occurred_at <= before.matured_until
        yield from _events(connection, known_at, some, counted, stored_before=before.positions)


def merchants_named(connection: Connection, names: Sequence[str]) -> Iterator[MerchantColumns]:
    """What is stored of these merchants; those without a row are left out."""
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = MerchantLabels.merchant_id.in_(names[start : start + NAMES_AT_ONCE])
        yield from _merchants(connection, some)


def merchants_since(connection: Connection, version: int) -> Iterator[MerchantColumns]:
    """The merchants that versions after this one changed, as they are now."""
    yield from _merchants(connection, MerchantLabels.version > version)


def write_version(
    connection: Connection, version: StoredVersion, made_at: datetime, *, events: int, frauds: int, corrections: int
) -> None:
    """Adds the version and marks the labels that it knows. Where another process made it in the meantime, the
    transaction fails as worth another try."""
    values = {
        "version": version.version,
        "known_at": version.known_at,
        "matured_until": version.matured_until,
        "positions": dict(version.positions),
        "made_at": made_at,
        "events": events,
        "frauds": frauds,
        "corrections": corrections,
    }
    connection.execute(_insert(connection)(LabelVersion).on_conflict_do_nothing(), values)
    statement = text(
        f"UPDATE feedback SET label_version = :version WHERE {UNREAD_LABELS} AND given_at <= :known_at"
    ).bindparams(bindparam("known_at", type_=UtcTimestamp()))
    connection.execute(statement, {"version": version.version, "known_at": version.known_at})


def write_merchants(connection: Connection, version: int, merchants: MerchantColumns) -> None:
    """Puts these rows in place of what was stored of the merchants."""
    names = ("merchant_id", "version", "run_open", *SUMS, *TIMES, *COUNTS)
    insert = _insert(connection)(MerchantLabels)
    changed = {name: insert.excluded[name] for name in names if name != "merchant_id"}
    upsert = insert.on_conflict_do_update(index_elements=["merchant_id"], set_=changed)
    columns = [
        merchants.merchant_id,
        [version] * len(merchants.merchant_id),
        merchants.run_open.tolist(),
        *merchants.sums.T.tolist(),
        *([_moment(time) for time in getattr(merchants, name).tolist()] for name in TIMES),
        *(getattr(merchants, name).tolist() for name in COUNTS),
    ]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        connection.execute(upsert, rows[start : start + ROWS_AT_ONCE])


def _events(
    connection: Connection,
    known_at: datetime,
    *conditions: ColumnElement[bool],
    stored_before: Mapping[str, int] | None = None,
) -> Iterator[LabelledEvent]:
    """In the order of their time."""
    key = ("day", "topic_generation", "source_partition", "source_offset")
    own = tuple(getattr(Transaction, name) for name in key)
    statement = (
        select(
            *own,
            Transaction.event_id,
            Transaction.merchant_id,
            Transaction.occurred_at,
            Prediction.unexplained,
            Prediction.alert_id,
        )
        .join(Prediction, and_(*(getattr(Prediction, name) == getattr(Transaction, name) for name in key)))
        .where(*conditions)
        .order_by(Transaction.occurred_at, *own)
    )
    streaming = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    with connection.execute(statement, execution_options=streaming) as found:
        for rows in found.partitions(ROWS_AT_ONCE):
            on_events = _labels_about(connection, "event_id", {row.event_id for row in rows}, known_at)
            alerted = {row.alert_id for row in rows if row.alert_id is not None}
            on_alerts = _labels_about(connection, "alert_id", alerted, known_at)
            for row in rows:
                place = _place(row.topic_generation, row.source_partition)
                if stored_before is None or row.source_offset < stored_before.get(place, 0):
                    given = on_events.get(row.event_id, []) + on_alerts.get(row.alert_id, [])
                    labels = [label for _, label in sorted(given, key=lambda one: one[0])]
                    yield LabelledEvent(row.merchant_id, _milliseconds(row.occurred_at), row.unexplained, labels)


def _labels_about(
    connection: Connection, column: str, wanted: Collection[str], known_at: datetime
) -> dict[str, list[tuple[tuple[int, str], GivenLabel]]]:
    """The labels on these ids, each with (given_at, feedback_id), by which the newest is found."""
    if not wanted:
        return {}
    dialect = connection.dialect.name
    statement = text(Template(LABELS_ABOUT).substitute(column=column, among_wanted=AMONG_WANTED[dialect]))
    ids = list(wanted) if dialect == "postgresql" else msgspec.json.encode(list(wanted)).decode()
    moment = bindparam("known_at", known_at, type_=UtcTimestamp())
    found: dict[str, list[tuple[tuple[int, str], GivenLabel]]] = {}
    for row in connection.execute(statement.bindparams(moment, wanted=ids).columns(given_at=UtcTimestamp())):
        label = GivenLabel(_milliseconds(row.given_at), row.label == "fraud", row.label_version is not None)
        found.setdefault(row.about, []).append(((label.given_at, row.feedback_id), label))
    return found


def _newly_labelled_ids(connection: Connection, known_at: datetime) -> set[str]:
    """The events that have labels which no version knows, on themselves or on an alert that holds them."""
    unread = select(Feedback.event_id, Feedback.alert_id).where(text(UNREAD_LABELS), Feedback.given_at <= known_at)
    rows = connection.execute(unread).all()
    alerted = sorted({row.alert_id for row in rows if row.alert_id is not None})
    ids = {row.event_id for row in rows if row.event_id is not None}
    for start in range(0, len(alerted), NAMES_AT_ONCE):
        some = Alert.alert_id.in_(alerted[start : start + NAMES_AT_ONCE])
        for event_ids in connection.execute(select(Alert.event_ids).where(some)).scalars():
            ids.update(event_ids)
    return ids


def _merchants(connection: Connection, condition: ColumnElement[bool]) -> Iterator[MerchantColumns]:
    names = ("merchant_id", "run_open", *SUMS, *TIMES, *COUNTS)
    statement = select(*(getattr(MerchantLabels, name) for name in names)).where(condition)
    streaming = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    with connection.execute(statement, execution_options=streaming) as found:
        for rows in found.partitions(ROWS_AT_ONCE):
            columns = dict(zip(names, zip(*rows, strict=True), strict=True))
            yield MerchantColumns(
                merchant_id=list(columns["merchant_id"]),
                sums=np.array([columns[name] for name in SUMS], np.float64).T,
                run_open=np.array(columns["run_open"], np.bool_),
                **{name: np.array([_time(value) for value in columns[name]], np.int64) for name in TIMES},
                **{name: np.array(columns[name], np.int64) for name in COUNTS},
            )


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


def _place(generation: int, partition: int) -> str:
    return f"{generation}:{partition}"


def _moment(time: int) -> datetime | None:
    return None if time == NO_TIME else EPOCH + timedelta(milliseconds=time)


def _time(moment: datetime | None) -> int:
    return NO_TIME if moment is None else _milliseconds(moment)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
