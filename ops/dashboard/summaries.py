"""Alerts as the API answers them, from rows of SQL or, while SQL is away, from the message in Redis."""

from typing import Any

import msgspec

from ops.dashboard.answers import AlertSummary
from storage.alert_list import ListedAlert
from streams import contract


def summary_of(alert: ListedAlert) -> AlertSummary:
    return AlertSummary(**summary_fields(alert))


def summary_fields(alert: ListedAlert) -> dict[str, Any]:
    label = alert.label
    own = {name: getattr(alert, name) for name in AlertSummary.model_fields if hasattr(alert, name) and name != "label"}
    return own | {
        "reason": alert.reasons[0]["text"] if alert.reasons else None,
        "events": len(alert.event_ids),
        "label": None if label is None else label.label,
        "label_source": None if label is None else label.source,
        "label_given_at": None if label is None else label.given_at,
    }


def summary_of_message(payload: bytes) -> AlertSummary:
    """Of the contract's alert message, which says neither what is at risk nor what was judged. Raises
    msgspec.MsgspecError for anything else."""
    message = msgspec.json.decode(payload, type=contract.Alert)
    own = {name: getattr(message, name) for name in AlertSummary.model_fields if hasattr(message, name)}
    return AlertSummary(
        **own,
        closed_by=None,
        amount_at_risk=None,
        reason=message.reasons[0].text if message.reasons else None,
        events=len(message.event_ids),
        label=None,
        label_source=None,
        label_given_at=None,
    )
