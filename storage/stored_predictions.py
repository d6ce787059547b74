"""Predictions as people look at them: the newest ones, one by its event, those of an alert; and how long scoring took.

The same columns as the view v_predictions. The newest rows are found by the key of the hot tables, from the offsets of
stream_progress, and labels by the indexes of `feedback`: nothing here reads more than it returns, however many rows
there are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select

from storage.alert_list import GivenLabel, labels_of, newest
from storage.tables import LogKey, Prediction, Transaction

#: Days looked at for the newest rows.
MOST_DAYS = 7
#: Offsets that the figures of latency look at, of all partitions together, and of each at least.
OFFSETS_SAMPLED, LEAST_OFFSETS = 1000, 20
ONE_DAY = timedelta(days=1)
LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")
_OF_TRANSACTION = (
    *("event_id", "account_id", "merchant_id", "occurred_at", "currency", "channel", "country", "category"),
    *("memo", "extra", *LOG_KEY),
)
_OF_PREDICTION = ("scored_at", "score", "threshold", "flagged", "score_kind", "model", "alert_id")

#: Topic generation and partition of transactions -> the next offset in SQL.
Places = Mapping[tuple[int, int], int]


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A row of v_predictions; amount in `currency`."""

    event_id: str
    account_id: str
    merchant_id: str
    occurred_at: datetime
    scored_at: datetime
    amount: float
    currency: str
    channel: str | None
    country: str | None
    category: str | None
    memo: str | None
    extra: dict[str, Any] | None
    score: float
    threshold: float
    flagged: bool
    score_kind: str
    model: str
    alert_id: str | None
    label: str | None
    label_source: str | None
    label_given_at: datetime | None
    day: date
    topic_generation: int
    source_partition: int
    source_offset: int


def newest_predictions(connection: Connection, places: Places, limit: int) -> list[StoredPrediction]:
    """The latest scored first, of the latest days that have any."""
    found: list[Row[Any]] = []
    for day in _newest_days(connection, Prediction):
        for (generation, partition), next_offset in places.items():
            place = _at(day, generation, partition)
            statement = _joined().where(*place, Prediction.source_offset < next_offset)
            rows = connection.execute(statement.order_by(Prediction.source_offset.desc()).limit(limit))
            found += rows.all()
        if len(found) >= limit:
            break
    found.sort(key=lambda row: (row.scored_at, row.source_offset), reverse=True)
    return _with_labels(connection, found[:limit])


def prediction_of(connection: Connection, event_id: str) -> StoredPrediction | None:
    rows = connection.execute(_joined().where(Transaction.event_id == event_id).limit(1)).all()
    return next(iter(_with_labels(connection, rows)), None)


def predictions_of(
    connection: Connection, event_ids: Collection[str], first: date, last: date
) -> list[StoredPrediction]:
    """Of these events, recorded from the first to the last day, in the order in which they occurred."""
    statement = _joined().where(Transaction.event_id.in_(event_ids), Transaction.day.between(first, last))
    rows = connection.execute(statement.where(Prediction.day.between(first, last)).order_by(Transaction.occurred_at))
    return _with_labels(connection, rows.all())


def account_of_event(connection: Connection, event_id: str) -> str | None:
    """Whose transaction it was; None for one that is not stored."""
    statement = select(Transaction.account_id).where(Transaction.event_id == event_id).limit(1)
    return connection.execute(statement).scalar()


def newest_latencies(connection: Connection, places: Places) -> list[float]:
    """Seconds from the timestamp of the Kafka record to the moment of its score, of the newest predictions."""
    seconds: list[float] = []
    day = next(_newest_days(connection, Prediction), None)
    if day is None:
        return seconds
    each = max(OFFSETS_SAMPLED // max(len(places), 1), LEAST_OFFSETS)
    for (generation, partition), next_offset in places.items():
        statement = _joined_with(Prediction.scored_at, Transaction.recorded_at).where(
            *_at(day, generation, partition),
            Prediction.source_offset >= next_offset - each,
            Prediction.source_offset < next_offset,
        )
        rows = connection.execute(statement)
        seconds += [max(0.0, (row.scored_at - row.recorded_at).total_seconds()) for row in rows]
    return seconds


def _newest_days(connection: Connection, table: type[LogKey]) -> Any:
    day: date | None = connection.execute(select(func.max(table.day))).scalar()
    for _ in range(MOST_DAYS):
        if day is None:
            return
        yield day
        day = connection.execute(select(func.max(table.day)).where(table.day < day)).scalar()


def _at(day: date, generation: int, partition: int) -> list[Any]:
    """Said of both tables, so that the database opens that day's part of each alone."""
    return [
        condition
        for table in (Prediction, Transaction)
        for condition in (
            table.day == day,
            table.topic_generation == generation,
            table.source_partition == partition,
        )
    ]


def _joined() -> Select[Any]:
    own = [getattr(Transaction, name) for name in _OF_TRANSACTION]
    said = [getattr(Prediction, name) for name in _OF_PREDICTION]
    return _joined_with(*own, Transaction.amount_e4, *said)


def _joined_with(*columns: Any) -> Select[Any]:
    same = and_(*(getattr(Prediction, name) == getattr(Transaction, name) for name in LOG_KEY))
    return select(*columns).select_from(Transaction).join(Prediction, same)


def _with_labels(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredPrediction]:
    alert_ids = {row.alert_id for row in rows if row.alert_id is not None}
    given = labels_of(connection, alert_ids, {row.event_id for row in rows})
    return [_prediction(row, given_on(row.event_id, row.alert_id, given)) for row in rows]


def given_on(event_id: str, alert_id: str | None, labels: Sequence[GivenLabel]) -> GivenLabel | None:
    """The label that counts for an event: on itself or on the alert that holds it."""
    return newest(
        label for label in labels if label.event_id == event_id or (alert_id is not None and label.alert_id == alert_id)
    )


def _prediction(row: Row[Any], label: GivenLabel | None) -> StoredPrediction:
    values = {name: getattr(row, name) for name in (*_OF_TRANSACTION, *_OF_PREDICTION)}
    return StoredPrediction(
        **values,
        amount=row.amount_e4 / 10_000,
        label=None if label is None else label.label,
        label_source=None if label is None else label.source,
        label_given_at=None if label is None else label.given_at,
    )
