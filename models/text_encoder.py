"""Texts of any language as vectors, without a vocabulary: words, pairs of words and pieces of words, hashed.

A text becomes a bounded number of parts (TextParts), each the bucket of a hash; a network learns a vector for each
bucket, and their mean goes through one small layer (TextEncoder). Pieces of words (Bojanowski et al., 2017) let what
is written nearly alike share many of its parts, as "Arnazon" and "Amazon" do. What gives a disguise away in any
language has parts of its own: letters of several alphabets or digits within a word, and characters within a word that
cannot be seen. Knows nothing of what texts mean, nor of where they come from.

However long a text is, only its beginning is read, so its cost is bounded. Control characters and lone surrogates do
no harm. Shape suffixes: B texts, M parts, V numbers of a text.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

#: A memory that holds more texts than this forgets them all; what recurs is soon known again.
REMEMBERED = 30_000
#: Of a text, so many characters for each part are read.
CHARACTERS_A_PART = 8
#: Of a text's parts, words are at most this share, and so are pairs of neighbouring words: pieces need room, too.
WORDS_SHARE = 0.25
#: Characters of a piece; the beginning and the end of a word count as one each.
PIECES = (3, 4, 5)
#: What a bucket's learned vector has.
BUCKET_SIZE = 16
#: Untrained vectors are small, so that words which training never saw hardly move the mean.
UNTRAINED_SPREAD = 0.1

#: What a text may show beside its words, as buckets of their own.
MIXED_ALPHABETS, DIGIT_IN_WORD, HIDDEN_CHARACTER = 1, 2, 3
SIGNS = 3

#: Anything but spaces, punctuation and symbols that keyboards have; combining marks belong to their words.
_PUNCTUATION = r"!-/:-@\[-\^`{-~\u00a1-\u00bf\u2010-\u205e\u3000-\u303f"
_WORD = re.compile(rf"[^\s{_PUNCTUATION}]+|[{_PUNCTUATION}]")
_DIGITS = re.compile(r"\d+")
#: Lower case. Alphabets from Greek to Cherokee have letters that look like Latin ones.
_LATIN = r"a-z\u00df-\u024f\u1e00-\u1eff"
_LOOK_ALIKE = r"\u0370-\u03ff\u0400-\u052f\u0531-\u058f\u13a0-\u13ff\uab70-\uabbf\u1f00-\u1fff"
_BETWEEN = rf"[^\W{_LATIN}{_LOOK_ALIKE}]*"
_MIXED_WORD = re.compile(rf"[{_LATIN}]{_BETWEEN}[{_LOOK_ALIKE}]|[{_LOOK_ALIKE}]{_BETWEEN}[{_LATIN}]")
_LETTER = rf"[{_LATIN}{_LOOK_ALIKE}]"
_DIGIT_IN_WORD = re.compile(rf"{_LETTER}\d|\d{_LETTER}")
_HIDDEN = r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
_HIDDEN_CHARACTERS = re.compile(rf"[{_HIDDEN}]+")
#: In these alphabets; others need invisible characters to be written well.
_HIDDEN_IN_WORD = re.compile(rf"{_LETTER}[{_HIDDEN}]+{_LETTER}")

#: From this character on, scripts write words without spaces; two characters are a piece there.
_IDEOGRAPHS = 0x2E80
_ODD = 0x9E3779B97F4A7C15

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NormalText:
    """words: between single spaces. signs: buckets."""

    words: str
    signs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DistinctTexts:
    """Those of n texts that are given, each different one once. rows int64[k]: which of the n they are; which int64[k]:
    each one's row of parts; parts int64[d, most]."""

    rows: Places
    which: Places
    parts: npt.NDArray[np.int64]


class TextParts:
    """Texts -> bucket numbers of their parts, 1 to buckets - 1; fewer than `most` are filled up with 0."""

    def __init__(self, buckets: int, most: int) -> None:
        """buckets: 8 to 65,536."""
        self._buckets = buckets
        self._most = most
        self._longest = CHARACTERS_A_PART * most
        self._rows: dict[str, int] = {}
        self._normal_rows: dict[NormalText, int] = {}
        self._parts = np.zeros((1024, most), np.uint16)

    def __len__(self) -> int:
        """Texts that are remembered."""
        return len(self._rows)

    def of(self, texts: Collection[str | None]) -> npt.NDArray[np.int64] | None:
        """int64[n, most], or None where no text is given; an empty text is not."""
        distinct = self.distinct(texts)
        if distinct is None:
            return None
        parts = np.zeros((len(texts), self._most), np.int64)
        parts[distinct.rows] = distinct.parts[distinct.which]
        return parts

    def distinct(self, texts: Collection[str | None]) -> DistinctTexts | None:
        """The same, with texts that read alike only once."""
        given = [(row, text[: self._longest]) for row, text in enumerate(texts) if text]
        if not given:
            return None
        if len(self._rows) > REMEMBERED:
            self._forget()
        rows, beginnings = zip(*given, strict=True)
        self._learn([text for text in dict.fromkeys(beginnings) if text not in self._rows])
        found = np.fromiter(map(self._rows.__getitem__, beginnings), np.int64, len(given))
        different, which = np.unique(found, return_inverse=True)
        return DistinctTexts(np.array(rows), which, self._parts[different].astype(np.int64))

    def _learn(self, texts: Sequence[str]) -> None:
        normal = [normalised(text, self._longest) for text in texts]
        unknown = [each for each in dict.fromkeys(normal) if each not in self._normal_rows]
        first = len(self._normal_rows)
        last = first + len(unknown)
        if last > len(self._parts):
            larger = np.zeros((max(last, 2 * len(self._parts)), self._most), np.uint16)
            larger[:first] = self._parts[:first]
            self._parts = larger
        if unknown:
            self._parts[first:last] = parts_of(unknown, self._buckets, self._most)
        self._normal_rows.update(zip(unknown, range(first, last), strict=True))
        self._rows.update(zip(texts, map(self._normal_rows.__getitem__, normal), strict=True))

    def _forget(self) -> None:
        self._rows.clear()
        self._normal_rows.clear()


def normalised(text: str, longest: int) -> NormalText:
    """In one form (NFKC) and one case, every number as 0; at most so many characters."""
    signs = []
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", text).casefold()[:longest]
        if _MIXED_WORD.search(text):
            signs.append(MIXED_ALPHABETS)
    if not text.isprintable():
        if _HIDDEN_IN_WORD.search(text):
            signs.append(HIDDEN_CHARACTER)
        text = _HIDDEN_CHARACTERS.sub("", text)
    if _DIGIT_IN_WORD.search(text):
        signs.append(DIGIT_IN_WORD)
    return NormalText(" ".join(_WORD.findall(_DIGITS.sub("0", text))), tuple(signs))


def parts_of(texts: Sequence[NormalText], buckets: int, most: int) -> npt.NDArray[np.int64]:
    """int64[n, most]: signs first, then words, pairs of words and pieces, each kind from the beginning of its text on
    as far as there is room."""
    parts = np.zeros((len(texts), most), np.int64)
    filled = np.zeros(len(texts), np.int64)
    for row, each in enumerate(texts):
        filled[row] = min(len(each.signs), most)
        parts[row, : filled[row]] = each.signs[:most]
    stream = _Stream([text.words for text in texts])
    for first, stop, share in stream.parts():
        text = stream.text[first]
        count = np.bincount(text, minlength=len(texts))
        rank = np.arange(len(text)) - np.repeat(count.cumsum() - count, count)
        place = filled[text] + rank
        fits = (rank < max(1, int(share * most))) & (place < most)
        text, hashes = text[fits], stream.hashes(first[fits], stop[fits])
        parts[text, place[fits]] = 1 + SIGNS + (hashes % np.uint64(buckets - 1 - SIGNS)).astype(np.int64)
        filled += np.bincount(text, minlength=len(texts))
    return parts


class _Stream:
    """Normalised texts one after the other, as code points, with a space before and behind each word. The hash of a
    part is that of its characters, wherever it stands and on any machine: a polynomial modulo 2**64, its bits mixed as
    at the end of MurmurHash3 (Appleby, 2011)."""

    def __init__(self, texts: Sequence[str]) -> None:
        spaced = [f" {text} " for text in texts]
        encoded = "".join(spaced).encode("utf-32-le", "surrogatepass")
        self._codes = np.frombuffer(encoded, np.uint32)
        #: Which text each character is of.
        self.text = np.repeat(np.arange(len(texts)), np.fromiter(map(len, spaced), np.int64, len(spaced)))
        size = len(self._codes)
        powers = np.full(size, _ODD, np.uint64).cumprod(dtype=np.uint64)
        self._sums = np.append(np.uint64(0), np.cumsum(self._codes * powers, dtype=np.uint64))
        self._inverse_powers = np.full(size, pow(_ODD, -1, 2**64), np.uint64).cumprod(dtype=np.uint64)

    def parts(self) -> Iterator[tuple[Places, Places, float]]:
        """First character and the one behind the last of each part, kind after kind, each in the order of texts; the
        share of a text's parts that may be of this kind."""
        space = self._codes == ord(" ")
        first = np.flatnonzero(space[:-1] & ~space[1:])
        stop = np.flatnonzero(~space[:-1] & space[1:]) + 2
        yield first, stop, WORDS_SHARE
        neighbours = np.flatnonzero(self.text[first[:-1]] == self.text[first[1:]])
        yield first[neighbours], stop[neighbours + 1], WORDS_SHARE
        ideograph = self._codes >= _IDEOGRAPHS
        first = np.flatnonzero(ideograph[:-1] & ideograph[1:])
        yield first, first + 2, 1.0
        spaces = np.append(0, np.cumsum(space))
        for length in PIECES:
            first = np.arange(max(0, len(space) - length + 1))
            within_word = spaces[first + length - 1] == spaces[first + 1]
            whole_word = space[first] & space[first + length - 1]
            first = first[within_word & ~whole_word]
            yield first, first + length, 1.0

    def hashes(self, first: Places, stop: Places) -> npt.NDArray[np.uint64]:
        """Of the characters from `first` to before `stop`."""
        mixed: npt.NDArray[np.uint64] = (self._sums[stop] - self._sums[first]) * self._inverse_powers[first]
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            mixed ^= mixed >> np.uint64(33)
            mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(33)
        return mixed


class TextEncoder(nn.Module):
    """Learns with whatever uses it. Trained vectors of parts need gradients only where texts are given."""

    def __init__(self, buckets: int, size: int) -> None:
        super().__init__()
        self.parts = nn.EmbeddingBag(buckets, BUCKET_SIZE, mode="mean", padding_idx=0)
        self.layer = nn.Linear(BUCKET_SIZE, size)
        nn.init.normal_(self.parts.weight, std=UNTRAINED_SPREAD)
        with torch.no_grad():
            self.parts.weight[0] = 0.0

    def forward(self, parts_BM: Tensor) -> Tensor:
        """[B, V], between -1 and 1; zero for a text without any part."""
        return torch.tanh(self.layer(self.parts(parts_BM))) * (parts_BM[:, :1] > 0)

    def of_rows(self, texts: DistinctTexts, count: int) -> Tensor:
        """[count, V]: zero where no text is given."""
        device = self.layer.weight.device
        rows, which, parts_BM = (torch.from_numpy(part).to(device) for part in (texts.rows, texts.which, texts.parts))
        encoded: Tensor = self(parts_BM)
        return encoded.new_zeros(count, encoded.shape[1]).index_copy(0, rows, encoded.index_select(0, which))
