"""Figures that need all rows of some days: rows of the analysts' daily views, and what of the catalogue was shown.

Expensive: seconds over millions of rows. For whoever can wait (the console's background refresh), never for a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Date, and_, func, select, text

from storage.tables import Item, Recommendation, RecommendationItem

DailyView = Literal["v_detection_daily", "v_recommendation_reward"]
_LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")


@dataclass(frozen=True, slots=True)
class Coverage:
    """available: items that may be recommended; shown: of these, items that were in a slate; slates: made."""

    available: int
    shown: int
    slates: int

    @property
    def share(self) -> float | None:
        return self.shown / self.available if self.available else None


def daily_rows(connection: Connection, view: DailyView, since: date) -> list[Mapping[str, Any]]:
    """The rows of a view of this day and later ones, the newest day first."""
    second = "model" if view == "v_detection_daily" else "policy"
    statement = text(f"SELECT * FROM {view} WHERE day >= :since ORDER BY day DESC, {second}")
    rows = connection.execute(statement.columns(day=Date()), {"since": _day(connection, since)})
    return [dict(row) for row in rows.mappings()]


def catalogue_coverage(connection: Connection, since: datetime) -> Coverage:
    """Of the slates that were made since a moment."""
    slates = select(func.count()).select_from(Recommendation).where(Recommendation.made_at >= since)
    same = and_(*(getattr(RecommendationItem, name) == getattr(Recommendation, name) for name in _LOG_KEY))
    shown = (
        select(RecommendationItem.item_id)
        .distinct()
        .select_from(Recommendation)
        .join(RecommendationItem, same)
        .where(Recommendation.made_at >= since)
        .subquery()
    )
    usable = and_(Item.available, ~Item.deleted)
    seen = select(func.count()).select_from(shown).join(Item, Item.item_id == shown.c.item_id).where(usable)
    return Coverage(
        available=int(connection.execute(select(func.count()).select_from(Item).where(usable)).scalar_one()),
        shown=int(connection.execute(seen).scalar_one()),
        slates=int(connection.execute(slates).scalar_one()),
    )


def _day(connection: Connection, day: date) -> Any:
    """A day as the driver takes it in plain SQL text."""
    return day.isoformat() if connection.dialect.name == "sqlite" else day
