"""The items that can be recommended, as arrays with one row an item; rows are never given to another item.

It knows nothing of where items come from. A row of a deleted item stays, as one that is not available. Texts are kept
as parts and pictures as thumbnails, which is all that the encoders of any policy need.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch

from models.hashing import stable_hash
from models.item_content import ITEM_CONTENT, TEXT_BUCKETS, TEXT_PARTS, Item, id_buckets, item_contents
from models.item_table import ItemTable
from models.pictures import as_pixels
from models.state import Arena
from models.text_encoder import TextParts

Rows = npt.NDArray[np.int64]
NO_CATEGORY = 0
NEVER_CHANGED = 0


def item_key(item_id: str) -> int:
    """An item's number in every process: its hash as a signed 64-bit integer."""
    number = stable_hash(item_id)
    return number - 2**64 if number >= 2**63 else number


class Catalogue:
    """version counts the changes so far; `changed_at` holds for each row the version that changed its content last."""

    def __init__(self, capacity: int = 1024) -> None:
        self.version = 0
        self.item_ids: list[str] = []
        self._rows: dict[int, int] = {}
        self._available_rows = (0, np.zeros(0, np.int64))
        self._texts = TextParts(TEXT_BUCKETS, TEXT_PARTS)
        self._thumbnails: list[bytes | None] = []
        self._arena = Arena(
            {
                "content": ((ITEM_CONTENT,), "float16", 0),
                "parts": ((TEXT_PARTS,), "int16", 0),
                "bucket": ((), "int64", 0),
                "key": ((), "int64", 0),
                "category": ((), "uint64", NO_CATEGORY),
                "available": ((), "bool", 0),
                "changed_at": ((), "int64", NEVER_CHANGED),
            },
            capacity,
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def content(self) -> npt.NDArray[np.float16]:
        """float16[len, ITEM_CONTENT]"""
        return self._arena.arrays["content"][: len(self)]

    @property
    def bucket(self) -> Rows:
        return self._arena.arrays["bucket"][: len(self)]

    @property
    def key(self) -> Rows:
        """int64[len]: see item_key."""
        return self._arena.arrays["key"][: len(self)]

    @property
    def category(self) -> npt.NDArray[np.uint64]:
        """uint64[len]: hashes, NO_CATEGORY for none."""
        return self._arena.arrays["category"][: len(self)]

    @property
    def available(self) -> npt.NDArray[np.bool_]:
        return self._arena.arrays["available"][: len(self)]

    @property
    def available_rows(self) -> Rows:
        """int64: the rows of available items."""
        version, rows = self._available_rows
        if version != self.version:
            rows = np.flatnonzero(self.available)
            self._available_rows = (self.version, rows)
        return rows

    @property
    def bytes_per_item(self) -> int:
        """Of the arrays; ids and thumbnails (models/pictures.py) come on top."""
        return self._arena.bytes_per_slot

    def rows_of(self, item_ids: Sequence[str]) -> Rows:
        """int64[n], -1 for items that are unknown."""
        return np.fromiter(map(self._rows.get, map(item_key, item_ids), repeat(-1)), np.int64, len(item_ids))

    def rows_of_keys(self, keys: Rows) -> Rows:
        """int64 of any shape, -1 for items that are unknown."""
        flat = np.fromiter(map(self._rows.get, keys.ravel().tolist(), repeat(-1)), np.int64, keys.size)
        return flat.reshape(keys.shape)

    def put(self, items: Sequence[Item]) -> None:
        """New items and new states of known ones; of an item that occurs twice the later counts."""
        items = list({item.item_id: item for item in items}.values())
        if not items:
            return
        rows = np.array([self._row(item.item_id) for item in items], np.int64)
        state = self._arena.arrays
        changed = self._put_content(items, rows)
        state["bucket"][rows] = id_buckets([item.item_id for item in items])
        state["key"][rows] = [item_key(item.item_id) for item in items]
        state["category"][rows] = np.array(
            [stable_hash(item.category) if item.category else NO_CATEGORY for item in items], np.uint64
        )
        state["available"][rows] = [item.available for item in items]
        self._changed(rows[changed])

    def delete(self, item_ids: Sequence[str]) -> None:
        """Deletions of unknown items mean nothing."""
        rows = self.rows_of(item_ids)
        rows = rows[rows >= 0]
        if len(rows):
            self._arena.arrays["available"][rows] = False
            self._changed(rows[:0])

    def changed_since(self, version: int) -> Rows:
        """The rows whose content changed after a version; whether items are available is not part of it."""
        return np.flatnonzero(self._arena.arrays["changed_at"][: len(self)] > version)

    def table(self, rows: Rows | None = None) -> ItemTable:
        """Some items, or all; pictures that are alike once."""
        rows = np.arange(len(self)) if rows is None else rows
        places: dict[bytes, int] = {}
        thumbnails = map(self._thumbnails.__getitem__, rows.tolist())
        picture = [-1 if one is None else places.setdefault(one, len(places)) for one in thumbnails]
        return ItemTable(
            torch.from_numpy(self.content[rows].astype(np.float32)),
            torch.from_numpy(self.bucket[rows]),
            torch.from_numpy(self._arena.arrays["parts"][rows]),
            torch.tensor(picture, dtype=torch.int64),
            torch.from_numpy(as_pixels(list(places))),
        )

    def _put_content(self, items: Sequence[Item], rows: Rows) -> npt.NDArray[np.bool_]:
        """bool[n]: whose content is not what it was."""
        content, parts = item_contents(items).astype(np.float16), self._texts.of([item.words for item in items])
        before, state = [self._thumbnails[row] for row in rows.tolist()], self._arena.arrays
        changed: npt.NDArray[np.bool_] = state["changed_at"][rows] == NEVER_CHANGED
        for name, now in (("content", content), ("parts", 0 if parts is None else parts.astype(np.int16))):
            changed |= (state[name][rows] != now).any(1)
            state[name][rows] = now
        for place, (row, item) in enumerate(zip(rows.tolist(), items, strict=True)):
            changed[place] |= before[place] != item.thumbnail
            self._thumbnails[row] = item.thumbnail
        return changed

    def _changed(self, rows: Rows) -> None:
        """The version comes last: who reads it on another thread before he reads rows misses no change of them."""
        self._arena.arrays["changed_at"][rows] = self.version + 1
        self.version += 1

    def _row(self, item_id: str) -> int:
        row = self._rows.setdefault(item_key(item_id), len(self.item_ids))
        if row == len(self.item_ids):
            self._arena.grow_to(row + 1)
            self._thumbnails.append(None)
            self.item_ids.append(item_id)  # last: other threads read as many rows as there are ids
        return row
