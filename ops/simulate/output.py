"""Simulated transactions and their labels as CSV or Parquet, in the contract's columns.

The suffix decides the format. Rows are converted and written in slices, so memory holds codes rather than texts. A
file appears under its name when it is complete.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ops.simulate.cards import CURRENCY, BadSimulation, Progress, SimulatedTransactions
from ops.simulate.ids import Characters, numbered_matrix, time_matrix
from ops.simulate.labels import FRAUD, LEGITIMATE, Labels
from ops.simulate.payments import CHANNELS, HONEST, MEMOS
from ops.simulate.population import CATEGORY_NAMES, COUNTRIES
from ops.simulate.scenarios import SCENARIO_NAMES

ROWS_A_SLICE = 250_000
SUFFIXES = (".csv", ".parquet")
TIME = pa.timestamp("ms", "UTC")
NAMES = pa.dictionary(pa.int32(), pa.string())
#: Takes some rows: columns by name; int64 arrays are times.
WriteColumns = Callable[[dict[str, Any]], None]

TRANSACTION_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("occurred_at", TIME, nullable=False),
        pa.field("account_id", NAMES, nullable=False),
        pa.field("merchant_id", NAMES, nullable=False),
        pa.field("amount", pa.float64(), nullable=False),
        pa.field("currency", NAMES, nullable=False),
        pa.field("channel", NAMES),
        pa.field("country", NAMES),
        pa.field("category", NAMES),
        pa.field("memo", NAMES),
    ]
)
LABEL_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("label", NAMES, nullable=False),
        pa.field("scenario", NAMES),
        pa.field("given_at", TIME, nullable=False),
    ]
)


def write_transactions(path: Path, transactions: SimulatedTransactions, progress: Progress | None = None) -> None:
    """Raises BadSimulation for another suffix and where the file cannot be written."""
    people = transactions.population
    dictionaries = {
        "account_id": pa.array(people.account_ids),
        "merchant_id": pa.array(people.merchant_ids),
        "currency": pa.array([CURRENCY]),
        "channel": pa.array(CHANNELS),
        "country": pa.array(COUNTRIES),
        "category": pa.array(CATEGORY_NAMES),
        "memo": pa.array(MEMOS),
    }
    with table_file(path, TRANSACTION_SCHEMA) as write:
        for rows in slices(len(transactions)):
            part = transactions.rows(rows)
            codes: dict[str, npt.NDArray[Any]] = {
                "account_id": part.payments.account,
                "merchant_id": part.payments.merchant,
                "currency": np.zeros(len(part), np.int8),
                "channel": part.payments.channel,
                "country": part.country,
                "category": part.category,
                "memo": part.payments.memo,
            }
            columns = {name: named_column(code, dictionaries[name]) for name, code in codes.items()}
            columns["event_id"] = text_column(numbered_matrix(part.id_prefix, part.number))
            columns["occurred_at"] = part.occurred_at
            columns["amount"] = pa.array(part.amount)
            write(columns)
            if progress:
                progress("write", rows.stop / len(transactions))


def write_labels(path: Path, labels: Labels) -> None:
    """event_id, label, scenario, given_at. Raises as write_transactions."""
    kinds, scenarios = pa.array([LEGITIMATE, FRAUD]), pa.array(SCENARIO_NAMES)
    with table_file(path, LABEL_SCHEMA) as write:
        for rows in slices(len(labels)):
            part = labels.take(rows)
            write(
                {
                    "event_id": text_column(numbered_matrix(part.id_prefix, part.number)),
                    "label": named_column((part.scenario != HONEST).astype(np.int8), kinds),
                    "scenario": named_column(part.scenario, scenarios),
                    "given_at": part.given_at,
                }
            )


def write_table(path: Path, table: pa.Table) -> None:
    """A whole table of columns as they are; times as RFC 3339 in CSV. Raises as write_transactions."""
    check_path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        if path.suffix == ".parquet":
            pa.parquet.write_table(table, unfinished, compression="zstd")
        else:
            pa.csv.write_csv(table, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_path(path: Path) -> None:
    """Before any work is done: raises BadSimulation."""
    if path.suffix not in SUFFIXES:
        raise BadSimulation(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise BadSimulation(f"the folder of {path} does not exist")
    if path.is_dir():
        raise BadSimulation(f"{path} is a folder")


@contextmanager
def table_file(path: Path, schema: pa.Schema) -> Iterator[WriteColumns]:
    """A file that appears under its name when the block ends well. Raises BadSimulation."""
    check_path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        with _parquet(unfinished, schema) if path.suffix == ".parquet" else _csv(unfinished, schema) as write:
            yield write
        os.replace(unfinished, path)
    except OSError as error:
        raise BadSimulation(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # whatever went wrong before says more
            unfinished.unlink()


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[WriteColumns]:
    named = [field.name for field in schema if field.type == NAMES]
    with pa.parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=named) as writer:

        def write(columns: dict[str, Any]) -> None:
            times = {name: pa.array(column, TIME) for name, column in columns.items() if _is_times(column)}
            writer.write_table(pa.table({**columns, **times}, schema=schema))

        yield write


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[WriteColumns]:
    """Times as RFC 3339. No text of ours needs quotes; Arrow refuses one that would."""
    plain = pa.schema([(f.name, pa.string() if f.type in (NAMES, TIME) else f.type) for f in schema])
    options = pa.csv.WriteOptions(quoting_style="none")
    with pa.csv.CSVWriter(path, plain, write_options=options) as writer:

        def write(columns: dict[str, Any]) -> None:
            times = {name: text_column(time_matrix(column)) for name, column in columns.items() if _is_times(column)}
            table = pa.table({**columns, **times}, schema=None).select(plain.names)
            writer.write_table(table.cast(plain))

        yield write


def _is_times(column: Any) -> bool:
    return isinstance(column, np.ndarray)


def named_column(codes: npt.NDArray[Any], dictionary: pa.Array) -> pa.DictionaryArray:
    """-1 is null."""
    missing = codes < 0
    mask = missing if missing.any() else None
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=mask), dictionary)


def text_column(matrix: Characters) -> pa.Array:
    """One text per row, without a Python object each."""
    count, width = matrix.shape
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(width)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(matrix))


def slices(count: int) -> Iterator[slice]:
    for first in range(0, count, ROWS_A_SLICE):
        yield slice(first, min(first + ROWS_A_SLICE, count))
