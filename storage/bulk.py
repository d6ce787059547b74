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

from storage.copy_in import copy_in
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
    return encode_parts(dialect, model, columns, [rows])[0]


def encode_parts(
    dialect: str, model: type[Base], columns: Mapping[str, Any], lengths: Sequence[int]
) -> list[EncodedRows]:
    """The same of rows that are sent apart: so many of each part, which follow each other. What encoding costs
    whatever the number of rows, it costs once."""
    table: Table = model.__table__  # type: ignore[assignment]
    rows = sum(lengths)
    for name, values in columns.items():
        _refuse_what_does_not_fit(table, name, values, rows)
    stops = list(itertools.accumulate(lengths))
    parts = [slice(stop - length, stop) for stop, length in zip(stops, lengths, strict=True)]
    names, payloads = (_encode_copy if dialect == "postgresql" else _encode_tuples)(table, columns, rows, parts)
    return [EncodedRows(table, names, length, payload) for length, payload in zip(lengths, payloads, strict=True)]


def write_rows(connection: Connection, encoded: Sequence[EncodedRows]) -> None:
    """Writes all rows in the caller's transaction, a table at a time."""
    grouped: dict[tuple[str, tuple[str, ...]], list[EncodedRows]] = defaultdict(list)
    for part in encoded:
        if part.rows:
            grouped[part.table.name, part.columns].append(part)
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        copies = {
            f"COPY {name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)": (
                COPY_HEADER,
                *(part.payload for part in parts),
                COPY_TRAILER,
            )
            for (name, columns), parts in grouped.items()
        }
        copy_in(driver, copies)
        return
    for (name, columns), parts in grouped.items():
        statement = f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        for part in parts:
            connection.exec_driver_sql(statement, part.payload)


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A column of fixed width as COPY has it: numpy type code, bytes; least and most of an integer column; shift and
    factor that turn days and milliseconds since 1970 into PostgreSQL's since 2000."""

    code: str
    width: int
    limits: tuple[int, int] | None
    shift: int = 0
    factor: int = 1


_CODES: tuple[tuple[type, str, int], ...] = (
    (SmallInteger, ">i2", 2),
    (BigInteger, ">i8", 8),
    (Integer, ">i4", 4),
    (Double, ">f8", 8),
    (Boolean, "u1", 1),
    (Date, ">i4", 4),
    (UtcTimestamp, ">i8", 8),
)


@functools.cache
def _fixed_columns(table: Table) -> dict[str, _Fixed]:
    """Those of a table's columns that have a fixed width, by name."""
    found = {}
    for column in table.c:
        for kind, code, width in _CODES:
            if isinstance(column.type, kind):
                bounds = np.iinfo(code) if code[1] == "i" else None
                limits = None if bounds is None else (int(bounds.min), int(bounds.max))
                shift, factor = 0, 1
                if kind is Date:
                    shift = EPOCH_2000_DAYS
                elif kind is UtcTimestamp:
                    shift, factor = EPOCH_2000_MILLISECONDS, 1000
                found[column.name] = _Fixed(code, width, limits, shift, factor)
                break
    return found


def _refuse_what_does_not_fit(table: Table, name: str, values: Any, rows: int) -> None:
    """numpy would wrap a number that is too large and cut off a fraction, without a word."""
    array = isinstance(values, np.ndarray)
    if (array or isinstance(values, list)) and len(values) != rows:
        raise ValueError(f"{table.name}.{name} has {len(values)} values for {rows} rows")
    fixed = _fixed_columns(table).get(name)
    if fixed is None or fixed.limits is None or not (array or isinstance(values, (int, float))):
        return
    least, most = fixed.limits
    if array:
        kind, wider = values.dtype.kind, values.dtype.itemsize > fixed.width or values.dtype.kind == "u"
        lowest, highest = (int(values.min()), int(values.max())) if kind in "iu" and wider and rows else (0, 0)
    else:
        kind = "i" if isinstance(values, int) and not isinstance(values, bool) else type(values).__name__
        lowest = highest = values if kind == "i" else 0
    if kind not in ("i", "u"):
        raise TypeError(f"{table.name}.{name} takes integers, not {values.dtype if array else kind}")
    if lowest < least or highest > most:
        raise OverflowError(f"{table.name}.{name} takes {least} to {most}, not {lowest} to {highest}")


# PostgreSQL


#: The columns in the order of the payloads, and the payload of each part.
_Encoded = tuple[tuple[str, ...], list[Any]]


def _encode_copy(table: Table, columns: Mapping[str, Any], rows: int, parts: Sequence[slice]) -> _Encoded:
    fixed = _fixed_columns(table)
    numbers = {
        name: values
        for name, values in columns.items()
        if name in fixed and values is not None and not isinstance(values, list)
    }
    constants = {
        name: NULL if value is None else _piece_encoder(table.c[name].type)(value)
        for name, value in columns.items()
        if name not in numbers and not isinstance(value, list)
    }
    varying = [name for name in columns if name not in numbers and name not in constants]
    pieces: list[Sequence[bytes]] = [_fixed_parts(fixed, numbers, constants, len(columns), rows)]
    pieces += [_pieces(table, name, columns[name]) for name in varying]
    payloads = [
        b"".join(itertools.chain.from_iterable(zip(*(column[part] for column in pieces), strict=True)))
        for part in parts
    ]
    return (*numbers, *constants, *varying), payloads


def _fixed_parts(
    fixed: Mapping[str, _Fixed], numbers: Mapping[str, Any], constants: Mapping[str, bytes], fields: int, rows: int
) -> list[bytes]:
    """The beginning of each row: the field count, the fixed-width fields, each behind its length, and what is the same
    in every row."""
    codes = tuple((name, fixed[name].code, fixed[name].width) for name in numbers)
    template = _template(codes, tuple((name, len(piece)) for name, piece in constants.items()), fields)
    records = np.repeat(template, rows)
    for name, values in numbers.items():
        column = fixed[name]
        if column.factor != 1:
            values = (np.asarray(values, np.int64) - column.shift) * column.factor
        elif column.shift:
            values = np.asarray(values) - column.shift
        records[name] = values
    for name, piece in constants.items():
        records[name] = np.void(piece)
    parts: list[bytes] = records.view(f"V{records.dtype.itemsize}").tolist()
    return parts


@functools.lru_cache(maxsize=256)
def _template(
    codes: tuple[tuple[str, str, int], ...], constants: tuple[tuple[str, int], ...], fields: int
) -> npt.NDArray[Any]:
    """One record with the field count and the lengths of its fixed-width fields filled in."""
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, code, _ in codes:
        layout += [(f"{name}_length", ">i4"), (name, code)]
    layout += [(name, f"V{length}") for name, length in constants]
    record = np.zeros(1, np.dtype(layout))
    record["fields"] = fields
    for name, _, width in codes:
        record[f"{name}_length"] = width
    return record


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
    if isinstance(values, SharedTexts):
        return values.pieces
    if values.count(None) == len(values):
        return [NULL] * len(values)
    column_type = table.c[name].type
    if isinstance(column_type, (Double, BigInteger, Integer, SmallInteger)):
        return _number_pieces(_fixed_columns(table)[name], values)
    if not isinstance(column_type, Text):
        piece = _piece_encoder(column_type)
        return [NULL if value is None else piece(value) for value in values]
    if name in LOW_CARDINALITY:
        return list(map(_recurring.__getitem__, values))
    return _text_pieces(values)


def _number_pieces(column: _Fixed, values: list[Any]) -> list[bytes]:
    records = np.empty(len(values), [("length", ">i4"), ("number", column.code)])
    records["length"] = column.width
    records["number"] = [0 if value is None else value for value in values]
    pieces: list[bytes] = records.view(f"V{4 + column.width}").tolist()
    return [NULL if value is None else piece for value, piece in zip(values, pieces, strict=True)]


def _piece_encoder(column_type: Any) -> Callable[[Any], bytes]:
    if isinstance(column_type, Text):
        return _text_piece
    if isinstance(column_type, JSON):
        return lambda value: _pack_length(len(value) + 1) + b"\x01" + value
    if isinstance(column_type, LargeBinary):
        return lambda value: _pack_length(len(value)) + value
    if isinstance(column_type, (UtcTimestamp, Date)):
        raise TypeError("times that may be NULL are written by ordinary statements")
    code, width = next((code, width) for kind, code, width in _CODES if isinstance(column_type, kind))
    number = np.dtype(code)
    return lambda value: _pack_length(width) + np.array(value, number).tobytes()


# SQLite


def _encode_tuples(table: Table, columns: Mapping[str, Any], rows: int, parts: Sequence[slice]) -> _Encoded:
    values = [_sqlite_values(table.c[name].type, column, rows) for name, column in columns.items()]
    tuples = list(zip(*values, strict=True))
    return tuple(columns), [tuples[part] for part in parts]


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
