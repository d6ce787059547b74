"""From alert revisions to rows of `alerts`: the part of streams/rows.py that reads rows in order to write rows.

An alert's timeline is read inside the transaction that writes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Connection

from storage.alert_history import StoredTransaction, previous_timelines, stored_transactions_at, write_alerts
from storage.outbox import AlertRow
from storage.progress import Claim
from streams import contract
from streams.alerts import AlertRevision
from streams.batch import FreshRows

PUBLISHED = tuple(field.name for field in fields(AlertRow))


@dataclass(frozen=True, slots=True)
class WriteAlerts:
    """Writes revisions of one partition, each with its timeline, inside the batch's transaction. They are numbered
    without a gap, so the relay need not read them back."""

    claim: Claim
    revisions: Sequence[AlertRevision]

    def __call__(self, connection: Connection) -> Mapping[str, FreshRows]:
        positions = {position for revision in self.revisions for position in revision.positions or ()}
        stored = stored_transactions_at(
            connection, self.claim.topic_generation, self.claim.partition, sorted(positions)
        )
        timelines = previous_timelines(
            connection, {revision.alert_id for revision in self.revisions if revision.positions is None}
        )
        rows = []
        for revision in self.revisions:
            if revision.positions is not None:
                entries = [_timeline_entry(stored[position]) for position in revision.positions if position in stored]
                timelines[revision.alert_id] = msgspec.json.decode(contract.encode(entries))
            rows.append(_alert_row(self.claim, revision, timelines.get(revision.alert_id, [])))
        if write_alerts(connection, rows) != len(rows):
            return {}  # some were there already, and stay as they are
        written = [AlertRow(**{name: row[name] for name in PUBLISHED}) for row in rows]
        return {"alerts": FreshRows(written[0].sequence, written[-1].sequence + 1, written)}


def _alert_row(claim: Claim, revision: AlertRevision, timeline: list[Any]) -> dict[str, Any]:
    return {
        "alert_id": revision.alert_id,
        "revision": revision.revision,
        "topic_generation": claim.topic_generation,
        "source_partition": claim.partition,
        "sequence": revision.sequence,
        "source_offset": revision.offset,
        "status": revision.status,
        "closed_by": revision.closed_by,
        "event_ids": list(revision.event_ids),
        "account_id": revision.account_id,
        "occurred_at": _time(revision.occurred_at),
        "scored_at": _time(revision.scored_at),
        "score": revision.score,
        "score_kind": revision.score_kind,
        "threshold": revision.threshold,
        "severity": revision.severity,
        "amount_at_risk": revision.amount_at_risk,
        "model": revision.model,
        "reasons": [
            {
                "feature": reason.feature,
                "value": reason.value,
                "usual": reason.usual,
                "contribution": reason.contribution,
                "text": reason.text,
            }
            for reason in revision.reasons
        ],
        "timeline": timeline,
    }


def _timeline_entry(row: StoredTransaction) -> contract.TimelineEntry:
    return contract.TimelineEntry(
        event_id=row.event_id,
        occurred_at=row.occurred_at,
        amount=Decimal(row.amount_e4) / contract.AMOUNT_SCALE,
        currency=row.currency,
        merchant_id=row.merchant_id,
        score=row.score,
        flagged=row.flagged,
        channel=row.channel,
        country=row.country,
        category=row.category,
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
