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
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models.events import MILLISECONDS_A_DAY, Events
from models.labels import Entities, LabelledHistory, Numbering, Times, milliseconds, training_labels
from storage.database import Database
from storage.training_data import HistoryCut, history_cut, labelled_entities, labelled_transactions
from streams.recovery import stored_events

REQUIRED_COLUMNS = ("event_id", "occurred_at", "account_id", "merchant_id", "amount")
LABEL_CODES = {"fraud": 1, "legitimate": 0}
OPTIONAL_COLUMNS = ("channel", "country", "category", "memo")
#: As in Parquet: ids and texts are texts, whatever they look like, and an empty one is missing.
CSV_CONVERSION = pa.csv.ConvertOptions(
    column_types={
        name: pa.string() for name in ("event_id", "account_id", "merchant_id", "label", "currency", *OPTIONAL_COLUMNS)
    },
    null_values=[""],
    strings_can_be_null=True,
)


class UnreadableHistory(Exception):
    """The file of transactions or labels cannot be used; the message says why."""


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
    now: datetime,
    label_horizon: timedelta,
    cut: HistoryCut | None = None,
    progress: Callable[[], None] = lambda: None,
) -> StoredHistory:
    """What is stored by now, or what was at the moment of a cut. progress is called after each batch of rows."""
    accounts, merchants = Numbering(), Numbering()
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    with database.reading() as connection:
        cut = cut or history_cut(connection, now)
        for found in labelled_entities(connection, cut=cut):
            numbers = accounts.of(found.account_id), merchants.of(found.merchant_id)
            parts.append((found.occurred_at, found.label, found.given_at, *numbers))
            progress()
    none = np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.int64), *[np.zeros(0, np.int32)] * 2
    columns = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    occurred_at, known, given_at, account, merchant = columns
    return StoredHistory(
        database=database,
        rates=rates,
        cut=cut,
        occurred_at=occurred_at,
        labels=training_labels(occurred_at, known, now=_milliseconds(cut.until), horizon=label_horizon),
        known_at=np.maximum(occurred_at + milliseconds(label_horizon), given_at),
        horizon=milliseconds(label_horizon),
        accounts=Entities(account, accounts.names),
        merchants=Entities(merchant, merchants.names),
    )


def history_from_files(
    transactions: Path, labels: Path | None, rates: Mapping[str, float], *, label_horizon: timedelta
) -> LabelledHistory:
    """CSV or Parquet in the contract's columns. The labels file (event_id, label) may hold frauds only. The last event
    is taken as now; without labels nothing is known. Raises UnreadableHistory."""
    table = _read_table(transactions, REQUIRED_COLUMNS)
    incomplete = [name for name in REQUIRED_COLUMNS if table[name].null_count]
    if incomplete:
        raise UnreadableHistory(f"{transactions} has rows without {', '.join(incomplete)}")
    table = _cast(table, transactions, "occurred_at", pa.timestamp("ms", "UTC"))
    table = _cast(table, transactions, "amount", pa.float64())
    order = np.argsort(_times(table), kind="stable")
    table = table.take(pa.array(order))
    events = _events(table, rates)
    if not (np.isfinite(events.amount) & (events.amount >= 0)).all():
        raise UnreadableHistory(f"{transactions} has amounts that are negative or no numbers")
    known = np.full(len(events), -1, np.int8)
    if labels is not None:
        names = _read_table(labels, ("event_id", "label"))
        by_id = dict(zip(names["event_id"].to_pylist(), names["label"].to_pylist(), strict=True))
        strange = sorted({str(label) for label in by_id.values()} - LABEL_CODES.keys())
        if strange:
            raise UnreadableHistory(f"{labels} has labels other than fraud and legitimate: {', '.join(strange[:5])}")
        codes = {event_id: LABEL_CODES[label] for event_id, label in by_id.items()}
        known = np.fromiter((codes.get(event_id, -1) for event_id in events.event_id), np.int8, len(events))
        now = int(events.occurred_at[-1]) + 1 if len(events) else 0
        return LabelledHistory.of(events, known, now=now, horizon=label_horizon)
    return LabelledHistory.matured(events, known, label_horizon)


def _read_table(path: Path, required: tuple[str, ...]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
        else:
            table = pa.csv.read_csv(path, convert_options=CSV_CONVERSION)
    except (OSError, pa.ArrowInvalid) as error:
        raise UnreadableHistory(f"cannot read {path}: {error}") from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise UnreadableHistory(f"{path} lacks the columns {', '.join(missing)}")
    return table


def _cast(table: pa.Table, path: Path, name: str, kind: pa.DataType) -> pa.Table:
    """The table with a column of another type, an unusable value refused. Times without a zone are in UTC."""
    try:
        column = table[name].cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UnreadableHistory(f"{path} has a column {name} that cannot be read: {error}") from error
    return table.set_column(table.column_names.index(name), name, column)


def _times(table: pa.Table) -> npt.NDArray[np.int64]:
    """Epoch milliseconds."""
    return np.asarray(table["occurred_at"].cast(pa.int64()).to_numpy(), np.int64)


def _events(table: pa.Table, rates: Mapping[str, float]) -> Events:
    """A currency without a rate counts one to one, as when live."""
    count = table.num_rows
    amount = np.asarray(table["amount"].to_numpy(), np.float64)
    if rates and "currency" in table.column_names:
        amount = amount * np.array([rates.get(currency, 1.0) for currency in table["currency"].to_pylist()])
    optional = {
        name: table[name].to_pylist() if name in table.column_names else [None] * count for name in OPTIONAL_COLUMNS
    }
    occurred_at = _times(table)
    return Events(
        partition=np.zeros(count, np.int32),
        offset=np.arange(count, dtype=np.int64),
        day=(occurred_at // MILLISECONDS_A_DAY).astype(np.int32),
        event_id=table["event_id"].to_pylist(),
        occurred_at=occurred_at,
        account_id=table["account_id"].to_pylist(),
        merchant_id=table["merchant_id"].to_pylist(),
        amount=amount,
        **optional,
    )


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
