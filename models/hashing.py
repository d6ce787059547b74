"""Stable 64-bit hashes of texts (Python's own differ between processes), remembered for texts that recur."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

REMEMBERED = 200_000

_digest = xxhash.xxh3_64_intdigest


def stable_hash(text: str) -> int:
    return _digest(text.encode())


class HashMemory(dict[str | None, int]):
    """Text -> hash, computed at the first look-up; None hashes to 0. Forgets everything when it grows too large."""

    def __missing__(self, text: str | None) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        value = 0 if text is None else _digest(text.encode())
        self[text] = value
        return value

    def of(self, texts: Iterable[str | None], count: int) -> npt.NDArray[np.uint64]:
        return np.fromiter((self[text] for text in texts), np.uint64, count)


def hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    """For texts that do not recur (event ids)."""
    return np.fromiter([_digest(text.encode()) for text in texts], np.uint64, len(texts))


class MemoBuckets(dict[str | None, tuple[int, ...]]):
    """Memo -> at most `most` bucket numbers of its words (1 and up; 0 is padding)."""

    def __init__(self, buckets: int, most: int) -> None:
        super().__init__({None: (0,) * most})
        self._buckets = buckets
        self._most = most

    def __missing__(self, memo: str | None) -> tuple[int, ...]:
        if len(self) >= REMEMBERED:
            self.clear()
        words = (memo or "").lower().split()[: self._most]
        numbers = [1 + stable_hash(word) % (self._buckets - 1) for word in words]
        value = tuple(numbers + [0] * (self._most - len(numbers)))
        self[memo] = value
        return value
