"""What SQL holds: predictions, detection day by day, drifts, and the views with a query to begin with."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import inspect

from ops.dashboard.aggregates import MOST_DAYS
from ops.dashboard.answers import Daily, Drift, Drifts, Prediction, Predictions, View, Views
from ops.dashboard.context import InContext
from ops.dashboard.errors import not_found
from ops.dashboard.refreshing import AsOf
from ops.dashboard.security import VIEWER
from ops.dashboard.status import TRANSACTIONS, offsets_of
from storage.drifts import drifts_since
from storage.progress import current_progress
from storage.stored_predictions import newest_predictions, prediction_of
from storage.views import ANALYST_VIEWS, FIRST_QUERIES, about_view

router = APIRouter(prefix="/api", tags=["data"], dependencies=[VIEWER])

Days = Annotated[int, Query(ge=1, le=MOST_DAYS)]


@router.get("/predictions")
def predictions(context: InContext, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Predictions:
    """The newest ones, the latest first."""
    with context.reading() as connection:
        rows = [row for row, _ in current_progress(connection)]
        found = newest_predictions(connection, offsets_of(rows, context.sources.topic(TRANSACTIONS)), limit)
    return Predictions(predictions=[Prediction.model_validate(each) for each in found])


@router.get("/predictions/{event_id:path}")
def prediction(context: InContext, event_id: str) -> Prediction:
    """What was said of one event."""
    with context.reading() as connection:
        found = prediction_of(connection, event_id)
    if found is None:
        raise not_found(f"no prediction of an event {event_id!r} is stored")
    return Prediction.model_validate(found)


@router.get("/detection")
def detection(context: InContext, days: Days = 30) -> Daily:
    """Rows of v_detection_daily, the latest day first; as_of says when they were read."""
    return daily(context, context.aggregates.detection.latest, days)


@router.get("/drifts")
def drifts(context: InContext, days: Days = 30) -> Drifts:
    """What was found to differ from what a model was trained on, the latest first."""
    since = context.sources.clock().date() - timedelta(days=days - 1)
    found = drifts_since(context.sources.database, since)
    return Drifts(
        drifts=[
            Drift(
                day=day,
                model=drift.model,
                detector=drift.detector,
                subject=drift.subject,
                value=drift.value,
                bound=drift.bound,
                detected_at=drift.detected_at,
            )
            for day, drift in found
        ]
    )


@router.get("/views")
def views(context: InContext) -> Views:
    """The views that analysts read with SQL."""
    with context.reading() as connection:
        inspector = inspect(connection)
        columns = {name: [column["name"] for column in inspector.get_columns(name)] for name in ANALYST_VIEWS}
    return Views(
        views=[
            View(name=name, about=about_view(name), columns=columns[name], query=FIRST_QUERIES[name])
            for name in ANALYST_VIEWS
        ]
    )


def daily(context: InContext, latest: AsOf[Sequence[Mapping[str, Any]]] | None, days: int) -> Daily:
    """The rows of the latest days, of what the background has read."""
    if latest is None:
        return Daily(as_of=None, days=[])
    since = context.sources.clock().date() - timedelta(days=days - 1)
    return Daily(as_of=latest.moment, days=[numbers(row) for row in latest.value if row["day"] >= since])


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """PostgreSQL has some of them as decimals, which JSON would have as texts."""
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in row.items()}
