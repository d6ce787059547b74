"""Memos as payments carry them: some that recur, some that differ in a number only, some that nobody wrote before.

Pure: the same generator and numbers give the same texts. They say nothing of fraud.
"""

import numpy as np

from ops.simulate.payments import BUSINESS_MEMOS, MEMOS

#: Of the memos; the rest is written once.
RECURRING_SHARE, NUMBERED_SHARE = 0.4, 0.4
NUMBERED = (
    "invoice {}",
    "order {} thank you",
    "Rechnung Nr. {}",
    "ref {}/2026",
    "facture {}",
    "customer {} contract {}",
)
WORDS = (
    *(
        "rent",
        "dinner",
        "with",
        "for",
        "the",
        "trip",
        "to",
        "school",
        "summer",
        "tickets",
        "birthday",
        "present",
        "half",
    ),
    *("garden", "repair", "share", "of", "house", "und", "Miete", "für", "Urlaub", "danke", "merci", "cours", "maison"),
    *("regalo", "cena", "para", "viaje", "za", "prezent", "obiad", "сентябрь", "подарок", "аренда", "квартира", "за"),
)
WORDS_OF_A_MEMO = (3, 7)
SYLLABLES = ("ka", "lo", "mi", "ren", "sto", "va", "ber", "di", "nu", "tra", "fel", "osh")


def payment_memos(draw: np.random.Generator, count: int, share: float) -> list[str | None]:
    """So many, of which a share is given."""
    given, kind = draw.random(count) < share, draw.random(count)
    return [_memo(draw, float(of)) if is_given else None for is_given, of in zip(given, kind, strict=True)]


def _memo(draw: np.random.Generator, kind: float) -> str:
    if kind < RECURRING_SHARE:
        return MEMOS[int(draw.integers(BUSINESS_MEMOS))]
    if kind < RECURRING_SHARE + NUMBERED_SHARE:
        numbers = draw.integers(1_000, 1_000_000, 2).tolist()
        return NUMBERED[int(draw.integers(len(NUMBERED)))].format(*numbers)
    words = draw.integers(len(WORDS), size=int(draw.integers(*WORDS_OF_A_MEMO))).tolist()
    name = draw.integers(len(SYLLABLES), size=3).tolist()
    return f"{' '.join(WORDS[word] for word in words)} {''.join(SYLLABLES[place] for place in name).title()}"
