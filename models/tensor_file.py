"""A file of tensors with a description beside them, as safetensors: read with bounds, before anything is built from it.

The library of that name checks that every tensor lies within the file. What it would take is a header of a hundred
megabytes, which as objects of Python is gigabytes: ours has kilobytes.
"""

from typing import Any

import msgspec
import safetensors
import safetensors.torch
from torch import Tensor

#: Of names, shapes and description.
MOST_HEADER_BYTES = 4 << 20
LENGTH_BYTES = 8
#: What reading raises about bytes that are something else; RecursionError about lists without end.
UNREADABLE = (
    msgspec.MsgspecError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,
    RecursionError,
    safetensors.SafetensorError,
)


def tensor_file(tensors: dict[str, Tensor], description: msgspec.Struct) -> bytes:
    """Raises ValueError for a description that `read_tensor_file` would not take."""
    text = msgspec.json.encode(description).decode()
    if len(text) > MOST_HEADER_BYTES // 2:  # quotes in it take twice the room in the header
        raise ValueError(f"a description of {len(text):,} bytes is too long for a file of tensors")
    return safetensors.torch.save(tensors, {"headgate": text})


def read_tensor_file(data: bytes) -> tuple[str, dict[str, Tensor]]:
    """The description, still as text, and the tensors. Raises one of UNREADABLE."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"a header of {length:,} bytes is longer than {MOST_HEADER_BYTES:,}, which none has")
    tensors = safetensors.torch.load(data)
    header = msgspec.json.decode(data[LENGTH_BYTES : LENGTH_BYTES + length], type=dict[str, Any])
    text = header["__metadata__"]["headgate"]
    if not isinstance(text, str):
        raise TypeError("a description is a text")
    return text, tensors
