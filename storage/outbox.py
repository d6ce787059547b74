"""Committed rows past a cursor, in the order they are to be published.

A position is an alert revision's or model update's sequence, or the offset of a dead letter, of a prediction or of the
engagement that a slate answers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, text
from sqlalchemy.orm import aliased

from storage.day_partitions import among_days_from
from storage.tables import Alert, DeadLetter, ModelUpdate, Prediction, Recommendation, RecommendationItem

PREDICTION_DAYS = 8
LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")
ROWS_AT_ONCE = 5_000


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


@dataclass(frozen=True, slots=True)
class RecommendedItemRow:
    item_id: str
    position: int
    propensity: float
    score: float


@dataclass(frozen=True, slots=True)
class RecommendationRow:
    """A slate with its items in their order."""

    source_offset: int
    recommendation_id: str
    user_id: str
    made_at: datetime
    policy: str
    cause: str
    items: list[RecommendedItemRow]


SLATE_NAMES = tuple(field.name for field in fields(RecommendationRow) if field.name != "items")
ITEM_NAMES = tuple(field.name for field in fields(RecommendedItemRow))
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


def recommendations_after(
    connection: Connection, topic_generation: int, partition: int, position: int, limit: int
) -> list[RecommendationRow]:
    place = topic_generation, partition, position
    among = among_days_from(connection, Recommendation, *place, RecommendationItem)
    some = (
        select(*(getattr(Recommendation, name) for name in (*LOG_KEY, *SLATE_NAMES[1:])))
        .where(
            *among[:1],
            Recommendation.topic_generation == topic_generation,
            Recommendation.source_partition == partition,
            Recommendation.source_offset >= position,
        )
        .order_by(Recommendation.source_offset)
        .limit(limit)
    )
    return list(_slates(connection.execute(_with_items(some).where(*among[1:]))))


def current_slates(connection: Connection, since: datetime) -> Iterator[RecommendationRow]:
    """The newest slate of each user who was given one since a moment, as a stream: what Redis is rebuilt from."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    table = Recommendation
    newest = (table.made_at.desc(), table.topic_generation.desc(), table.source_offset.desc())
    place = func.row_number().over(partition_by=table.user_id, order_by=newest).label("place")
    columns = (getattr(table, name) for name in (*LOG_KEY, *SLATE_NAMES[1:]))
    ranked = select(*columns, place).where(table.made_at >= since).subquery()
    statement = _with_items(select(ranked).where(ranked.c.place == 1))
    streaming = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    with connection.execute(statement, execution_options=streaming) as found:
        yield from _slates(found)


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


def _with_items(slates: Select[Any]) -> Select[Any]:
    """A row for each item, slates by their place in the log."""
    slate = slates.subquery("slate")
    same = and_(*(getattr(RecommendationItem, name) == slate.c[name] for name in LOG_KEY))
    columns = [slate.c[name] for name in SLATE_NAMES], [getattr(RecommendationItem, name) for name in ITEM_NAMES]
    order = (*(slate.c[name] for name in LOG_KEY[1:]), slate.c.day, RecommendationItem.position)
    return select(*columns[0], *columns[1]).join_from(slate, RecommendationItem, same).order_by(*order)


def _slates(rows: Iterable[Row[Any]]) -> Iterator[RecommendationRow]:
    for _, group in groupby(rows, lambda row: row.recommendation_id):
        own = list(group)
        items = [RecommendedItemRow(*(getattr(row, name) for name in ITEM_NAMES)) for row in own]
        yield RecommendationRow(**{name: getattr(own[0], name) for name in SLATE_NAMES}, items=items)


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
