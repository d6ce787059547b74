"""From decoded columns, scores and decisions to the rows of the SQL tables, encoded once for one database.

The only place that knows how a message of the contract lies in the tables. No I/O, except in the functions that
`alerts` returns: an alert's timeline is read inside the transaction that writes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from storage import tables
from storage.alert_history import StoredTransaction, previous_timelines, stored_transactions_at, write_alerts
from storage.bulk import EncodedRows, SharedTexts, encode_rows
from storage.progress import Claim
from streams import contract
from streams.alerts import AlertRevision
from streams.decode import DecodedFeedback, DecodedTransactions
from streams.records import MILLISECONDS_A_DAY, DeadRecord

#: A record above the size limit keeps this much of its key and of its value; every other dead letter is kept whole.
KEPT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """What the detector said of n transactions. scored_at in epoch milliseconds; unexplained float64[n]: how little the
    account alone explains the amount, 0 to 1."""

    score: npt.NDArray[np.float64]
    unexplained: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: str
    model: str
    scored_at: int
    alert_id: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class ShadowRows:
    """What the model in the champion's shadow said of the same transactions at the same time."""

    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: str
    model: str


class RowEncoder:
    """Rows for one SQL dialect ("postgresql" or "sqlite")."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def transactions(
        self,
        claim: Claim,
        decoded: DecodedTransactions,
        duplicate: npt.NDArray[np.bool_],
        scored: ScoredRows,
        shadow: ShadowRows | None = None,
    ) -> list[EncodedRows]:
        """Rows of `transactions`, `predictions` and `shadow_predictions` for what is new, of `duplicates` for what is
        not."""
        encoded: list[EncodedRows] = []
        if duplicate.any():
            repeated = np.flatnonzero(duplicate)
            columns = {
                **self._key(claim, decoded.recorded_at[repeated], decoded.offset[repeated]),
                "event_id": [decoded.event_id[row] for row in repeated],
                "entity_id": [decoded.account_id[row] for row in repeated],
                "occurred_at": decoded.occurred_at[repeated],
                "recorded_at": decoded.recorded_at[repeated],
            }
            encoded.append(encode_rows(self._dialect, tables.Duplicate, columns, len(repeated)))
            fresh = np.flatnonzero(~duplicate)
        else:
            fresh = np.arange(len(decoded))
        if len(fresh):
            encoded += self._applied(claim, decoded, fresh, scored, shadow)
        return encoded

    def _applied(
        self,
        claim: Claim,
        decoded: DecodedTransactions,
        fresh: npt.NDArray[np.intp],
        scored: ScoredRows,
        shadow: ShadowRows | None,
    ) -> list[EncodedRows]:
        count = len(fresh)
        take = _taker(fresh, len(decoded))
        key = self._key(claim, decoded.recorded_at[fresh], decoded.offset[fresh])
        event_id, account_id = SharedTexts(take(decoded.event_id)), SharedTexts(take(decoded.account_id))
        occurred_at = decoded.occurred_at[fresh]
        transactions = {
            **key,
            "event_id": event_id,
            "account_id": account_id,
            "merchant_id": take(decoded.merchant_id),
            "occurred_at": occurred_at,
            "recorded_at": decoded.recorded_at[fresh],
            "amount_e4": decoded.amount_e4[fresh],
            "currency": take(decoded.currency),
            "channel": take(decoded.channel),
            "country": take(decoded.country),
            "category": take(decoded.category),
            "memo": take(decoded.memo),
            "extra": take(decoded.extra),
        }
        shared = {
            **key,
            "event_id": event_id,
            "account_id": account_id,
            "occurred_at": occurred_at,
            "scored_at": scored.scored_at,
        }
        predictions = {
            **shared,
            **_said(scored, fresh),
            "alert_id": take(scored.alert_id),
            "unexplained": scored.unexplained[fresh],
        }
        encoded = [
            encode_rows(self._dialect, tables.Transaction, transactions, count),
            encode_rows(self._dialect, tables.Prediction, predictions, count),
        ]
        if shadow is not None:
            beside = {**shared, **_said(shadow, fresh)}
            encoded.append(encode_rows(self._dialect, tables.ShadowPrediction, beside, count))
        return encoded

    def dead_letters(self, claim: Claim, dead: Sequence[DeadRecord]) -> list[EncodedRows]:
        if not dead:
            return []
        columns = {
            **self._key(
                claim,
                np.array([letter.recorded_at for letter in dead], np.int64),
                np.array([letter.offset for letter in dead], np.int64),
            ),
            "topic": claim.topic,
            "recorded_at": np.array([letter.recorded_at for letter in dead], np.int64),
            "error_code": [letter.code for letter in dead],
            "error_message": [_printable(letter.message) for letter in dead],
            "record_key": [_kept(letter, letter.key) for letter in dead],
            "payload": [_kept(letter, letter.value) for letter in dead],
            "payload_bytes": np.array([len(letter.value or b"") for letter in dead], np.int64),
            "sha256": [None if letter.value is None else sha256(letter.value).hexdigest() for letter in dead],
        }
        return [encode_rows(self._dialect, tables.DeadLetter, columns, len(dead))]

    def feedback(self, claim: Claim, decoded: DecodedFeedback, duplicate: npt.NDArray[np.bool_]) -> list[EncodedRows]:
        """Rows of `feedback` (all pending; the join follows in the same transaction) and of `duplicates`."""
        encoded: list[EncodedRows] = []
        repeated, fresh = np.flatnonzero(duplicate), np.flatnonzero(~duplicate)
        if len(repeated):
            columns = {
                **self._key(claim, decoded.recorded_at[repeated], decoded.offset[repeated]),
                "event_id": [decoded.messages[row].feedback_id for row in repeated],
                "entity_id": [decoded.entity_id[row] for row in repeated],
                "occurred_at": decoded.given_at[repeated],
                "recorded_at": decoded.recorded_at[repeated],
            }
            encoded.append(encode_rows(self._dialect, tables.Duplicate, columns, len(repeated)))
        if len(fresh):
            messages = [decoded.messages[row] for row in fresh]
            names = (
                "feedback_id",
                "kind",
                "event_id",
                "alert_id",
                "recommendation_id",
                "label",
                "item_id",
                "source",
            )
            columns = {
                **self._key(claim, decoded.recorded_at[fresh], decoded.offset[fresh]),
                **{name: [getattr(message, name) for message in messages] for name in names},
                "given_at": decoded.given_at[fresh],
                "recorded_at": decoded.recorded_at[fresh],
                "value": [message.value for message in messages],
                "entity_id": [decoded.entity_id[row] for row in fresh],
                "status": "pending",
                "extra": [decoded.extra[row] for row in fresh],
            }
            encoded.append(encode_rows(self._dialect, tables.Feedback, columns, len(fresh)))
        return encoded

    def _key(
        self, claim: Claim, recorded_at: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
    ) -> dict[str, object]:
        return {
            "day": recorded_at // MILLISECONDS_A_DAY,
            "topic_generation": claim.topic_generation,
            "source_partition": claim.partition,
            "source_offset": offset,
        }


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


def _kept(letter: DeadRecord, part: bytes | None) -> bytes | None:
    return part[:KEPT_BYTES] if part and letter.code == "too_large" else part


def _said(scored: ScoredRows | ShadowRows, rows: npt.NDArray[np.intp]) -> dict[str, Any]:
    """The columns that predictions and shadow predictions have in common."""
    return {
        "score": scored.score[rows],
        "threshold": scored.threshold,
        "flagged": scored.flagged[rows],
        "score_kind": scored.score_kind,
        "model": scored.model,
    }


def _taker(rows: npt.NDArray[np.intp], total: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Picks the rows out of a list column; all of them at no cost."""
    if len(rows) == total:
        return lambda column: column
    return lambda column: [column[row] for row in rows]


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _printable(text: str) -> str:
    """Error messages quote the record; what SQL cannot store in them is replaced."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:1000]
