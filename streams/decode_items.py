"""Bytes of `items` to columns. An item whose title, text or image is broken goes on without that part, which is
counted; what else cannot be read becomes a dead letter. A null value deletes the item that the key names.

An image that cannot be made a thumbnail of is broken too, and its reason is counted.

Pure functions: records in, columns, counts and dead letters out.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.pictures import MAX_IMAGE_BYTES, PictureRefused, thumbnail
from streams import contract
from streams.records import (
    DeadRecord,
    DecodeLimits,
    Int64s,
    Record,
    Refusal,
    check_recorded_at,
    dead_record,
    read,
    text_key,
)

#: What an item can do without.
PARTS = ("title", "text", "image")
Thumbnails = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class DecodedItems:
    """n records of one partition in offset order, as columns; deleted ones have nothing but their item_id. broken:
    part (of images "image", or "image_" and the reason for which no thumbnail can be made) -> how many items go on
    without it."""

    offset: Int64s
    recorded_at: Int64s
    item_id: list[str]
    deleted: npt.NDArray[np.bool_]
    title: list[str | None]
    text: list[str | None]
    category: list[str | None]
    price: list[float | None]
    image: list[bytes | None]
    thumbnail: list[bytes | None]
    available: npt.NDArray[np.bool_]
    extra: list[bytes | None]
    broken: Mapping[str, int]
    dead: list[DeadRecord]

    def __len__(self) -> int:
        return len(self.item_id)


@dataclass(frozen=True, slots=True)
class _Read:
    """One record, understood."""

    record: Record
    message: contract.Item
    image: bytes | None
    thumbnail: bytes | None
    extra: bytes | None
    broken: Sequence[str]
    deleted: bool = False


_decode_item = msgspec.json.Decoder(contract.Item).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_items(records: Sequence[Record], limits: DecodeLimits, thumbnail: Thumbnails = thumbnail) -> DecodedItems:
    found: list[_Read] = []
    dead: list[DeadRecord] = []
    for record in records:
        try:
            found.append(_read_item(record, limits, thumbnail))
        except Refusal as refusal:
            dead.append(dead_record(record, refusal, limits))
    return DecodedItems(
        offset=np.array([one.record.offset for one in found], np.int64),
        recorded_at=np.array([one.record.timestamp for one in found], np.int64),
        item_id=[one.message.item_id for one in found],
        deleted=np.array([one.deleted for one in found], np.bool_),
        title=[one.message.title for one in found],
        text=[one.message.text for one in found],
        category=[one.message.category for one in found],
        price=[one.message.price for one in found],
        image=[one.image for one in found],
        thumbnail=[one.thumbnail for one in found],
        available=np.array([one.message.available for one in found], np.bool_),
        extra=[one.extra for one in found],
        broken=Counter(part for one in found for part in one.broken),
        dead=dead,
    )


def _read_item(record: Record, limits: DecodeLimits, thumbnail: Thumbnails) -> _Read:
    check_recorded_at(record.timestamp)
    if record.value is None:
        item = contract.Item(text_key(record.key, "the item_id"), available=False)
        return _Read(record, item, None, None, None, (), deleted=True)
    broken: list[str] = []
    try:
        message, extra = read(record, limits, _decode_item, contract.Item)
    except Refusal as refusal:
        whole, broken = _without_broken_parts(record.value, limits, refusal)
        message, extra = read(_Rewritten(record, whole), limits, _decode_item, contract.Item)
    if record.key != message.item_id.encode():
        raise Refusal("wrong_key", f"the record's key {record.key!r} is not its item_id")
    image = small = None
    if message.image is not None:
        try:
            image = _image(message.image)
            small = thumbnail(image)
        except PictureRefused as refused:
            broken.append(f"image_{refused.reason}")
            image = None
        except _NotAnImage:
            broken.append("image")
    return _Read(record, message, image, small, extra, broken)


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """A record with another value."""

    record: Record
    value: bytes

    @property
    def offset(self) -> int:
        return self.record.offset

    @property
    def timestamp(self) -> int:
        return self.record.timestamp

    @property
    def key(self) -> bytes | None:
        return self.record.key


def _without_broken_parts(value: bytes, limits: DecodeLimits, refusal: Refusal) -> tuple[bytes, list[str]]:
    """The value without those of its parts that are broken, and their names; raises the refusal where it is no object
    of JSON, or none of them is to blame."""
    if refusal.code in ("too_large", "too_deep"):
        raise refusal
    try:
        fields = _decode_fields(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise refusal from None
    broken = [part for part in PARTS if part in fields and not _is_sound(part, bytes(fields[part]))]
    if not broken:
        raise refusal
    kept: dict[str, Any] = {name: raw for name, raw in fields.items() if name not in broken}
    return msgspec.json.encode(kept), broken


def _is_sound(part: str, raw: bytes) -> bool:
    kind = {"image": str | None}.get(part, contract.LongText | None)
    try:
        text = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return not (text and "\0" in text)


class _NotAnImage(ValueError):
    """Not base64, or too many bytes."""


def _image(encoded: str) -> bytes:
    """Raises _NotAnImage."""
    try:
        image = b64decode(encoded, validate=True)
    except (NotBase64, ValueError) as error:
        raise _NotAnImage from error
    if len(image) > MAX_IMAGE_BYTES:
        raise _NotAnImage
    return image
