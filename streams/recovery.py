"""State of a partition that was just claimed, read back from SQL.

The detector's state is the fold of the partition's stored transactions in offset order, up to SQL's next offset, or of
those that follow a snapshot; open alerts are the alerts table's latest revisions. Nothing is emitted on the way.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from sqlalchemy import Connection

from models.events import Events
from models.explain import Reason
from storage.alert_history import StoredAlert, judged_alerts, next_alert_sequence, open_alerts
from storage.database import Database
from storage.partition_counts import count_of
from storage.progress import Claim, Control, latest_control
from storage.score_sketches import ScoredColumns, counted_until, predictions_between
from storage.training_data import TransactionColumns, stored_transactions
from streams.alerts import AlertRevision
from streams.decode import base_currency_amounts
from streams.patience import Wait, patiently
from streams.records import MILLISECONDS_A_DAY
from streams.rescaled import ROWS_AT_ONCE, ReadStored, Stored, beginning, since_rescale

Found = TypeVar("Found")

#: Far more offsets than a worker leaves uncounted (streams/score_counting.py). Of a log that was scored before scores
#: were counted, only the end counts.
MOST_RECOUNTED = 500_000


class PartitionSource:
    """Reads what the compute thread needs of SQL, over connections of its own; `wait` is called while the database
    is away."""

    def __init__(self, database: Database, rates: Mapping[str, float], wait: Wait) -> None:
        self._database = database
        self._rates = rates
        self._wait = wait

    def patiently(self, read: Callable[[], Found]) -> Found:
        """For reads of `transactions` and `alerts`, whose caller has to begin again with them."""
        return patiently(read, self._wait)

    def transactions(self, claim: Claim, from_offset: int) -> Iterator[Events]:
        """What the partition's state is folded from beyond an offset, in order: its stored transactions before the
        claim's next offset. From 0 on, where the topic was rescaled, those of other partitions come before them."""
        with self._database.reading() as connection:
            begin = beginning(claim, count_of(connection, claim))
            stored = self._stored(connection, claim)
            if from_offset == 0 and begin is not None and begin.has_others(stored):
                for numbers, events in begin.rows(stored, Events.concatenate):
                    partition = np.full(len(events), claim.partition, np.int32)
                    yield replace(events, partition=partition, offset=numbers)
                from_offset = begin.boundary
            for columns in stored_transactions(
                connection,
                topic_generation=claim.topic_generation,
                partition=claim.partition,
                from_offset=from_offset,
                before_offset=claim.next_offset,
            ):
                yield stored_events(columns, self._rates)

    def _stored(self, connection: Connection, claim: Claim) -> ReadStored[Events]:
        def stored(partition: int, before_offset: int) -> Iterator[Stored[Events]]:
            for columns in stored_transactions(
                connection,
                topic_generation=claim.topic_generation,
                partition=partition,
                before_offset=before_offset,
                batch_rows=ROWS_AT_ONCE,
            ):
                yield columns.recorded_at, columns.account_id, stored_events(columns, self._rates)

        return stored

    def control(self, claim: Claim, name: str) -> Control | None:
        """What the partition used last of something from outside its log, and from which offset on: not before the
        latest rescale, from which every state goes on with its ring alone."""
        with self._database.reading() as connection:
            control = latest_control(connection, claim.topic_generation, claim.partition, name)
            return since_rescale(control, beginning(claim, count_of(connection, claim)))

    def alerts(self, claim: Claim) -> tuple[int, list[AlertRevision]]:
        """The partition's next alert sequence and its open alerts."""
        with self._database.reading() as connection:
            following = next_alert_sequence(connection, claim.topic_generation, claim.partition)
            rows = open_alerts(connection, claim.topic_generation, claim.partition)
        return following, [alert_revision(row) for row in rows]

    def uncounted(self, claim: Claim) -> dict[str, ScoredColumns]:
        """Model -> its predictions on the partition that the sketches of scores do not count yet."""
        with self._database.reading() as connection:
            counted = counted_until(connection, claim.topic_generation, claim.partition) or 0
            begin = max(counted, claim.next_offset - MOST_RECOUNTED)
            return predictions_between(connection, claim.topic_generation, claim.partition, begin, claim.next_offset)

    def judged(self, alert_ids: Sequence[str]) -> set[str]:
        """Those alerts that a label has been given to, or to one of their events."""

        def read() -> set[str]:
            with self._database.reading() as connection:
                return judged_alerts(connection, alert_ids)

        return self.patiently(read)


def stored_events(columns: TransactionColumns, rates: Mapping[str, float]) -> Events:
    return Events(
        partition=columns.source_partition,
        offset=columns.source_offset,
        day=(columns.recorded_at // MILLISECONDS_A_DAY).astype(np.int32),
        event_id=columns.event_id,
        occurred_at=columns.occurred_at,
        account_id=columns.account_id,
        merchant_id=columns.merchant_id,
        amount=base_currency_amounts(columns.amount_e4, columns.currency, rates),
        channel=columns.channel,
        country=columns.country,
        category=columns.category,
        memo=columns.memo,
    )


def alert_revision(row: StoredAlert) -> AlertRevision:
    return AlertRevision(
        alert_id=row.alert_id,
        revision=row.revision,
        sequence=row.sequence,
        offset=row.source_offset,
        status=row.status,
        closed_by=row.closed_by,
        event_ids=tuple(row.event_ids),
        account_id=row.account_id,
        occurred_at=round(row.occurred_at.timestamp() * 1000),
        scored_at=round(row.scored_at.timestamp() * 1000),
        score=row.score,
        score_kind=row.score_kind,
        threshold=row.threshold,
        severity=row.severity,
        amount_at_risk=row.amount_at_risk,
        model=row.model,
        reasons=tuple(Reason(**reason) for reason in row.reasons),
        positions=None,
    )
