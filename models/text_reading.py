"""How texts are read: one form, words between spaces, and the hashed parts that an encoder learns from.

All texts of a batch are read together, as one array of characters. Parts are words, pairs of neighbouring words and
pieces of words (Bojanowski et al., 2017), and signs of what looks like something else. Nothing here remembers or
learns anything; models/text_encoder.py does. Characters of any kind, lone surrogates among them, do no harm.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Of a text, so many characters for each part are read.
CHARACTERS_A_PART = 8
#: Of a text's parts, words are at most this share, and so are pairs of neighbouring words: pieces need room, too.
WORDS_SHARE = 0.25
#: Characters of a piece; the beginning and the end of a word count as one each.
PIECES = (3, 4, 5)
#: What a text may show beside its words, as buckets of their own: letters of several alphabets or a digit next to a
#: letter in one word, a character that cannot be seen between two letters.
MIXED_ALPHABETS, DIGIT_AT_LETTER, HIDDEN_CHARACTER = 1, 2, 3
SIGNS = 3

#: Kinds of characters. Alphabets from Greek to Cherokee have letters that look like Latin ones; other letters, marks
#: and symbols are plain.
_PLAIN, _LATIN, _LOOK_ALIKE, _DIGIT, _SPACE, _HIDDEN = range(6)
_LETTERS = {
    _LATIN: ((0x61, 0x7B), (0xDF, 0x250), (0x1E00, 0x1F00)),
    _LOOK_ALIKE: ((0x370, 0x530), (0x531, 0x58A), (0x13A0, 0x1400), (0x1F00, 0x2000), (0xAB70, 0xABC0)),
}
#: Punctuation that belongs to the word it stands at; the rest only separates words.
_BELONGING = "#%&*@"
#: All characters from here on are of the kind of this one.
_LAST = 0xFFFF
#: From this character on, scripts write words without spaces; two characters are a piece there.
_IDEOGRAPHS = 0x2E80
_ODD = 0x9E3779B97F4A7C15
_MIXING = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)

Places = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def _kind(code: int) -> int:
    """By the Unicode Character Database."""
    character = chr(code)
    category = unicodedata.category(character)
    if category == "Nd":
        return _DIGIT
    if character.isspace() or (category[0] in "ZP" and character not in _BELONGING):
        return _SPACE
    if category in ("Cc", "Cf"):
        return _HIDDEN
    kinds = (kind for kind, ranges in _LETTERS.items() if any(first <= code < stop for first, stop in ranges))
    return next(kinds, _PLAIN)


_KINDS = np.array([_kind(code) for code in range(_LAST + 1)], np.uint8)


def in_one_form(text: str, longest: int) -> str:
    """Whatever the case and the form in which characters are written (NFKC); at most so many of them."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()[:longest]


def signs_of(text: str) -> list[int]:
    """Which signs a text shows, however it is written."""
    return (np.flatnonzero(Reading.of([in_one_form(text, len(text))]).signs[0]) + 1).tolist()


def words_of(texts: Sequence[str]) -> list[tuple[list[str], list[int]]]:
    """Of each text its words, as they are read (0 for every number), and the signs that it shows."""
    reading = Reading.of([in_one_form(text, len(text)) for text in texts])
    characters = reading.codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    stops = np.bincount(reading.text, minlength=len(texts)).cumsum().tolist()
    signs: list[list[int]] = [[] for _ in texts]
    for text, sign in zip(*(found.tolist() for found in np.nonzero(reading.signs)), strict=True):
        signs[text].append(sign + 1)
    starts = [0, *stops[:-1]]
    return [(characters[a:b].split(), own) for a, b, own in zip(starts, stops, signs, strict=True)]


@dataclass(frozen=True, slots=True)
class Reading:
    """n texts one after the other: codes of characters, with a space before and behind each word and 0 for every
    number; text: which one each character is of; signs bool[n, 3]."""

    codes: npt.NDArray[np.uint32]
    text: npt.NDArray[np.int32]
    signs: npt.NDArray[np.bool_]

    @staticmethod
    def of(texts: Sequence[str]) -> "Reading":
        """texts: in one form."""
        encoded = f" {'  '.join(texts)} ".encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(encoded, np.uint32)
        text = np.repeat(np.arange(len(texts), dtype=np.int32), np.fromiter(map(len, texts), np.int64, len(texts)) + 2)
        kind = _KINDS[np.minimum(codes, _LAST)]
        hidden_between = np.zeros(len(codes) - 1, np.bool_)
        if len(seen := np.flatnonzero(kind != _HIDDEN)) < len(codes):
            codes, text, kind, hidden_between = codes[seen], text[seen], kind[seen], np.diff(seen) > 1
        signs = np.zeros((len(texts), SIGNS), np.bool_)
        for sign, found in _shown(kind, hidden_between):
            signs[text[found], sign - 1] = True
        space, digit = kind == _SPACE, kind == _DIGIT
        first = np.ones(len(codes), np.bool_)  # of several digits, or spaces within a text
        first[1:] = ~((digit[1:] & digit[:-1]) | (space[1:] & space[:-1] & (text[1:] == text[:-1])))
        codes = np.where(space, np.uint32(ord(" ")), np.where(digit, np.uint32(ord("0")), codes))
        return Reading(codes[first], text[first], signs)

    def taken(self, texts: Places) -> "Reading":
        """Of some of the texts, in their order."""
        number = np.full(len(self.signs), -1, np.int32)
        number[texts] = np.arange(len(texts))
        kept = np.flatnonzero(number[self.text] >= 0)
        return Reading(self.codes[kept], number[self.text[kept]], self.signs[texts])

    def keys(self) -> Hashes:
        """uint64[n], equal for texts that read alike."""
        length = np.bincount(self.text, minlength=len(self.signs))
        stop = length.cumsum()
        return _Hasher(self.codes).of(stop - length, stop) + self.signs @ np.array([1, 2, 4], np.uint64)

    def parts(self, buckets: int, most: int) -> npt.NDArray[np.int64]:
        """int64[n, most] buckets, filled up with 0: signs first, then words, pairs of words and pieces, each kind from
        the beginning of its text on as far as there is room."""
        parts = np.zeros((len(self.signs), most), np.int64)
        filled = np.zeros(len(parts), np.int64)
        for sign in range(min(SIGNS, most)):
            shown = np.flatnonzero(self.signs[:, sign])
            parts[shown, filled[shown]] = sign + 1
            filled[shown] += 1
        hasher = _Hasher(self.codes)
        for first, stop, share in self._parts():
            text = self.text[first]
            count = np.bincount(text, minlength=len(parts))
            rank = np.arange(len(text)) - np.repeat(count.cumsum() - count, count)
            room = np.minimum(most - filled, max(1, int(share * most)))
            fits = rank < room[text]
            text, place = text[fits], (filled[text] + rank)[fits]
            parts[text, place] = 1 + SIGNS + hasher.of(first[fits], stop[fits]) % np.uint64(buckets - 1 - SIGNS)
            filled += np.minimum(count, room)
        return parts

    def _parts(self) -> Iterator[tuple[Places, Places, float]]:
        """First character and the one behind the last of each part, kind after kind, each in the order of texts; the
        share of a text's parts that may be of this kind."""
        space = self.codes == ord(" ")
        first = np.flatnonzero(space[:-1] & ~space[1:])
        stop = np.flatnonzero(~space[:-1] & space[1:]) + 2
        yield first, stop, WORDS_SHARE
        neighbours = np.flatnonzero(self.text[first[:-1]] == self.text[first[1:]])
        yield first[neighbours], stop[neighbours + 1], WORDS_SHARE
        ideograph = self.codes >= _IDEOGRAPHS
        first = np.flatnonzero(ideograph[:-1] & ideograph[1:])
        yield first, first + 2, 1.0
        spaceless = ~space
        for length in PIECES:
            # Not across words, nor a whole word once more.
            ends = max(0, len(space) - length + 1)
            within = ~(space[:ends] & space[length - 1 :])
            for place in range(1, length - 1):
                within &= spaceless[place : place + ends]
            first = np.flatnonzero(within)
            yield first, first + length, 1.0


def _shown(kind: npt.NDArray[np.uint8], hidden_between: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Places]]:
    """Signs and characters at which they show; hidden_between: whether characters were left out behind each but the
    last."""
    look_alike, digit = kind == _LOOK_ALIKE, kind == _DIGIT
    letter = look_alike | (kind == _LATIN)
    yield HIDDEN_CHARACTER, np.flatnonzero(letter[:-1] & letter[1:] & hidden_between)
    yield DIGIT_AT_LETTER, np.flatnonzero((letter[:-1] & digit[1:]) | (digit[:-1] & letter[1:]))
    if look_alike.any():
        word = np.cumsum(kind == _SPACE)
        of_both = np.intersect1d(word[look_alike], word[kind == _LATIN])
        yield MIXED_ALPHABETS, np.flatnonzero(np.isin(word, of_both) & letter)


class _Hasher:
    """The hash of some characters in a row depends on nothing but them, on any machine: a polynomial modulo 2**64, its
    bits mixed as at the end of MurmurHash3 (Appleby, 2011)."""

    def __init__(self, codes: npt.NDArray[np.uint32]) -> None:
        powers = np.full(len(codes), _ODD, np.uint64).cumprod(dtype=np.uint64)
        self._sums = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(codes * powers, dtype=np.uint64, out=self._sums[1:])
        self._inverse_powers = np.full(len(codes) + 1, pow(_ODD, -1, 2**64), np.uint64).cumprod(dtype=np.uint64)

    def of(self, first: Places, stop: Places) -> Hashes:
        """Of the characters from `first` to before `stop`."""
        mixed: Hashes = (self._sums[stop] - self._sums[first]) * self._inverse_powers[first]
        for factor in _MIXING:
            mixed ^= mixed >> np.uint64(33)
            mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(33)
        return mixed
