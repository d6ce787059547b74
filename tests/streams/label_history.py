"""A history in SQL as workers store it, with labels, for the tests of what labels say of merchants."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import insert, text

from storage import tables
from storage.database import Database

HOUR, DAY = 3_600_000, 86_400_000
#: A full hour, in epoch milliseconds.
BEGIN = 1_760_000_400_000 // HOUR * HOUR
HORIZON = timedelta(days=7)


def moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


@dataclass(frozen=True, slots=True)
class Payment:
    """at: epoch milliseconds."""

    name: str
    at: int
    merchant: str = "m1"
    unexplained: float | None = 1.0


@dataclass(slots=True)
class LabelHistory:
    """Stores payments in two partitions and labels as joined, each call in a transaction of its own."""

    database: Database
    _next: dict[int, int] = field(default_factory=dict)
    _feedback: "count[int]" = field(default_factory=count)

    def store(self, payments: Sequence[Payment], *, alert_id: str | None = None) -> None:
        transactions, predictions = [], []
        for payment in payments:
            partition = sum(payment.name.encode()) % 2
            offset = self._next.get(partition, 0)
            self._next[partition] = offset + 1
            shared = {
                "day": date(2026, 1, 1) + timedelta(days=offset % 3),
                "topic_generation": 3,
                "source_partition": partition,
                "source_offset": offset,
                "event_id": payment.name,
                "account_id": "a1",
                "occurred_at": moment(payment.at),
            }
            own = {"recorded_at": moment(payment.at), "amount_e4": 10_000, "currency": "EUR"}
            transactions.append(shared | own | {"merchant_id": payment.merchant})
            predictions.append(
                shared
                | {"scored_at": moment(payment.at), "score": 0.5, "threshold": 0.5, "flagged": alert_id is not None}
                | {"score_kind": "probability", "model": "fraud:1", "alert_id": alert_id}
                | {"unexplained": payment.unexplained}
            )
        with self.database.begin() as connection:
            connection.execute(insert(tables.Transaction), transactions)
            connection.execute(insert(tables.Prediction), predictions)
            for partition, position in self._next.items():
                connection.execute(text("DELETE FROM stream_progress WHERE partition = :p"), {"p": partition})
                connection.execute(insert(tables.StreamProgress), _progress(partition, position))

    def label(self, event_id: str | None, label: str, given_at: int, **more: Any) -> None:
        """A joined label; more: other columns."""
        number = next(self._feedback)
        row = {
            "topic_generation": 4,
            "source_partition": 0,
            "source_offset": number,
            "day": date(2026, 1, 1),
            "feedback_id": f"f{number:06}",
            "given_at": moment(given_at),
            "recorded_at": moment(given_at),
            "kind": "label",
            "event_id": event_id,
            "label": label,
            "entity_id": "a1",
            "status": "joined",
            "joined_at": moment(given_at),
        }
        with self.database.begin() as connection:
            connection.execute(insert(tables.Feedback), row | more)


def _progress(partition: int, position: int) -> dict[str, Any]:
    return {
        "topic_generation": 3,
        "partition": partition,
        "topic": "transactions",
        "topic_uuid": "uuid-1",
        "epoch": 1,
        "owner": "w",
        "start_offset": 0,
        "next_offset": position,
        "applied": position,
        "duplicates": 0,
        "dead_letters": 0,
        "gaps": 0,
        "updated_at": moment(BEGIN),
    }
