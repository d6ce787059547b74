"""Thumbnails: of all that a PNG or JPEG may hold; none of what is something else, costs too much or is broken."""

import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from models import pictures
from models.pictures import (
    MAX_IMAGE_BYTES,
    MAX_SCANS,
    SIDE,
    THUMBNAIL_BYTES,
    PictureRefused,
    ThumbnailMemory,
    thumbnail,
)
from tests.pictures import BLUE_JPEG, RED_PNG, chunk, claimed_png, jpeg, plain, png, saved


def colour(data: bytes) -> list[int]:
    """The middle pixel."""
    found = np.frombuffer(thumbnail(data), np.uint8).reshape(SIDE, SIDE, 3)
    return found[SIDE // 2, SIDE // 2].tolist()


def two_halves(size: tuple[int, int]) -> Image.Image:
    """Red on the left, green on the right."""
    picture = plain((200, 0, 0), size)
    picture.paste((0, 200, 0), (size[0] // 2, 0, *size))
    return picture


def in_16_bits(grey: int) -> Image.Image:
    return Image.fromarray(np.full((40, 40), grey, np.uint16))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RED_PNG, (255, 0, 0)),
        (png(plain("red").convert("P")), (255, 0, 0)),
        (png(plain(130, mode="L")), (130, 130, 130)),
        (png(plain(1, mode="1")), (255, 255, 255)),
        (png(plain((0, 0, 255, 255), mode="RGBA")), (0, 0, 255)),
        (png(plain((0, 0, 255, 0), mode="RGBA")), (255, 255, 255)),
        (png(plain((0, 128), mode="LA")), (127, 127, 127)),
        (png(plain("red").convert("P"), transparency=bytes(256)), (255, 255, 255)),
        (png(in_16_bits(40_000)), (156, 156, 156)),
        (jpeg(plain((0, 255, 255, 0), mode="CMYK")), (254, 0, 0)),
        (jpeg(plain(77, mode="L")), (77, 77, 77)),
        (BLUE_JPEG, (0, 0, 254)),
        (jpeg(plain("blue"), progressive=True), (0, 0, 254)),
    ],
)
def test_a_picture_of_any_mode_becomes_a_thumbnail_in_rgb(data: bytes, expected: tuple[int, ...]) -> None:
    assert colour(data) == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (31, 33), (64, 64), (640, 200), (1, 5_000), (2_048, 2_048)])
@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_picture_of_any_size_becomes_a_thumbnail_of_one_shape(
    size: tuple[int, int], encode: Callable[[Image.Image], bytes]
) -> None:
    found = np.frombuffer(thumbnail(encode(two_halves(size))), np.uint8).reshape(SIDE, SIDE, 3)
    if size[0] > 8:
        assert found[SIDE // 2, 4].tolist() == pytest.approx([200, 0, 0], abs=12)
        assert found[SIDE // 2, -4].tolist() == pytest.approx([0, 200, 0], abs=12)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'/>", "format"),
        (
            saved(plain("red"), "GIF", save_all=True, append_images=[plain("blue"), plain("green")], duration=40),
            "format",
        ),
        (saved(plain("red"), "BMP"), "format"),
        (saved(plain("red"), "WEBP"), "format"),
        (claimed_png(10_000, 5_000, b""), "costly"),
        (claimed_png(2**31 - 1, 2**31 - 1, b""), "costly"),
        (claimed_png(1, 10_000, bytes(40_000)), "costly"),
        (BLUE_JPEG + b"\xff\xda\x00" * (MAX_SCANS + 1), "costly"),
        (claimed_png(0, 5, b""), "broken"),
        (RED_PNG[: len(RED_PNG) // 2], "broken"),
        (RED_PNG[:8], "broken"),
        (RED_PNG.replace(b"IDAT", b"IDOT"), "broken"),
        (claimed_png(64, 64, b"too few"), "broken"),
        (BLUE_JPEG[:200], "broken"),
        (BLUE_JPEG[:3], "broken"),
        (b"\x89PNG\r\n\x1a\n and more", "broken"),
    ],
)
def test_what_is_no_sound_picture_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(PictureRefused) as refused:
        thumbnail(data)
    assert refused.value.reason == reason


def test_fifty_megapixels_in_a_small_file_are_refused_before_one_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = claimed_png(10_000, 5_000, bytes(5_000 * 30_001))
    assert len(bomb) < MAX_IMAGE_BYTES
    decoded: list[str] = []
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda picture: decoded.append("pixels"))
    with pytest.raises(PictureRefused, match="10000 x 5000 are more than"):
        thumbnail(bomb)
    assert decoded == []


def test_a_text_that_swells_within_a_png_is_not_read() -> None:
    bomb = chunk(b"zTXt", b"text\0\0" + zlib.compress(bytes(50_000_000)))
    assert len(bomb) < 100_000
    with pytest.raises(PictureRefused, match="decoded"):
        thumbnail(RED_PNG[:33] + bomb + RED_PNG[33:])


def test_of_an_animated_png_the_first_picture_counts() -> None:
    animated = png(plain("red"), save_all=True, append_images=[plain("blue")])
    assert b"acTL" in animated
    assert colour(animated) == [255, 0, 0]


@given(st.sampled_from([RED_PNG, BLUE_JPEG, png(two_halves((16, 16)).convert("P"))]), st.data())
def test_a_picture_with_a_damaged_byte_is_a_thumbnail_or_refused(sound: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(sound) - 1))
    damaged = sound[:place] + bytes([data.draw(st.integers(0, 255))]) + sound[place + 1 :]
    with suppress(PictureRefused):
        assert len(thumbnail(damaged)) == THUMBNAIL_BYTES


@given(st.binary(max_size=200), st.sampled_from([b"", RED_PNG[:8], RED_PNG[:33], BLUE_JPEG[:3], BLUE_JPEG[:20]]))
def test_whatever_follows_the_beginning_of_a_picture_does_no_harm(rest: bytes, beginning: bytes) -> None:
    with suppress(PictureRefused):
        assert len(thumbnail(beginning + rest)) == THUMBNAIL_BYTES


def test_a_file_that_comes_again_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def noted(data: bytes) -> bytes:
        decoded.append(data)
        return thumbnail(data)

    monkeypatch.setattr(pictures, "thumbnail", noted)
    memory = ThumbnailMemory(most=2)
    for data in (RED_PNG, BLUE_JPEG, RED_PNG, BLUE_JPEG):
        assert memory.of(data) == thumbnail(data)
    for _ in range(2):
        with pytest.raises(PictureRefused, match="neither") as refused:
            memory.of(b"GIF89a")
        assert refused.value.reason == "format"
    assert decoded == [RED_PNG, BLUE_JPEG, b"GIF89a"]
    memory.of(RED_PNG)
    assert decoded == [RED_PNG, BLUE_JPEG, b"GIF89a", RED_PNG]


def test_thumbnails_become_rows_of_pixels() -> None:
    found: npt.NDArray[np.uint8] = pictures.as_pixels([thumbnail(RED_PNG), thumbnail(BLUE_JPEG)])
    assert found.shape == (2, THUMBNAIL_BYTES)
    assert found[0, :3].tolist() == [255, 0, 0]
    assert pictures.as_pixels([]).shape == (0, THUMBNAIL_BYTES)
