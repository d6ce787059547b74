"""Files of pictures for tests, sound ones and hostile ones."""

import io
import struct
import zlib
from typing import Any

from PIL import Image

from models.pictures import PNG


def png(picture: Image.Image, **options: Any) -> bytes:
    return saved(picture, "PNG", **options)


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    return saved(picture, "JPEG", **options)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def plain(colour: Any, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def claimed_png(width: int, height: int, pixels: bytes) -> bytes:
    """Of 8-bit RGB, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


RED_PNG, BLUE_JPEG = png(plain("red")), jpeg(plain("blue"))
