"""What an item is, as numbers that need no history of it: hashed words, category and price.

A new item is recommendable at once because its vector is made from these. It knows nothing of where items come from.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.hashing import stable_hash

WORDS, CATEGORIES = 64, 32
#: Columns: hashed words (unit length together), hashed category (one of them 1), price known, log price.
ITEM_CONTENT = WORDS + CATEGORIES + 2
#: Only so much of a text is read.
MOST_WORDS, MOST_CHARACTERS = 256, 20_000
#: Titles and texts as parts for a text encoder (models/text_encoder.py): so many of each item, in so many buckets.
TEXT_PARTS, TEXT_BUCKETS = 96, 16_384
#: Learned parts of item vectors are shared by items whose id falls into the same bucket.
ID_BUCKETS = 16_384

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the catalogue, as far as models know it. price in the catalogue's currency, None where unknown;
    thumbnail: as models/pictures.py makes it."""

    item_id: str
    title: str | None = None
    text: str | None = None
    category: str | None = None
    price: float | None = None
    available: bool = True
    thumbnail: bytes | None = field(default=None, repr=False)

    @property
    def words(self) -> str:
        return f"{self.title or ''} {self.text or ''}"[:MOST_CHARACTERS]


def item_contents(items: Sequence[Item]) -> npt.NDArray[np.float32]:
    """float32[n, ITEM_CONTENT]"""
    contents = np.zeros((len(items), ITEM_CONTENT), np.float32)
    for row, item in enumerate(items):
        _add_words(contents[row, :WORDS], item.words)
        if item.category:
            contents[row, WORDS + stable_hash(item.category) % CATEGORIES] = 1.0
        if item.price is not None:
            contents[row, -2:] = 1.0, math.log1p(max(item.price, 0.0))
    return contents


def id_buckets(item_ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64[n]: 1 to ID_BUCKETS - 1 (0 is for items without an id of their own)."""
    return np.fromiter((1 + stable_hash(i) % (ID_BUCKETS - 1) for i in item_ids), np.int64, len(item_ids))


def _add_words(row: npt.NDArray[np.float32], text: str) -> None:
    """Signed hashing of words (Weinberger et al., 2009), scaled to length 1."""
    for word in _WORD.findall(text.lower())[:MOST_WORDS]:
        number = stable_hash(word)
        row[number % WORDS] += 1.0 if number >> 63 else -1.0
    length = float(np.linalg.norm(row))
    if length > 0:
        row /= length
