"""Named arrays as one file in the safetensors format, in pieces that go to disk and into a hash as they are.

The format: the header's length (uint64, little-endian), a JSON header of dtype, shape and place of each array, then
the arrays' bytes. The library of that name joins everything into one block of memory first; a worker's state is
gigabytes at times, and other threads wait while it is copied.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PIECE_BYTES = 1 << 20
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


def arrays_of_file(data: bytes | bytearray) -> dict[str, Array]:
    """The arrays; views of `data`, writable where that is a bytearray. Raises BadArrayFile."""
    body = 8 + int.from_bytes(data[:8], "little")
    try:
        places = msgspec.json.decode(data[8:body], type=dict[str, _Place])
        return {name: _array(data, body, place) for name, place in places.items()}
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError) as error:
        raise BadArrayFile(f"no array file: {error}") from error


def _array(data: bytes | bytearray, body: int, place: _Place) -> Array:
    begin, end = place.data_offsets
    dtype = np.dtype(DTYPES[place.dtype])
    if not 0 <= begin <= end <= len(data) - body:
        raise ValueError("an array lies outside of the file")
    array = np.frombuffer(data, np.uint8, end - begin, body + begin) if end > begin else np.empty(0, np.uint8)
    return array.view(dtype).reshape(place.shape)


def _dtype_name(name: str, array: Array) -> str:
    known = _NAMES.get(array.dtype.newbyteorder("<"))
    if known is None:
        raise TypeError(f"{name} has dtype {array.dtype}; an array file takes numbers and booleans")
    return known
