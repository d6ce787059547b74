"""Committed rows past a cursor, in the order they are to be published.

A position is an alert revision's or model update's sequence, or a dead letter's or prediction's offset.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import aliased

from storage.tables import Alert, DeadLetter, ModelUpdate, Prediction

PREDICTION_DAYS = 8


@dataclass(frozen=True, slots=True)
class AlertRow:
    alert_id: str
    revision: int
    sequence: int
    status: str
    event_ids: list[str]
    account_id: str
    occurred_at: datetime
    scored_at: datetime
    score: float
    score_kind: str
    threshold: float
    severity: str
    model: str
    reasons: list[dict[str, Any]]
    timeline: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    topic: str
    source_partition: int
    source_offset: int
    error_code: str
    error_message: str
    record_key: bytes | None
    payload: bytes | None
    payload_bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class PredictionRow:
    source_offset: int
    event_id: str
    account_id: str
    score: float
    flagged: bool
    model: str


@dataclass(frozen=True, slots=True)
class ModelUpdateRow:
    sequence: int
    name: str
    version: int
    promoted_at: datetime
    why: str | None


OutboxRow = TypeVar("OutboxRow", AlertRow, DeadLetterRow, PredictionRow)


def alerts_after(
    connection: Connection, topic_generation: int, partition: int, position: int, limit: int
) -> list[AlertRow]:
    return _rows(connection, AlertRow, Alert, Alert.sequence, topic_generation, partition, position, limit)


def dead_letters_after(
    connection: Connection, topic_generation: int, partition: int, position: int, limit: int
) -> list[DeadLetterRow]:
    return _rows(
        connection, DeadLetterRow, DeadLetter, DeadLetter.source_offset, topic_generation, partition, position, limit
    )


def predictions_after(
    connection: Connection, topic_generation: int, partition: int, position: int, limit: int
) -> list[PredictionRow]:
    """Of the newest days only, which the table's key leads with; older ones are not published late."""
    newest = connection.execute(select(func.max(Prediction.day))).scalar()
    if newest is None:
        return []
    days = [newest - timedelta(days=back) for back in range(PREDICTION_DAYS)]
    return _rows(
        connection,
        PredictionRow,
        Prediction,
        Prediction.source_offset,
        topic_generation,
        partition,
        position,
        limit,
        Prediction.day.in_(days),
    )


def model_updates_after(
    connection: Connection, _topic_generation: int, _partition: int, position: int, limit: int
) -> list[ModelUpdateRow]:
    """They belong to no partition; one partition's cursor says how far they are published."""
    columns = [getattr(ModelUpdate, field.name) for field in fields(ModelUpdateRow)]
    statement = select(*columns).where(ModelUpdate.sequence >= position).order_by(ModelUpdate.sequence).limit(limit)
    return [ModelUpdateRow(**row._mapping) for row in connection.execute(statement)]


def every_latest_alert(connection: Connection, limit: int) -> list[AlertRow]:
    """The newest alerts at their latest revision, oldest first: what Redis is rebuilt from."""
    later = aliased(Alert)
    newest = select(func.max(later.revision)).where(later.alert_id == Alert.alert_id).scalar_subquery()
    columns = [getattr(Alert, field.name) for field in fields(AlertRow)]
    statement = select(*columns).where(Alert.revision == newest).order_by(Alert.scored_at.desc()).limit(limit)
    return [AlertRow(**row._mapping) for row in connection.execute(statement)][::-1]


def _rows(
    connection: Connection,
    kind: type[OutboxRow],
    table: Any,
    order: Any,
    topic_generation: int,
    partition: int,
    position: int,
    limit: int,
    *conditions: ColumnElement[bool],
) -> list[OutboxRow]:
    columns = [getattr(table, field.name) for field in fields(kind)]
    statement = (
        select(*columns)
        .where(
            table.topic_generation == topic_generation,
            table.source_partition == partition,
            order >= position,
            *conditions,
        )
        .order_by(order)
        .limit(limit)
    )
    return [kind(**row._mapping) for row in connection.execute(statement)]
