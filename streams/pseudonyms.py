"""What stands for people in everything that is kept: keyed pseudonyms of ids, of words of memos, of whole records.

HMAC-SHA256 under keys that only the settings have, so that nobody without a key can tell whose a pseudonym is, nor try
ids out; a plain hash would let anybody do that. A pseudonym names its key (`k2.` and 22 characters), and the first key
makes them; the others are there to recognise what was made before. Pure; knows neither Kafka nor SQL.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from models.feature_schema import MEMO_CHARACTERS
from models.text_reading import DIGIT_AT_LETTER, HIDDEN_CHARACTER, MIXED_ALPHABETS, words_of

#: Of a key, in bytes; and how many different bytes it has at least, so that no typed phrase or filler passes.
LEAST_KEY, LEAST_DISTINCT = 32, 16
#: Bytes of a digest that a pseudonym keeps: among a thousand million people, two share one once in 10**20 systems.
KEPT_DIGEST = 16
#: Letters of a word's pseudonym: far more words than a detector tells apart (its buckets), and short, since of a memo
#: only the beginning is read.
WORD_LETTERS = 6
#: A memory that holds more than this forgets all; what recurs is soon known again.
REMEMBERED = 200_000
#: What a memo shows beside its words (models/text_reading.py), as words of their own that show the same.
SHOWN = {MIXED_ALPHABETS: "a\u03b1", DIGIT_AT_LETTER: "a0", HIDDEN_CHARACTER: "a\u200bb"}

_KEY_ID = re.compile(r"[a-z0-9]{1,16}")
_DIGEST = re.compile(r"[A-Za-z0-9_-]{22}")
_SPACES, _ALPHABET = " ", "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class PseudonymKey:
    """id: what pseudonyms carry; secret: never shown."""

    id: str
    secret: bytes = field(repr=False)


def parse_keys(text: str) -> tuple[PseudonymKey, ...]:
    """From id=base64key pairs with commas, as the settings have them. Raises ValueError that says what is wrong,
    without any key."""
    found: list[PseudonymKey] = []
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        key_id, equals, encoded = part.partition("=")
        if not equals or _KEY_ID.fullmatch(key_id) is None:
            raise ValueError(f"entry {number} must be id=key, the id of at most 16 small letters and digits")
        try:
            secret = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"the key of entry {number} is no base64; `openssl rand -base64 32` makes one") from None
        if len(secret) < LEAST_KEY or len(set(secret)) < LEAST_DISTINCT:
            raise ValueError(
                f"the key of entry {number} is weak: {LEAST_KEY} random bytes are needed; "
                "`openssl rand -base64 32` makes them"
            )
        if any(key_id == other.id or secret == other.secret for other in found):
            raise ValueError(f"the id or the key of entry {number} is there twice")
        found.append(PseudonymKey(key_id, secret))
    return tuple(found)


class Pseudonyms:
    """Of one set of keys. May be used by several threads."""

    def __init__(self, keys: Sequence[PseudonymKey]) -> None:
        """At least one; the first makes pseudonyms."""
        self._keys = tuple(keys)
        self._ids: dict[str, str] = {}
        self._words: dict[str, str] = {}

    @staticmethod
    def of_keys(text: str) -> "Pseudonyms | None":
        """As the settings have the keys; None without any. Raises ValueError."""
        keys = parse_keys(text)
        return Pseudonyms(keys) if keys else None

    @property
    def key_ids(self) -> list[str]:
        """The current one first."""
        return [key.id for key in self._keys]

    def of(self, entity: str) -> str:
        """Of an account_id or user_id: equal for equal ids, as long as the current key stays."""
        return self.of_all((entity,))[0]

    def of_all(self, entities: Iterable[str]) -> list[str]:
        known = self._ids
        if len(known) > REMEMBERED:
            known = self._ids = {}
        found = []
        for entity in entities:
            pseudonym = known.get(entity)
            if pseudonym is None:
                pseudonym = known[entity] = _pseudonym(self._keys[0], b"id", entity.encode())
            found.append(pseudonym)
        return found

    def under_every_key(self, entity: str) -> list[str]:
        """What the id is called wherever it was stored under one of our keys, the current one first."""
        return [_pseudonym(key, b"id", entity.encode()) for key in self._keys]

    def of_subject(self, named: str) -> str:
        """Of an id that feedback is about, which may be a pseudonym already: whoever read it from an alert has no
        other name for it."""
        key_id, dot, digest = named.partition(".")
        made_here = dot and key_id in self.key_ids and _DIGEST.fullmatch(digest) is not None
        return named if made_here else self.of(named)

    def of_erased(self, entity: str) -> str:
        """By which a log says who was erased: no table has it otherwise."""
        return _pseudonym(self._keys[0], b"erased", entity.encode())

    def of_record(self, content: bytes, key_id: str | None = None) -> str:
        """Of a whole record, to recognise it by; under the current key unless another one is named. Raises KeyError
        for a key that is not among ours."""
        key = self._keys[0] if key_id is None else {key.id: key for key in self._keys}[key_id]
        return _pseudonym(key, b"record", content)

    def of_memos(self, memos: Sequence[str | None]) -> list[str | None]:
        """The memos' beginnings, as far as a detector reads them: each word as a keyed word of letters, so that equal
        words stay equal and nobody can read them; each number as 0; what else they show as words that show it."""
        if len(self._words) > REMEMBERED:
            self._words = {}
        given = [(row, memo[:MEMO_CHARACTERS]) for row, memo in enumerate(memos) if memo]
        found: list[str | None] = [None] * len(memos)
        if given:
            read = words_of([memo for _, memo in given])
            for (row, _), (words, signs) in zip(given, read, strict=True):
                found[row] = _SPACES.join([SHOWN[sign] for sign in signs] + [self._word(word) for word in words])
        return found

    def _word(self, word: str) -> str:
        known = self._words.get(word)
        if known is None:
            known = (
                word
                if word == "0"
                else _letters(_digest(self._keys[0], b"word", word.encode("utf-8", "surrogatepass")))
            )
            self._words[word] = known
        return known


def _pseudonym(key: PseudonymKey, kind: bytes, content: bytes) -> str:
    digest = _digest(key, kind, content)[:KEPT_DIGEST]
    return f"{key.id}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _digest(key: PseudonymKey, kind: bytes, content: bytes) -> bytes:
    """kind: so that no word's pseudonym tells an id's."""
    return hmac.digest(key.secret, kind + b"\0" + content, "sha256")


def _letters(digest: bytes) -> str:
    number, letters = int.from_bytes(digest[:8]), []
    for _ in range(WORD_LETTERS):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)
