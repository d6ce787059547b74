"""Stored slates as people ask for them: whose one is and what it holds, how many were made in a stretch of the log."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select

from storage.tables import Recommendation, RecommendationItem

_LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")


@dataclass(frozen=True, slots=True)
class SlateSubject:
    user_id: str
    item_ids: tuple[str, ...]


def slate_subject(connection: Connection, recommendation_id: str) -> SlateSubject | None:
    """None for a slate that is not stored."""
    same = and_(*(getattr(RecommendationItem, name) == getattr(Recommendation, name) for name in _LOG_KEY))
    statement = (
        select(Recommendation.user_id, RecommendationItem.item_id)
        .outerjoin(RecommendationItem, same)
        .where(Recommendation.recommendation_id == recommendation_id)
        .order_by(RecommendationItem.position)
    )
    rows = connection.execute(statement).all()
    return SlateSubject(rows[0].user_id, tuple(row.item_id for row in rows if row.item_id)) if rows else None


def slates_between(connection: Connection, spans: Mapping[tuple[int, int], tuple[int, int]]) -> int:
    """How many answer engagements of these (topic generation, partition) -> (first, end) offsets."""
    total = 0
    for (generation, partition), (first, end) in spans.items():
        if first < end:
            statement = select(func.count()).where(
                Recommendation.topic_generation == generation,
                Recommendation.source_partition == partition,
                Recommendation.source_offset >= first,
                Recommendation.source_offset < end,
            )
            total += int(connection.execute(statement).scalar_one())
    return total
