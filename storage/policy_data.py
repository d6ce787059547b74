"""What a policy is trained and judged on: engagements, and the slates that were made with what each item earned.

All of it in the order of the engagements' time, from a cut that says what a history holds whenever it is read
(storage/training_data.py). Read as streams: memory does not depend on the history's length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Date,
    Row,
    and_,
    bindparam,
    false,
    func,
    or_,
    select,
    text,
)

from storage.database import Database
from storage.day_partitions import days_since
from storage.engagement_history import COLUMN_NAMES, EngagementColumns, as_columns
from storage.streaming import milliseconds, streamed
from storage.tables import Engagement, Recommendation, UtcTimestamp
from storage.training_data import HistoryCut
from storage.views import slate_answers_until

Int64s = npt.NDArray[np.int64]
#: Topic generation, partition, offset.
Place = tuple[int, int, int]
ROWS_AT_ONCE = 20_000
SLATES_AT_ONCE = 4_000
PLACE = ("topic_generation", "source_partition", "source_offset")
SLATE_NAMES = (
    *PLACE,
    *("occurred_at", "made_at", "recommendation_id", "user_id", "policy", "candidates", "log_weights"),
)

#: Each item of each slate of a cut with what it earned. Rows are added up, not joined with what was added up before:
#: no plan is bad for it while the planner does not know how many rows there are.
ITEMS_WITH_REWARDS = """
SELECT topic_generation, source_partition, source_offset, position, item_id, sum(reward) AS reward
FROM (
    SELECT r.occurred_at, r.day, r.topic_generation, r.source_partition, r.source_offset, i.position, i.item_id,
        0.0 AS reward
    FROM recommendations r
    JOIN recommendation_items i
        ON i.day = r.day AND i.topic_generation = r.topic_generation
        AND i.source_partition = r.source_partition AND i.source_offset = r.source_offset {items_since}
    UNION ALL
    SELECT occurred_at, day, topic_generation, source_partition, source_offset, position, item_id, reward
    FROM ({answers}) AS answers
) AS parts
WHERE {inside}
GROUP BY occurred_at, day, topic_generation, source_partition, source_offset, position, item_id
ORDER BY occurred_at, topic_generation, source_partition, source_offset, position
"""


@dataclass(frozen=True, slots=True)
class LoggedEngagementColumns:
    """Engagements with the whole of their place in the log: topic_generation int16[n]."""

    topic_generation: npt.NDArray[np.int16]
    columns: EngagementColumns

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True, slots=True)
class SlateColumns:
    """n slates of up to K items out of up to C candidates, each at the place in the log of the engagement that it
    answers; times in epoch milliseconds, occurred_at that engagement's.

    candidates int64[n, C]: keys of items, and candidate_count int32[n]: how many of them there are; log_weights
    float32[n, C], -inf beyond; item_id: the items of each slate in their order; reward float64[n, K]: of each position
    all that came until the cut, 0 beyond; matured bool[n]: the reward window was over by then.
    """

    topic_generation: npt.NDArray[np.int16]
    source_partition: npt.NDArray[np.int32]
    source_offset: Int64s
    occurred_at: Int64s
    made_at: Int64s
    recommendation_id: list[str]
    user_id: list[str]
    policy: list[str]
    candidates: Int64s
    candidate_count: npt.NDArray[np.int32]
    log_weights: npt.NDArray[np.float32]
    item_id: list[list[str]]
    reward: npt.NDArray[np.float64]
    matured: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.user_id)


def has_slates(database: Database) -> bool:
    with database.reading() as connection:
        return connection.execute(select(Recommendation.source_offset).limit(1)).first() is not None


def policy_cut(connection: Connection, until: datetime) -> HistoryCut:
    """Of all engagements that are stored now, with their slates."""
    place = Engagement.topic_generation, Engagement.source_partition
    statement = select(*place, func.max(Engagement.source_offset)).group_by(*place).order_by(*place)
    return HistoryCut(until, tuple((row[0], row[1], row[2] + 1) for row in connection.execute(statement)))


def logged_engagements(
    connection: Connection, *, since: datetime | None, cut: HistoryCut, batch_rows: int = ROWS_AT_ONCE
) -> Iterator[LoggedEngagementColumns]:
    """All engagements of a cut from a moment on, in the order of their time; those of one moment by their place."""
    statement = (
        select(*(getattr(Engagement, name) for name in (*COLUMN_NAMES, "topic_generation")))
        .where(*_inside(Engagement, since, cut))
        .order_by(Engagement.occurred_at, *(getattr(Engagement, name) for name in PLACE))
    )
    for rows in streamed(connection, statement, batch_rows):
        generations = np.array([row.topic_generation for row in rows], np.int16)
        yield LoggedEngagementColumns(generations, as_columns([row[:-1] for row in rows]))


def logged_slates(
    connection: Connection,
    *,
    since: datetime | None,
    cut: HistoryCut,
    reward_window: timedelta,
    batch_rows: int = SLATES_AT_ONCE,
) -> Iterator[SlateColumns]:
    """The slates that answer engagements of a cut from a moment on, in the order of those engagements."""
    statement = (
        select(*(getattr(Recommendation, name) for name in SLATE_NAMES))
        .where(*_inside(Recommendation, since, cut))
        .order_by(Recommendation.occurred_at, *(getattr(Recommendation, name) for name in PLACE))
    )
    complete = round((cut.until - reward_window).timestamp() * 1000)
    items = groupby(_items(connection, since, cut), _place_of)
    for rows in streamed(connection, statement, batch_rows):
        yield _slate_columns(rows, [_items_of(row, items) for row in rows], complete)


def _items(connection: Connection, since: datetime | None, cut: HistoryCut) -> Iterator[Row[Any]]:
    """Each item of each slate with its reward, in the order of the slates."""
    engaged = f"e.occurred_at < :until AND {_among_ends('e.', cut)}"
    inside = f"occurred_at < :until AND {_among_ends('', cut, offset='+source_offset')}"
    if since is not None:
        inside += " AND occurred_at >= :since AND day >= :first_day"
        engaged += " AND e.day >= :first_day"
    items_since = "" if since is None else "AND i.day >= :first_day"
    answers = slate_answers_until(connection.dialect.name, engaged)
    moment = UtcTimestamp()
    values: list[BindParameter[Any]] = [
        bindparam("until", cut.until, moment),
        bindparam("joined_by", cut.until, moment),
    ]
    if since is not None:
        values += [bindparam("since", since, moment), bindparam("first_day", days_since(since), Date())]
    statement = text(ITEMS_WITH_REWARDS.format(answers=answers, inside=inside, items_since=items_since)).bindparams(
        *values
    )
    return chain.from_iterable(streamed(connection, statement, ROWS_AT_ONCE))


def _place_of(row: Row[Any]) -> Place:
    return row.topic_generation, row.source_partition, row.source_offset


def _items_of(slate: Row[Any], items: Iterator[tuple[Place, Iterator[Row[Any]]]]) -> list[tuple[str, float]]:
    """Of the next slate. Raises ValueError where its items are not the next ones."""
    place, rows = next(items, (None, iter(())))
    if place != _place_of(slate):
        raise ValueError(f"the items of slate {_place_of(slate)} are missing; the next ones are those of {place}")
    return [(row.item_id, row.reward) for row in rows]


def _slate_columns(
    rows: Sequence[Row[Any]], items: Sequence[Sequence[tuple[str, float]]], complete: int
) -> SlateColumns:
    """complete: the moment (epoch milliseconds) until which slates are matured."""
    columns = dict(zip(SLATE_NAMES, zip(*rows, strict=True), strict=True))
    keys = [np.frombuffer(packed, "<i8") for packed in columns["candidates"]]
    weights = [np.frombuffer(packed, "<f4") for packed in columns["log_weights"]]
    reward = np.zeros((len(rows), max(map(len, items))))
    for row, own in enumerate(items):
        reward[row, : len(own)] = [earned for _, earned in own]
    made_at = milliseconds(columns["made_at"])
    return SlateColumns(
        topic_generation=np.array(columns["topic_generation"], np.int16),
        source_partition=np.array(columns["source_partition"], np.int32),
        source_offset=np.array(columns["source_offset"], np.int64),
        occurred_at=milliseconds(columns["occurred_at"]),
        made_at=made_at,
        recommendation_id=list(columns["recommendation_id"]),
        user_id=list(columns["user_id"]),
        policy=list(columns["policy"]),
        candidates=_padded(keys, np.int64, 0),
        candidate_count=np.array([len(some) for some in keys], np.int32),
        log_weights=_padded(weights, np.float32, -np.inf),
        item_id=[[item_id for item_id, _ in own] for own in items],
        reward=reward,
        matured=made_at <= complete,
    )


def _padded(parts: Sequence[npt.NDArray[Any]], kind: Any, nothing: float) -> npt.NDArray[Any]:
    """[n, longest]"""
    padded = np.full((len(parts), max(map(len, parts))), nothing, kind)
    for row, part in enumerate(parts):
        padded[row, : len(part)] = part
    return padded


def _inside(table: Any, since: datetime | None, cut: HistoryCut) -> list[ColumnElement[bool]]:
    columns = [getattr(table, name) for name in PLACE]
    ends = [
        and_(columns[0] == generation, columns[1] == partition, columns[2] < end)
        for generation, partition, end in cut.ends
    ]
    conditions = [table.occurred_at < cut.until, or_(false(), *ends)]
    return conditions if since is None else [*conditions, table.occurred_at >= since, table.day >= days_since(since)]


def _among_ends(prefix: str, cut: HistoryCut, offset: str = "source_offset") -> str:
    """The same of plain SQL; ends are numbers. offset: with a plus before it, SQLite does not take the end for what
    finds a slate's items, and then reads those of all slates before the end for each slate."""
    ends = [
        f"{prefix}topic_generation = {int(generation)} AND {prefix}source_partition = {int(partition)} "
        f"AND {prefix}{offset} < {int(end)}"
        for generation, partition, end in cut.ends
    ]
    return f"({' OR '.join(ends)})" if ends else "1 = 0"
