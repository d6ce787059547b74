"""Histories for training: stored transactions with their newest labels from SQL, or files in the contract's columns.

An event older than the label horizon without a label counts as legitimate; a younger one teaches only the
self-supervised head (models/labels.py).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.data_profile import Observed
from models.events import Events
from models.labels import Entities, LabelledHistory, Numbering, Times, milliseconds, training_labels
from ops.jobs.history_files import read_files
from storage.database import Database
from storage.training_data import HistoryCut, LabelledColumns, labelled_transactions
from streams.pseudonyms import Pseudonyms
from streams.recovery import stored_events


class HistoryChanged(Exception):
    """Stored transactions of the history are gone, or have another time than before."""


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """A history in SQL, read again from a cursor of its own for each pass; about 30 bytes an event are in memory. The
    cut keeps out what came since the first look."""

    database: Database
    rates: Mapping[str, float]
    cut: HistoryCut
    occurred_at: Times
    labels: npt.NDArray[np.int8]
    known_at: Times
    horizon: int
    accounts: Entities
    merchants: Entities

    def __len__(self) -> int:
        return len(self.occurred_at)

    def batches(self, first: int = 0) -> Iterator[Events]:
        """Raises HistoryChanged, DatabaseUnavailable."""
        if first >= len(self):
            return
        begin = int(self.occurred_at[first])
        at = int(np.searchsorted(self.occurred_at, begin, "left"))
        since = datetime.fromtimestamp(begin / 1000, UTC) if first else None
        with self.database.reading() as connection:
            for columns in labelled_transactions(connection, since=since, cut=self.cut):
                events = stored_events(columns.transactions, self.rates)
                rows = np.arange(max(first - at, 0), min(len(events), len(self) - at))
                if not np.array_equal(self.occurred_at[at : at + len(events)], events.occurred_at[: len(self) - at]):
                    raise HistoryChanged("the stored transactions changed while they were read")
                at += len(events)
                if len(rows):
                    yield events if len(rows) == len(events) else events.take(rows)
                if at >= len(self):
                    return
        raise HistoryChanged(f"{len(self) - at} of the stored transactions are gone")

    def first(self, count: int) -> "StoredHistory":
        return replace(
            self,
            occurred_at=self.occurred_at[:count],
            labels=self.labels[:count],
            known_at=self.known_at[:count],
            accounts=self.accounts.first(count),
            merchants=self.merchants.first(count),
        )


def history_from_database(
    database: Database,
    rates: Mapping[str, float],
    *,
    label_horizon: timedelta,
    cut: HistoryCut,
    watch: Callable[[Observed], None] = lambda observed: None,
) -> StoredHistory:
    """What was stored at the moment of a cut. watch sees all of it, batch after batch."""
    accounts, merchants = Numbering(), Numbering()
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    with database.reading() as connection:
        for found in labelled_transactions(connection, since=None, cut=cut):
            rows = found.transactions
            numbers = accounts.of(rows.account_id), merchants.of(rows.merchant_id)
            parts.append((rows.occurred_at, found.label, found.given_at, *numbers))
            watch(observed_of(found, rates))
    none = np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.int64), *[np.zeros(0, np.int32)] * 2
    columns = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    occurred_at, known, given_at, account, merchant = columns
    return StoredHistory(
        database=database,
        rates=rates,
        cut=cut,
        occurred_at=occurred_at,
        labels=training_labels(occurred_at, known, now=epoch_milliseconds(cut.until), horizon=label_horizon),
        known_at=np.maximum(occurred_at + milliseconds(label_horizon), given_at),
        horizon=milliseconds(label_horizon),
        accounts=Entities(account, accounts.names),
        merchants=Entities(merchant, merchants.names),
    )


def history_from_files(
    transactions: Path,
    labels: Path | None,
    rates: Mapping[str, float],
    pseudonyms: Pseudonyms | None = None,
    *,
    label_horizon: timedelta,
) -> LabelledHistory:
    """As files say (history_files.py). Raises UnreadableHistory."""
    return read_files(transactions, labels, rates, pseudonyms).history(label_horizon)


def observed_of(found: LabelledColumns, rates: Mapping[str, float]) -> Observed:
    rows = found.transactions
    return Observed(stored_events(rows, rates), found.label, found.given_at, rows.currency)


def epoch_milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
