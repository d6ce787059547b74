"""A history from files, CSV or Parquet in the contract's columns: transactions, and labels by event_id."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models.data_figures import LabelFile
from models.data_profile import Observed
from models.events import MILLISECONDS_A_DAY, Events
from models.labels import LabelledHistory
from streams.pseudonyms import Pseudonyms

REQUIRED_COLUMNS = ("event_id", "occurred_at", "account_id", "merchant_id", "amount")
LABEL_CODES = {"fraud": 1, "legitimate": 0}
OPTIONAL_COLUMNS = ("channel", "country", "category", "memo")
TIME = pa.timestamp("ms", "UTC")
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


@dataclass(frozen=True, slots=True)
class FiledHistory:
    """What files say, in the order of time. labels: what joining their file showed, None without one."""

    observed: Observed
    labels: LabelFile | None

    @property
    def now(self) -> int:
        """Epoch milliseconds: the last event is taken as now."""
        times = self.observed.events.occurred_at
        return int(times[-1]) + 1 if len(times) else 0

    def history(self, label_horizon: timedelta) -> LabelledHistory:
        """Without labels nothing is known; with them, what is old enough and has none is legitimate."""
        events, known = self.observed.events, self.observed.known
        if self.labels is None:
            return LabelledHistory.matured(events, known, label_horizon)
        return LabelledHistory.of(events, known, now=self.now, horizon=label_horizon)


def read_files(
    transactions: Path, labels: Path | None, rates: Mapping[str, float], pseudonyms: Pseudonyms | None = None
) -> FiledHistory:
    """The labels file (event_id, label, and given_at where it is known) may hold frauds only. pseudonyms: so that a
    model reads what it will read live. Raises UnreadableHistory."""
    table = _read_table(transactions, REQUIRED_COLUMNS)
    incomplete = [name for name in REQUIRED_COLUMNS if table[name].null_count]
    if incomplete:
        raise UnreadableHistory(f"{transactions} has rows without {', '.join(incomplete)}")
    table = _cast(table, transactions, "occurred_at", TIME)
    table = _cast(table, transactions, "amount", pa.float64())
    table = table.take(pa.array(np.argsort(_times(table, "occurred_at"), kind="stable")))
    events = _events(table, rates)
    if pseudonyms is not None:
        accounts, memos = pseudonyms.of_all(events.account_id), pseudonyms.of_memos(events.memo)
        events = replace(events, account_id=accounts, memo=memos)
    if not (np.isfinite(events.amount) & (events.amount >= 0)).all():
        raise UnreadableHistory(f"{transactions} has amounts that are negative or no numbers")
    currency = table["currency"].to_pylist() if "currency" in table.column_names else [None] * len(events)
    if labels is None:
        nothing = np.full(len(events), -1, np.int8), np.zeros(len(events), np.int64)
        return FiledHistory(Observed(events, *nothing, currency), None)
    known, given_at, file = _labels_of(labels, events)
    return FiledHistory(Observed(events, known, given_at, currency), file)


def _labels_of(path: Path, events: Events) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], LabelFile]:
    """Of each event its label, -1 for none, and when it was given, 0 for unknown. Of several the last one counts."""
    table = _read_table(path, ("event_id", "label"))
    ids, said = table["event_id"].to_pylist(), table["label"].to_pylist()
    strange = sorted({str(label) for label in set(said)} - LABEL_CODES.keys())
    if strange:
        raise UnreadableHistory(f"{path} has labels other than fraud and legitimate: {', '.join(strange[:5])}")
    given_at = np.zeros(len(ids), np.int64)
    if "given_at" in table.column_names:
        given_at = _times(_cast(table, path, "given_at", TIME), "given_at")
    row_of = dict(zip(ids, range(len(ids)), strict=True))
    rows = np.fromiter((row_of.get(event_id, -1) for event_id in events.event_id), np.int64, len(events))
    codes = np.array([LABEL_CODES[label] for label in said], np.int8)
    known = np.where(rows >= 0, np.append(codes, -1)[rows], -1).astype(np.int8)
    unmatched = len(row_of.keys() - set(events.event_id))
    conflicting = len(set(zip(ids, said, strict=True))) - len(row_of)
    return known, np.where(rows >= 0, np.append(given_at, 0)[rows], 0), LabelFile(len(row_of), unmatched, conflicting)


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


def _times(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Epoch milliseconds, 0 for a missing one."""
    return np.asarray(table[name].cast(pa.int64()).fill_null(0).to_numpy(), np.int64)


def _events(table: pa.Table, rates: Mapping[str, float]) -> Events:
    """A currency without a rate counts one to one, as when live."""
    count = table.num_rows
    amount = np.asarray(table["amount"].to_numpy(), np.float64)
    if rates and "currency" in table.column_names:
        amount = amount * np.array([rates.get(currency, 1.0) for currency in table["currency"].to_pylist()])
    optional = {
        name: table[name].to_pylist() if name in table.column_names else [None] * count for name in OPTIONAL_COLUMNS
    }
    occurred_at = _times(table, "occurred_at")
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
