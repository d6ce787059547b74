"""Stable 64-bit hashes of texts (Python's own differ between processes), remembered for texts that recur."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import xxhash

#: A memory that grows past this forgets everything; what recurs is soon known again.
REMEMBERED = 200_000

_digest = xxhash.xxh3_64_intdigest


def stable_hash(text: str) -> int:
    """0 .. 2**64 - 1"""
    return _digest(text.encode())


def hashes(texts: Collection[str]) -> npt.NDArray[np.uint64]:
    """uint64[n], for texts that do not recur (event ids)."""
    return np.fromiter(map(_digest, map(str.encode, texts)), np.uint64, len(texts))


class BucketMemory(dict[str | None, int]):
    """Text -> bucket number, 1 to buckets - 1, hashed at its first look-up. None is bucket 0."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self._buckets = buckets

    def __missing__(self, text: str | None) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        bucket = 0 if text is None else 1 + stable_hash(text) % (self._buckets - 1)
        self[text] = bucket
        return bucket

    def of(self, texts: Collection[str | None]) -> npt.NDArray[np.int64]:
        """int64[n]"""
        return np.fromiter(map(self.__getitem__, texts), np.int64, len(texts))
