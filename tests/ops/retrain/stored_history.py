"""A simulated history in SQL as the flow leaves it: transactions, and the labels of frauds, joined."""

import numpy as np
import numpy.typing as npt

from models.events import Events
from storage import tables
from storage.bulk import encode_rows, write_rows
from storage.database import Database

DAY = 86_400_000


def store(database: Database, events: Events, labels: npt.NDArray[np.int8]) -> None:
    """Offsets go on from what is stored. A label comes a day after its event and is joined at once; legitimate events
    get none."""
    frauds = np.flatnonzero(labels == 1)
    with database.begin() as connection:
        first = int(connection.exec_driver_sql("SELECT count(*) FROM transactions").scalar_one())
        offsets = first + np.arange(len(events))
        transactions = {
            **log_key(events.occurred_at, offsets),
            "event_id": list(events.event_id),
            "account_id": list(events.account_id),
            "merchant_id": list(events.merchant_id),
            "occurred_at": events.occurred_at,
            "recorded_at": events.occurred_at,
            "amount_e4": np.round(events.amount * 10_000).astype(np.int64),
            "currency": "EUR",
            "channel": list(events.channel),
            "country": list(events.country),
            "category": list(events.category),
            "memo": list(events.memo),
        }
        given_at = events.occurred_at[frauds] + DAY
        feedback = {
            **log_key(given_at, offsets[frauds]),
            "feedback_id": [f"label of {events.event_id[row]}" for row in frauds],
            "given_at": given_at,
            "recorded_at": given_at,
            "joined_at": given_at,
            "kind": "label",
            "event_id": [events.event_id[row] for row in frauds],
            "label": "fraud",
            "source": "chargeback",
            "entity_id": [events.account_id[row] for row in frauds],
            "status": "joined",
        }
        dialect = database.dialect
        write_rows(connection, [encode_rows(dialect, tables.Transaction, transactions, len(events))])
        write_rows(connection, [encode_rows(dialect, tables.Feedback, feedback, len(frauds))])


def log_key(times: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> dict[str, object]:
    """Of generation 1, partition 0."""
    day = (times // DAY).astype(np.int32)
    return {"day": day, "topic_generation": 1, "source_partition": 0, "source_offset": offsets}
