"""Texts of any language as vectors, without a vocabulary: a network learns a vector for each bucket of hashed parts.

TextParts gives each text the buckets of its parts (text_reading.py), a bounded number, and remembers them for texts
that recur; the mean of their vectors goes through one small layer (TextEncoder). What is written nearly alike
("Amazon", "Arnazon") shares some parts and misses others. Knows nothing of what texts mean, nor of where they come
from. However long a text is, only its beginning is read. Shape suffixes: B texts, M parts, V numbers of a text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.text_reading import CHARACTERS_A_PART, Reading, in_one_form

#: A memory that holds more texts than this forgets them all; what recurs is soon known again.
REMEMBERED = 30_000
#: What a bucket's learned vector has.
BUCKET_SIZE = 16
#: Untrained vectors are small, so that words which training never saw hardly move the mean.
UNTRAINED_SPREAD = 0.1

#: Rows of parts that there are none of.
_UNKNOWN, _NOT_GIVEN = -1, -2
_NOTHING: dict[str | None, int] = {None: _NOT_GIVEN, "": _NOT_GIVEN}

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DistinctTexts:
    """Those of n texts that are given, each different one once. rows int64[k]: which of the n they are; which int64[k]:
    each one's row of parts; parts int64[d, most]."""

    rows: Places
    which: Places
    parts: Places


class TextParts:
    """Texts -> bucket numbers of their parts, 1 to buckets - 1; fewer than `most` are filled up with 0."""

    def __init__(self, buckets: int, most: int) -> None:
        """buckets: 8 to 65,536."""
        self._buckets = buckets
        self._most = most
        self._longest = CHARACTERS_A_PART * most
        self._rows: dict[str | None, int] = dict(_NOTHING)
        self._rows_by_key: dict[int, int] = {}
        self._parts = np.zeros((1024, most), np.uint16)

    def __len__(self) -> int:
        """Texts that are remembered."""
        return len(self._rows)

    def of(self, texts: Sequence[str | None]) -> npt.NDArray[np.int64] | None:
        """int64[n, most], or None where no text is given; an empty text is not."""
        distinct = self.distinct(texts)
        if distinct is None:
            return None
        parts = np.zeros((len(texts), self._most), np.int64)
        parts[distinct.rows] = distinct.parts[distinct.which]
        return parts

    def distinct(self, texts: Sequence[str | None]) -> DistinctTexts | None:
        """The same, with texts that read alike only once."""
        if len(self._rows) > REMEMBERED:
            self._rows = dict(_NOTHING)
            self._rows_by_key.clear()
        found = np.fromiter(map(self._rows.get, texts, repeat(_UNKNOWN)), np.int64, len(texts))
        if len(unknown := np.flatnonzero(found == _UNKNOWN)):
            beginnings = [(texts[row] or "")[: self._longest] for row in unknown.tolist()]
            self._learn([text for text in dict.fromkeys(beginnings) if text not in self._rows])
            found[unknown] = [self._rows[text] for text in beginnings]
        rows = np.flatnonzero(found >= 0)
        if not len(rows):
            return None
        different, which = np.unique(found[rows], return_inverse=True)
        return DistinctTexts(rows, which, self._parts[different].astype(np.int64))

    def _learn(self, texts: Sequence[str]) -> None:
        """Texts that read alike share a row."""
        if not texts:
            return
        reading = Reading.of([in_one_form(text, self._longest) for text in texts])
        keys = reading.keys().tolist()
        place_of = dict(zip(keys, range(len(keys)), strict=True))
        places = sorted(place for key, place in place_of.items() if key not in self._rows_by_key)
        first, last = len(self._rows_by_key), len(self._rows_by_key) + len(places)
        if last > len(self._parts):
            larger = np.zeros((max(last, 2 * len(self._parts)), self._most), np.uint16)
            larger[:first] = self._parts[:first]
            self._parts = larger
        if places:
            self._parts[first:last] = reading.taken(np.array(places)).parts(self._buckets, self._most)
        self._rows_by_key.update(zip([keys[place] for place in places], range(first, last), strict=True))
        self._rows.update(zip(texts, map(self._rows_by_key.__getitem__, keys), strict=True))


class TextEncoder(nn.Module):
    """Learns with whatever uses it. Vectors of parts get gradients only where texts are given."""

    def __init__(self, buckets: int, size: int) -> None:
        super().__init__()
        self.parts = nn.Embedding(buckets, BUCKET_SIZE)
        self.layer = nn.Linear(BUCKET_SIZE, size)
        nn.init.normal_(self.parts.weight, std=UNTRAINED_SPREAD)

    def forward(self, parts_BM: Tensor) -> Tensor:
        """[B, V], between -1 and 1; zero for a text without any part."""
        given_BM = parts_BM > 0
        count_B = given_BM.sum(1)
        mean = functional.embedding_bag(parts_BM[given_BM], self.parts.weight, count_B.cumsum(0) - count_B, mode="mean")
        return torch.tanh(self.layer(mean)) * (count_B > 0)[:, None]

    def of_rows(self, texts: DistinctTexts, count: int) -> Tensor:
        """[count, V]: zero where no text is given."""
        device = self.layer.weight.device
        rows, which, parts_BM = (torch.from_numpy(part).to(device) for part in (texts.rows, texts.which, texts.parts))
        encoded: Tensor = self(parts_BM)
        return encoded.new_zeros(count, encoded.shape[1]).index_copy(0, rows, encoded.index_select(0, which))
