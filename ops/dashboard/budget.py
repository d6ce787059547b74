"""How many alerts a day there may be, and on which day that was what."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

from models.alert_rule import AlertRule
from storage.registry import ModelRecord


def alert_budget(rule: AlertRule, champion: ModelRecord | None) -> float | None:
    """Alerts a day: the rule's number or, without one, what the champion was trained for; None where the rule is about
    something else."""
    if rule.name in ("precision", "anomaly"):
        return None
    if rule.number is not None:
        return rule.number
    budget = None if champion is None else champion.metrics.get("alerts_per_day")
    return None if budget is None else float(budget)


def champion_on(promotions: Sequence[tuple[datetime, ModelRecord]], day: date) -> ModelRecord | None:
    """Who was champion at the end of a day (UTC). promotions: the first one first."""
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return next((record for moment, record in reversed(promotions) if moment < end), None)
