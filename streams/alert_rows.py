"""From alert revisions to rows of `alerts`: the part of streams/rows.py that reads rows in order to write rows.

An alert's timeline is read inside the transaction that writes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Connection

from storage.alert_history import StoredTransaction, previous_timelines, stored_transactions_at, write_alerts
from storage.progress import Claim
from streams import contract
from streams.alerts import AlertRevision


@dataclass(frozen=True, slots=True)
class WriteAlerts:
    """Writes revisions of one partition, each with its timeline, inside the batch's transaction."""

    claim: Claim
    revisions: Sequence[AlertRevision]

    def __call__(self, connection: Connection) -> None:
        positions = {position for revision in self.revisions for position in revision.positions or ()}
        stored = stored_transactions_at(
            connection, self.claim.topic_generation, self.claim.partition, sorted(positions)
        )
        timelines: dict[str, bytes] = previous_timelines(
            connection, {revision.alert_id for revision in self.revisions if revision.positions is None}
        )
        rows = []
        for revision in self.revisions:
            if revision.positions is not None:
                entries = [_timeline_entry(stored[position]) for position in revision.positions if position in stored]
                timelines[revision.alert_id] = contract.encode(entries)
            rows.append(_alert_row(self.claim, revision, timelines.get(revision.alert_id, b"[]")))
        write_alerts(connection, rows)


def _alert_row(claim: Claim, revision: AlertRevision, timeline: bytes) -> dict[str, object]:
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
