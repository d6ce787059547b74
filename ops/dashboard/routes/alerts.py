"""Alerts: the filtered list, one with all that is known of it, and how many there were beside the budget."""

from datetime import date, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from ops.dashboard.answers import Alert, AlertBudget, Alerts, BudgetDay, Label, Prediction
from ops.dashboard.budget import alert_budget, champion_on
from ops.dashboard.context import Context, InContext
from ops.dashboard.cursors import cursor_of, place_in
from ops.dashboard.errors import ApiError, not_found
from ops.dashboard.security import VIEWER
from ops.dashboard.summaries import summary_fields, summary_of
from storage.alert_list import (
    SEVERITIES,
    AlertDetail,
    AlertFilter,
    Order,
    alert_detail,
    list_alerts,
    open_alert_count,
    opened_by_day,
    place_of,
)
from storage.stored_predictions import predictions_of
from streams.detection import MODEL_NAME

router = APIRouter(prefix="/api/alerts", tags=["alerts"], dependencies=[VIEWER])

ONE_DAY = timedelta(days=1)
#: What cursors hold.
PLACE_TYPES: dict[Order, tuple[type, ...]] = {"newest": (datetime, str), "worst": (int, float, datetime, str)}
#: Left out of a timeline where they are not known.
TIMELINE_DEFAULTS = {"channel": None, "country": None, "category": None}
Text = Annotated[str | None, Query(min_length=1, max_length=200)]


@router.get("")
def alerts(
    context: InContext,
    status: Literal["open", "closed"] | None = None,
    severity: Annotated[str | None, Query(description="Of low, medium, high, critical; several with commas.")] = None,
    label: Literal["fraud", "legitimate", "none"] | None = None,
    account: Text = None,
    model: Text = None,
    search: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="The beginning of an alert's, account's or event's id."),
    ] = None,
    since: Annotated[AwareDatetime | None, Query(description="Scored at this moment or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Scored before this moment.")] = None,
    order: Order = "newest",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Alerts:
    """A page of the list, at each alert's latest revision."""
    wanted = AlertFilter(status, _severities(severity), label, account, model, search, since, until)
    after = None if cursor is None else place_in(cursor, PLACE_TYPES[order])
    if after is not None and order == "worst" and not 0 <= after[0] < len(SEVERITIES):
        raise ApiError(422, "invalid", "query.cursor: names no severity; begin without a cursor")
    with context.reading() as connection:
        found = list_alerts(connection, wanted, order, limit + 1, after)
    shown = found[:limit]
    following = cursor_of(place_of(shown[-1], order)) if len(found) > limit else None
    return Alerts(alerts=[summary_of(alert) for alert in shown], next=following)


@router.get("/budget")
def budget(context: InContext, days: Annotated[int, Query(ge=1, le=90)] = 14) -> AlertBudget:
    """How many alerts were opened on each day (UTC), beside how many there may be; the latest day last."""
    sources = context.sources
    today = sources.clock().date()
    promotions = sources.registry.promotions(MODEL_NAME)
    champion = sources.registry.champion(MODEL_NAME)
    shown = [today - number * ONE_DAY for number in reversed(range(days))]
    with context.reading() as connection:
        opened, still_open = opened_by_day(connection, shown), open_alert_count(connection)

    def on(day: date) -> BudgetDay:
        champion_then = champion if day == today else champion_on(promotions, day)
        return BudgetDay(day=day, opened=opened[day], budget=alert_budget(sources.alert_rule, champion_then))

    listed = [on(day) for day in shown]
    return AlertBudget(days=listed, open=still_open, today=listed[-1].opened, budget=listed[-1].budget)


@router.get("/{alert_id}")
def alert(context: InContext, alert_id: str) -> Alert:
    """One alert with its reasons, the account's recent events, labels and predictions."""
    with context.reading() as connection:
        found = alert_detail(connection, alert_id)
        if found is None:
            raise not_found(f"no alert has the id {alert_id!r}")
        predictions = predictions_of(connection, found.alert.event_ids, *_recorded_between(context, found))
    return Alert(
        **summary_fields(found.alert),
        event_ids=found.alert.event_ids,
        reasons=found.alert.reasons,
        timeline=[TIMELINE_DEFAULTS | entry for entry in found.timeline],
        labels=[Label.model_validate(label) for label in found.labels],
        predictions=[Prediction.model_validate(prediction) for prediction in predictions],
    )


def _severities(text: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if not set(names) <= set(SEVERITIES):
        raise ApiError(422, "invalid", f"query.severity: is of {', '.join(SEVERITIES)}, several with commas")
    return names


def _recorded_between(context: Context, found: AlertDetail) -> tuple[date, date]:
    """The days on which the records of an alert's events came: an event alerts only while it is young enough."""
    first = found.opened_at - context.sources.alert_max_age - ONE_DAY
    return first.date(), (found.alert.scored_at + ONE_DAY).date()
