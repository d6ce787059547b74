"""Many rows at once: binary COPY on PostgreSQL, executemany on SQLite. The hot write path; no ORM, no row objects.

Columns go in as arrays and lists; they are encoded once, may be kept, and can be sent any number of times without
being computed again (streams/commit.py sends the same bytes after a lost connection).

PostgreSQL's binary COPY format: per row a field count (int16), per field a length (int32, -1 for NULL) and that
many bytes, big-endian; PostgreSQL documentation, "COPY", section "Binary Format". The fixed-width fields of a row are
one record of a numpy struct dtype; the texts follow as ready pieces, joined in one go.
"""

import functools
import itertools
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Connection,
    Date,
    Double,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)

from storage.tables import Base, UtcTimestamp

#: An array, a list, or one value for all rows. Timestamps are epoch milliseconds, dates days since 1970, JSON is
#: encoded bytes.
Column = npt.NDArray[Any] | Sequence[Any] | int | float | bool | str | bytes | None

COPY_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)
NULL = struct.pack(">i", -1)
EPOCH_2000_DAYS = 10_957
EPOCH_2000_MILLISECONDS = EPOCH_2000_DAYS * 86_400_000
#: Texts that recur are encoded once; the cache is emptied when it grows past this.
CACHED_PIECES = 50_000
LOW_CARDINALITY = frozenset(
    {"currency", "channel", "country", "category", "merchant_id", "model", "source", "action", "policy"}
)


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of one table, ready to send. `payload` is bytes (COPY) or a list of tuples (executemany)."""

    table: Table
    columns: tuple[str, ...]
    rows: int
    payload: Any


def encode_rows(dialect: str, model: type[Base], columns: Mapping[str, Any], rows: int) -> EncodedRows:
    """Rows of one of the tables; columns that are not given are NULL.

    Raises ValueError for a column of another length, TypeError and OverflowError for numbers that do not fit.
    """
    table: Table = model.__table__  # type: ignore[assignment]
    for name, values in columns.items():
        _refuse_what_does_not_fit(table, name, values, rows)
    encode = _encode_copy if dialect == "postgresql" else _encode_tuples
    return encode(table, columns, rows)


def write_rows(connection: Connection, encoded: Sequence[EncodedRows]) -> None:
    """Writes all rows in the caller's transaction, a table at a time."""
    grouped: dict[tuple[str, tuple[str, ...]], list[EncodedRows]] = defaultdict(list)
    for part in encoded:
        if part.rows:
            grouped[part.table.name, part.columns].append(part)
    for (name, columns), parts in grouped.items():
        names = ", ".join(columns)
        if connection.dialect.name == "postgresql":
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(f"COPY {name} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(COPY_HEADER)
                for part in parts:
                    copy.write(part.payload)
                copy.write(COPY_TRAILER)
        else:
            marks = ", ".join("?" * len(columns))
            for part in parts:
                connection.exec_driver_sql(f"INSERT INTO {name} ({names}) VALUES ({marks})", part.payload)


def _refuse_what_does_not_fit(table: Table, name: str, values: Any, rows: int) -> None:
    """numpy would wrap a number that is too large and cut off a fraction, without a word."""
    where = f"{table.name}.{name}"
    if isinstance(values, (np.ndarray, list)) and len(values) != rows:
        raise ValueError(f"{where} has {len(values)} values for {rows} rows")
    code, _ = _fixed_format(table.c[name].type) or ("", 0)
    if code[1:2] != "i" or not isinstance(values, (np.ndarray, int, float)):
        return
    numbers, limits = np.asarray(values), np.iinfo(code)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{where} takes integers, not {numbers.dtype}")
    narrower = numbers.dtype.itemsize > limits.dtype.itemsize or numbers.dtype.kind == "u"
    if narrower and rows and (numbers.min() < limits.min or numbers.max() > limits.max):
        raise OverflowError(f"{where} takes {limits.min} to {limits.max}, not {numbers.min()} to {numbers.max()}")


# PostgreSQL

_FIXED: dict[type, tuple[str, int]] = {
    SmallInteger: (">i2", 2),
    BigInteger: (">i8", 8),
    Integer: (">i4", 4),
    Double: (">f8", 8),
    Boolean: ("u1", 1),
    Date: (">i4", 4),
    UtcTimestamp: (">i8", 8),
}


def _fixed_format(column_type: Any) -> tuple[str, int] | None:
    for kind, layout in _FIXED.items():
        if isinstance(column_type, kind):
            return layout
    return None


def _encode_copy(table: Table, columns: Mapping[str, Any], rows: int) -> EncodedRows:
    numbers = {name: values for name, values in columns.items() if _is_fixed(table, name, values)}
    constants = {
        name: NULL if value is None else _piece_encoder(table.c[name].type)(value)
        for name, value in columns.items()
        if name not in numbers and not isinstance(value, list)
    }
    varying = [name for name in columns if name not in numbers and name not in constants]
    prefixes = _fixed_parts(table, numbers, constants, len(columns), rows)
    pieces = [_pieces(table, name, columns[name]) for name in varying]
    payload = b"".join(itertools.chain.from_iterable(zip(prefixes, *pieces, strict=True)))
    return EncodedRows(table, (*numbers, *constants, *varying), rows, payload)


def _is_fixed(table: Table, name: str, values: Any) -> bool:
    """Fixed width and never NULL."""
    return _fixed_format(table.c[name].type) is not None and values is not None and not isinstance(values, list)


def _fixed_parts(
    table: Table, numbers: Mapping[str, Any], constants: Mapping[str, bytes], fields: int, rows: int
) -> list[bytes]:
    """The beginning of each row: the field count, the fixed-width fields, each behind its length, and what is the same
    in every row."""
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name in numbers:
        code, _ = _fixed_format(table.c[name].type) or ("", 0)
        layout += [(f"{name}_length", ">i4"), (name, code)]
    layout += [(name, f"V{len(piece)}") for name, piece in constants.items()]
    records = np.empty(rows, np.dtype(layout))
    records["fields"] = fields
    for name, values in numbers.items():
        column_type = table.c[name].type
        _, width = _fixed_format(column_type) or ("", 0)
        records[f"{name}_length"] = width
        if isinstance(column_type, Date):
            values = np.asarray(values) - EPOCH_2000_DAYS
        elif isinstance(column_type, UtcTimestamp):
            values = (np.asarray(values, np.int64) - EPOCH_2000_MILLISECONDS) * 1000
        records[name] = values
    for name, piece in constants.items():
        records[name] = np.void(piece)
    parts: list[bytes] = records.view(f"V{records.dtype.itemsize}").tolist()
    return parts


_pack_length = struct.Struct(">i").pack
#: The lengths of most texts, packed once.
_PACKED_LENGTHS = [_pack_length(length) for length in range(1024)]


def _text_piece(value: str) -> bytes:
    encoded = value.encode()
    return _pack_length(len(encoded)) + encoded


def _text_pieces(values: Sequence[str | None]) -> list[bytes]:
    lengths, many = _PACKED_LENGTHS, len(_PACKED_LENGTHS)
    return [
        NULL
        if value is None
        else (lengths[len(encoded)] if len(encoded := value.encode()) < many else _pack_length(len(encoded))) + encoded
        for value in values
    ]


class SharedTexts(list[str]):
    """A column of texts that goes into several tables and is encoded for the first of them only."""

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        return _text_pieces(self)


class _Pieces(dict[str | None, bytes]):
    """Text -> piece, encoded at the first look-up."""

    def __missing__(self, value: str | None) -> bytes:
        if len(self) >= CACHED_PIECES:
            self.clear()
            self[None] = NULL
        piece = NULL if value is None else _text_piece(value)
        self[value] = piece
        return piece


_recurring = _Pieces({None: NULL})


def _pieces(table: Table, name: str, values: list[Any]) -> Sequence[bytes]:
    column_type = table.c[name].type
    if isinstance(values, SharedTexts):
        return values.pieces
    if values.count(None) == len(values):
        return [NULL] * len(values)
    if isinstance(column_type, (Double, BigInteger, Integer, SmallInteger)):
        return _number_pieces(column_type, values)
    if not isinstance(column_type, Text):
        piece = _piece_encoder(column_type)
        return [NULL if value is None else piece(value) for value in values]
    if name in LOW_CARDINALITY:
        return list(map(_recurring.__getitem__, values))
    return _text_pieces(values)


def _number_pieces(column_type: Any, values: list[Any]) -> list[bytes]:
    code, width = _fixed_format(column_type) or ("", 0)
    records = np.empty(len(values), [("length", ">i4"), ("number", code)])
    records["length"] = width
    records["number"] = [0 if value is None else value for value in values]
    pieces: list[bytes] = records.view(f"V{4 + width}").tolist()
    return [NULL if value is None else piece for value, piece in zip(values, pieces, strict=True)]


def _piece_encoder(column_type: Any) -> Callable[[Any], bytes]:
    if isinstance(column_type, Text):
        return _text_piece
    if isinstance(column_type, JSON):
        return lambda value: _pack_length(len(value) + 1) + b"\x01" + value
    if isinstance(column_type, LargeBinary):
        return lambda value: _pack_length(len(value)) + value
    code, width = _fixed_format(column_type) or ("", 0)
    if isinstance(column_type, (UtcTimestamp, Date)):
        raise TypeError("times that may be NULL are written by ordinary statements")
    number = np.dtype(code)
    return lambda value: _pack_length(width) + np.array(value, number).tobytes()


# SQLite


def _encode_tuples(table: Table, columns: Mapping[str, Any], rows: int) -> EncodedRows:
    values = [_sqlite_values(table.c[name].type, column, rows) for name, column in columns.items()]
    return EncodedRows(table, tuple(columns), rows, list(zip(*values, strict=True)))


def _sqlite_values(column_type: Any, values: Any, rows: int) -> Sequence[Any]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    elif not isinstance(values, list):
        values = [values] * rows
    if isinstance(column_type, UtcTimestamp):
        return _utc_texts(values)
    if isinstance(column_type, Date):
        first = date(1970, 1, 1)
        known = {day: (first + timedelta(days=int(day))).isoformat() for day in set(values)}
        return [known[day] for day in values]
    if isinstance(column_type, JSON):
        return [None if value is None else value.decode() for value in values]
    return values  # type: ignore[no-any-return]


def _utc_texts(milliseconds: Sequence[int]) -> list[str]:
    epoch = datetime(1970, 1, 1)
    return [(epoch + timedelta(milliseconds=value)).isoformat(timespec="milliseconds") + "Z" for value in milliseconds]
