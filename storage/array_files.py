"""Named arrays as one file in the safetensors format, in pieces that go to disk and into a hash as they are.

The format: the header's length (uint64, little-endian), a JSON header of dtype, shape and place of each array, then
the arrays' bytes. The library of that name joins everything into one block of memory first; a worker's state is
gigabytes at times, and other threads wait while it is copied.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PIECE_BYTES = 1 << 20
#: Far beyond what is written, also along an axis of an array without elements.
MOST_HEADER_BYTES, MOST_ROWS = 1 << 20, 1 << 32
DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class BadArrayFile(ValueError):
    """Bytes that are no such file."""


class _Place(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def array_file_pieces(arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """The file's bytes in order. Raises TypeError for a dtype that the format does not know."""
    # The widest first, so that each array begins at a multiple of its item's size.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    places, end = {}, 0
    for name, array in ordered:
        begin, end = end, end + array.nbytes
        places[name] = _Place(_dtype_name(name, array), list(array.shape), (begin, end))
    header = msgspec.json.encode(places)
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    for _, array in ordered:
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        data = little_endian.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        for begin in range(0, len(data), PIECE_BYTES):
            yield data[begin : begin + PIECE_BYTES]


def arrays_of_file(data: bytes | bytearray | memoryview) -> dict[str, Array]:
    """The arrays; views of `data`, writable where that is. Each byte is one array's, so that no header can
    make more of a file than is in it. Raises BadArrayFile."""
    length = int.from_bytes(data[:8], "little")
    try:
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes is longer than {MOST_HEADER_BYTES:,}, which none has")
        places = msgspec.json.decode(data[8 : 8 + length], type=dict[str, _Place])
        _refuse_gaps(places.values(), len(data) - 8 - length)
        return {name: _array(data, 8 + length, place) for name, place in places.items()}
    except (msgspec.MsgspecError, KeyError, ValueError, OverflowError, RecursionError) as error:
        raise BadArrayFile(f"no array file: {error}") from error


def _refuse_gaps(places: Iterable[_Place], size: int) -> None:
    """Raises ValueError where the arrays overlap, leave something out or lie outside of the file."""
    end = 0
    for place in sorted(places, key=lambda place: place.data_offsets):
        if place.data_offsets[0] != end or place.data_offsets[1] < end:
            raise ValueError(f"an array does not begin where the one before it ends, at {end}")
        end = place.data_offsets[1]
    if end != size:
        raise ValueError(f"the arrays take {end} of {size} bytes")


def _array(data: bytes | bytearray | memoryview, body: int, place: _Place) -> Array:
    begin, end = place.data_offsets
    dtype = np.dtype(DTYPES[place.dtype])
    if any(not 0 <= count <= MOST_ROWS for count in place.shape):
        raise ValueError(f"a shape {place.shape} is none of an array here")
    array = np.frombuffer(data, np.uint8, end - begin, body + begin) if end > begin else np.empty(0, np.uint8)
    return array.view(dtype).reshape(place.shape)


def _dtype_name(name: str, array: Array) -> str:
    known = _NAMES.get(array.dtype.newbyteorder("<"))
    if known is None:
        raise TypeError(f"{name} has dtype {array.dtype}; an array file takes numbers and booleans")
    return known
