"""Stored transactions for replay and training, and the life of feedback: pending, joined, expired."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, exists, false, func, or_, select, text, update
from sqlalchemy.sql import Select

from storage.database import Database
from storage.day_partitions import among_days_from, days_since
from storage.streaming import milliseconds, streamed
from storage.tables import Alert, Feedback, Recommendation, RecommendationItem, TrainingRun, Transaction
from storage.views import labels_joined_by

Int64s = npt.NDArray[np.int64]
TEXTS = ("event_id", "account_id", "merchant_id", "currency", "channel", "country", "category", "memo")


@dataclass(frozen=True, slots=True)
class TransactionColumns:
    """Rows of `transactions` as columns; times in epoch milliseconds."""

    source_partition: npt.NDArray[np.int32]
    source_offset: Int64s
    occurred_at: Int64s
    recorded_at: Int64s
    amount_e4: Int64s
    event_id: list[str]
    account_id: list[str]
    merchant_id: list[str]
    currency: list[str]
    channel: list[str | None]
    country: list[str | None]
    category: list[str | None]
    memo: list[str | None]

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass(frozen=True, slots=True)
class LabelledColumns:
    """transactions beside their newest joined label: 1 fraud, 0 legitimate, -1 none; given_at: when it was given, epoch
    milliseconds, 0 without one."""

    transactions: TransactionColumns
    label: npt.NDArray[np.int8]
    given_at: Int64s


@dataclass(frozen=True, slots=True)
class HistoryCut:
    """What a history holds, whenever it is read: transactions before a moment and before an offset of each (topic
    generation, partition), and the labels joined by that moment. Offsets are stored in order, so nothing comes to lie
    before them later."""

    until: datetime
    ends: tuple[tuple[int, int, int], ...]

    def as_json(self) -> dict[str, Any]:
        return {"until": self.until.isoformat(), "ends": [list(end) for end in self.ends]}

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> "HistoryCut":
        ends = tuple((int(generation), int(partition), int(offset)) for generation, partition, offset in said["ends"])
        return HistoryCut(datetime.fromisoformat(said["until"]), ends)


def history_cut(connection: Connection, until: datetime) -> HistoryCut:
    """Of all that is stored now."""
    place = Transaction.topic_generation, Transaction.source_partition
    statement = select(*place, func.max(Transaction.source_offset)).group_by(*place).order_by(*place)
    return HistoryCut(until, tuple((row[0], row[1], row[2] + 1) for row in connection.execute(statement)))


def cut_now(database: Database, now: datetime) -> HistoryCut:
    """The same over a connection of its own."""
    with database.reading() as connection:
        return history_cut(connection, now)


def stored_transactions(
    connection: Connection,
    *,
    topic_generation: int,
    partition: int,
    before_offset: int,
    from_offset: int = 0,
    batch_rows: int = 20_000,
) -> Iterator[TransactionColumns]:
    """One partition's transactions from an offset on and before another, in offset order."""
    statement = (
        _columns()
        .where(
            Transaction.topic_generation == topic_generation,
            Transaction.source_partition == partition,
            Transaction.source_offset >= from_offset,
            Transaction.source_offset < before_offset,
            *among_days_from(connection, Transaction, topic_generation, partition, from_offset),
        )
        .order_by(Transaction.source_offset)
    )
    for rows in streamed(connection, statement, batch_rows):
        yield _as_columns(rows)


def labelled_transactions(
    connection: Connection, *, since: datetime | None, cut: HistoryCut, batch_rows: int = 20_000
) -> Iterator[LabelledColumns]:
    """All transactions of a cut from a moment on, in the order of their time, with what is known of them."""
    names = ("source_partition", "source_offset", "occurred_at", "recorded_at", "amount_e4", *TEXTS)
    for rows in _labelled(connection, names, since, cut, batch_rows):
        yield LabelledColumns(_as_columns(rows), *_labels_of(rows))


def _labelled(
    connection: Connection, names: Collection[str], since: datetime | None, cut: HistoryCut, batch_rows: int
) -> Iterator[list[Row[Any]]]:
    labels = text(labels_joined_by(connection.dialect.name)).bindparams(
        bindparam("joined_by", cut.until, type_=Feedback.joined_at.type)
    )
    columns = Feedback.event_id.expression, Feedback.label.expression, Feedback.given_at.expression
    known = labels.columns(*columns).subquery("known")
    place = Transaction.topic_generation, Transaction.source_partition, Transaction.source_offset
    inside = [
        and_(place[0] == generation, place[1] == partition, place[2] < end) for generation, partition, end in cut.ends
    ]
    statement = (
        select(*(getattr(Transaction, name) for name in names), known.c.label, known.c.given_at)
        .outerjoin(known, known.c.event_id == Transaction.event_id)
        .where(Transaction.occurred_at < cut.until, or_(false(), *inside))
        .order_by(Transaction.occurred_at, *place)
    )
    if since is not None:
        statement = statement.where(Transaction.occurred_at >= since, Transaction.day >= days_since(since))
    return streamed(connection, statement, batch_rows)


def _labels_of(rows: list[Row[Any]]) -> tuple[npt.NDArray[np.int8], Int64s]:
    codes = {"fraud": 1, "legitimate": 0, None: -1}
    given_at = [0 if row.given_at is None else round(row.given_at.timestamp() * 1000) for row in rows]
    return np.array([codes[row.label] for row in rows], np.int8), np.array(given_at, np.int64)


def join_feedback(connection: Connection, topic_generation: int, partitions: Collection[int], now: datetime) -> int:
    """Pending feedback becomes joined: a label whose event or alert is stored, a reward whose slate is stored and holds
    the item. Returns how many."""
    label = or_(
        _one_by_one(select(Transaction.day).where(Transaction.event_id == Feedback.event_id)),
        exists().where(Alert.alert_id == Feedback.alert_id),
    )
    key = ("day", "topic_generation", "source_partition", "source_offset")
    reward = _one_by_one(
        select(RecommendationItem.day).where(
            Recommendation.recommendation_id == Feedback.recommendation_id,
            *(getattr(RecommendationItem, name) == getattr(Recommendation, name) for name in key),
            RecommendationItem.item_id == Feedback.item_id,
        )
    )
    pending = _pending(topic_generation, partitions)
    kinds = set(connection.execute(select(Feedback.kind).where(*pending).distinct()).scalars())
    joined = 0
    for kind, found in (("label", label), ("reward", reward)):
        if kind in kinds:  # a look at all days of a table is not for nothing
            statement = update(Feedback).where(*pending, Feedback.kind == kind, found)
            joined += connection.execute(statement.values(status="joined", joined_at=now)).rowcount
    return joined


def expire_feedback(
    connection: Connection, topic_generation: int, partitions: Collection[int], before: datetime
) -> int:
    """Pending feedback recorded before a moment becomes expired; returns how many."""
    statement = (
        update(Feedback)
        .where(*_pending(topic_generation, partitions), Feedback.recorded_at < before)
        .values(status="expired")
    )
    return connection.execute(statement).rowcount


def has_pending_feedback(connection: Connection, topic_generation: int, partition: int) -> bool:
    statement = select(exists().where(*_pending(topic_generation, [partition])))
    return bool(connection.execute(statement).scalar())


def start_training_run(database: Database, run_id: str, model_name: str, now: datetime, config: dict[str, Any]) -> None:
    with database.begin() as connection:
        values = {"run_id": run_id, "model_name": model_name, "started_at": now, "status": "running", "config": config}
        connection.execute(TrainingRun.__table__.insert(), values)  # type: ignore[attr-defined]


def finish_training_run(
    database: Database,
    run_id: str,
    now: datetime,
    status: str,
    *,
    metrics: dict[str, Any] | None = None,
    message: str | None = None,
) -> None:
    """Of the version that the run made, if any, the registry tells it (ModelRegistry.register)."""
    with database.begin() as connection:
        connection.execute(
            update(TrainingRun)
            .where(TrainingRun.run_id == run_id)
            .values(finished_at=now, status=status, metrics=metrics, message=message)
        )


def fail_abandoned_runs(database: Database, model_name: str, job: str, now: datetime, message: str) -> int:
    """Runs of a job (config's "job") that still count as running become failed; returns how many. For a caller that
    knows that no such run is alive."""
    with database.begin() as connection:
        statement = (
            update(TrainingRun)
            .where(*_of_job(model_name, job), TrainingRun.status == "running")
            .values(status="failed", finished_at=now, message=message)
        )
        return connection.execute(statement).rowcount


def unfinished_run(database: Database, model_name: str, job: str) -> Mapping[str, Any] | None:
    """The configuration of a job's newest run where that came to no end of its own."""
    with database.reading() as connection:
        statement = (
            select(TrainingRun.status, TrainingRun.config)
            .where(*_of_job(model_name, job))
            .order_by(TrainingRun.started_at.desc(), TrainingRun.run_id)
            .limit(1)
        )
        newest = connection.execute(statement).one_or_none()
    return newest.config if newest is not None and newest.status in ("running", "failed") else None


def latest_run_start(database: Database, model_name: str, job: str) -> datetime | None:
    """When the newest run of a job began that came to an end of its own; None without one."""
    with database.reading() as connection:
        statement = select(func.max(TrainingRun.started_at)).where(
            *_of_job(model_name, job), TrainingRun.status.in_(["succeeded", "refused"])
        )
        found: datetime | None = connection.execute(statement).scalar()
        return found


def labels_joined_since(database: Database, moment: datetime) -> int:
    with database.reading() as connection:
        statement = select(func.count()).where(
            Feedback.kind == "label", Feedback.status == "joined", Feedback.joined_at >= moment
        )
        return int(connection.execute(statement).scalar_one())


def _of_job(model_name: str, job: str) -> tuple[Any, ...]:
    return TrainingRun.model_name == model_name, TrainingRun.config["job"].as_string() == job


def _one_by_one(found: Select[Any]) -> ColumnElement[bool]:
    """Whether there is one, looked up in the index of each day. Of an EXISTS, PostgreSQL would rather read the whole
    table at once."""
    return found.limit(1).scalar_subquery().is_not(None)


def _pending(topic_generation: int, partitions: Collection[int]) -> tuple[Any, ...]:
    return (
        Feedback.status == "pending",
        Feedback.topic_generation == topic_generation,
        Feedback.source_partition.in_(list(partitions)),
    )


def _columns(*more: Any) -> Select[Any]:
    names = ("source_partition", "source_offset", "occurred_at", "recorded_at", "amount_e4", *TEXTS)
    return select(*(getattr(Transaction, name) for name in names), *more)


def _as_columns(rows: list[Row[Any]]) -> TransactionColumns:
    columns = list(zip(*rows, strict=True))
    partition, offset, occurred_at, recorded_at, amount_e4 = columns[:5]
    return TransactionColumns(
        np.array(partition, np.int32),
        np.array(offset, np.int64),
        milliseconds(occurred_at),
        milliseconds(recorded_at),
        np.array(amount_e4, np.int64),
        *(list(values) for values in columns[5:13]),
    )
