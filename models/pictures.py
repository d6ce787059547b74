"""Pictures of items as small thumbnails of one shape, whatever file they come as.

Files come from strangers: only PNG and JPEG are read, and what they would cost is known before a pixel is decoded. It
knows nothing of where pictures come from or what is made of them.
"""

import hashlib
import io
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin

#: Pixels of a thumbnail's side; it is RGB, a byte each.
SIDE = 32
THUMBNAIL_BYTES = SIDE * SIDE * 3
MAX_IMAGE_BYTES = 1_000_000
MAX_PIXELS, MAX_SIDE = 2_048 * 2_048, 8_192
#: A progressive JPEG may come in scans of a few bytes, each of which costs as much as all of its pixels.
MAX_SCANS = 64
MOST_REMEMBERED = 2_000
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_SCAN = b"\xff\xda"

Reason = Literal["format", "costly", "broken"]


class PictureRefused(ValueError):
    """Not a picture that can be used. reason: format (no PNG or JPEG), costly (too many pixels or scans) or broken."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


def thumbnail(data: bytes) -> bytes:
    """THUMBNAIL_BYTES bytes, row by row, stretched to a square; transparent parts are white. Raises PictureRefused."""
    if not data.startswith((PNG, JPEG)):
        raise PictureRefused("format", "neither PNG nor JPEG")
    try:
        # Not Image.open, which tries every format and keeps its limit in a global variable.
        plugin = PngImagePlugin.PngImageFile if data.startswith(PNG) else JpegImagePlugin.JpegImageFile
        with plugin(io.BytesIO(data)) as picture:
            _refuse_costly(picture, data)
            if isinstance(picture, JpegImagePlugin.JpegImageFile):
                picture.draft(None, (SIDE, SIDE))  # decoded at an eighth of its size where that is enough
            return _small(picture).tobytes()
    except PictureRefused:
        raise
    # Decoders raise whatever they stumble over in a broken file: OSError, SyntaxError, struct.error, zlib.error ...
    except Exception as error:
        raise PictureRefused("broken", f"cannot be decoded: {error}") from error


class ThumbnailMemory:
    """Makes the thumbnail of a file once, also if it comes again later: of the latest MOST_REMEMBERED files."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._known: dict[bytes, bytes | tuple[Reason, str]] = {}

    def of(self, data: bytes) -> bytes:
        """Raises PictureRefused."""
        name = hashlib.sha256(data).digest()
        found = self._known.pop(name, None) or _thumbnail_or_why_not(data)
        self._known[name] = found  # the latest come last
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        if isinstance(found, tuple):
            raise PictureRefused(*found)
        return found


def _thumbnail_or_why_not(data: bytes) -> bytes | tuple[Reason, str]:
    try:
        return thumbnail(data)
    except PictureRefused as refused:
        return refused.reason, str(refused)


def as_pixels(thumbnails: list[bytes]) -> npt.NDArray[np.uint8]:
    """uint8[n, THUMBNAIL_BYTES]"""
    return np.frombuffer(bytearray(b"".join(thumbnails)), np.uint8).reshape(len(thumbnails), THUMBNAIL_BYTES)


def _refuse_costly(picture: Image.Image, data: bytes) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise PictureRefused("costly", f"{width} x {height} are more than {MAX_PIXELS:,} pixels or {MAX_SIDE:,} a side")
    if data.startswith(JPEG) and (scans := data.count(_SCAN)) > MAX_SCANS:
        raise PictureRefused("costly", f"{scans} scans are more than {MAX_SCANS}")


def _small(picture: Image.Image) -> Image.Image:
    """In RGB."""
    shape = SIDE, SIDE
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255 instead of scaling
        grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).resize(shape, Image.Resampling.BOX).convert("RGB")
    if "A" in picture.mode or "transparency" in picture.info:
        ground = Image.new("RGBA", shape, "white")
        ground.alpha_composite(picture.convert("RGBA").resize(shape, Image.Resampling.BOX))
        return ground.convert("RGB")
    return picture.convert("RGB").resize(shape, Image.Resampling.BOX)
