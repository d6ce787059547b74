"""Numbered texts and times as texts, many at once: one matrix of characters instead of a format call each."""

import hashlib

import numpy as np
import numpy.typing as npt

Characters = npt.NDArray[np.uint8]
#: Numbers are padded to this many digits, so that texts sort as their numbers do and all have one width.
DIGITS = 10
ZERO = ord("0")
DAY = 86_400_000


def numbered_matrix(prefix: str, numbers: npt.NDArray[np.int64]) -> Characters:
    """UTF-8 of prefix and number, one row each: [n, bytes of the prefix + DIGITS]. Numbers below 10 ** DIGITS."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    matrix = np.empty((len(numbers), len(head) + DIGITS), np.uint8)
    matrix[:, : len(head)] = head
    write_digits(matrix[:, len(head) :], numbers)
    return matrix


def numbered_texts(prefix: str, numbers: npt.NDArray[np.int64]) -> list[str]:
    if not len(numbers):
        return []
    text = numbered_matrix("", numbers).tobytes().decode("ascii")
    return [prefix + text[at : at + DIGITS] for at in range(0, len(text), DIGITS)]


def time_matrix(epoch_milliseconds: npt.NDArray[np.int64]) -> Characters:
    """RFC 3339 in UTC with milliseconds, one row each: 2026-11-24T08:00:00.000Z, [n, 24]."""
    matrix = np.empty((len(epoch_milliseconds), 24), np.uint8)
    matrix[:] = np.frombuffer(b"0000-00-00T00:00:00.000Z", np.uint8)
    days, in_day = np.divmod(epoch_milliseconds, DAY)
    unique_days, place = np.unique(days, return_inverse=True)
    dates = np.datetime_as_string(unique_days.astype("datetime64[D]")).astype("S10")
    matrix[:, :10] = dates.view(np.uint8).reshape(-1, 10)[place]
    in_day = in_day.astype(np.int32)
    seconds, milliseconds = np.divmod(in_day, 1000)
    minutes, second = np.divmod(seconds, 60)
    hour, minute = np.divmod(minutes, 60)
    for first, width, value in ((11, 2, hour), (14, 2, minute), (17, 2, second), (20, 3, milliseconds)):
        write_digits(matrix[:, first : first + width], value)
    return matrix


def write_digits(matrix: Characters, numbers: npt.NDArray[np.integer]) -> None:
    """Fills the columns with decimal digits, zero-padded on the left."""
    rest = numbers
    for column in range(matrix.shape[1] - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        matrix[:, column] = digit + ZERO


def stable_number(text: str) -> int:
    """64 bits that are the same in every process, which Python's own hash is not."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
