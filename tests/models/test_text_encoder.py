"""Texts as hashed parts: alike where they are written alike, bounded and harmless whatever is written."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from models import text_encoder
from models.text_encoder import (
    TextEncoder,
    TextParts,
)
from models.text_reading import CHARACTERS_A_PART, DIGIT_AT_LETTER, HIDDEN_CHARACTER, MIXED_ALPHABETS

BUCKETS, MOST = 8_192, 48
#: Of "rent may" and "家賃", ten at most.
PINNED = [
    [8176, 7647, 748, 5884, 4005, 3013, 1223, 6593, 2842, 4102],
    [1804, 3922, 3467, 2051, 0, 0, 0, 0, 0, 0],
]
#: Any text at all, lone surrogates and control characters among it.
texts = st.text(st.characters(), max_size=60)


def parts(text: str, most: int = 256) -> set[int]:
    found = TextParts(BUCKETS, most).of([text])
    return set() if found is None else set(found[0].tolist()) - {0}


def signs(text: str) -> set[int]:
    return parts(text) & {MIXED_ALPHABETS, DIGIT_AT_LETTER, HIDDEN_CHARACTER}


def test_case_form_and_the_digits_of_numbers_do_not_matter() -> None:
    assert parts("Invoice 4711") == parts("invoice  12")
    assert parts("\uff30\uff41\uff59\u3000\uff4d\uff45") == parts("pay me")
    assert parts("Rente für März ٤٢") == parts("RENTE FÜR MÄRZ 7")
    assert parts("gift card") != parts("card gift")


@pytest.mark.parametrize(
    ("one", "other"),
    [("PayPal", "PayPa1"), ("Amazon", "Arnazon"), ("Überweisung", "Uberweisung"), ("日本語の家賃", "日本語の水道代")],
)
def test_what_is_written_nearly_alike_shares_some_parts_and_misses_others(one: str, other: str) -> None:
    assert parts(one) & parts(other)
    assert parts(one) - parts(other)
    assert parts(other) - parts(one)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PayPal invoice 4711, O'Neill, naïve Ærø", set()),
        ("счёт за май", set()),
        ("家賃 5月 rent, Ελλάδα rent", set()),
        ("سلام‌علیکم", set()),  # Persian is written with invisible characters
        ("P\u0430ypal", {MIXED_ALPHABETS}),  # a Cyrillic letter
        ("\u03c1aypal", {MIXED_ALPHABETS}),
        ("PayPa1", {DIGIT_AT_LETTER}),
        ("Pay\u200bPal", {HIDDEN_CHARACTER}),
        ("Pay\x00Pal", {HIDDEN_CHARACTER}),
        ("P\u0430y\u00adPa1", {MIXED_ALPHABETS, HIDDEN_CHARACTER, DIGIT_AT_LETTER}),
    ],
)
def test_disguises_have_signs_of_their_own(text: str, expected: set[int]) -> None:
    assert signs(text) == expected


def test_hidden_characters_do_not_change_what_is_read() -> None:
    assert parts("Pay\u200bPal") - {HIDDEN_CHARACTER} == parts("PayPal")


def test_combining_marks_belong_to_their_words() -> None:
    assert parts("किराया मई") == parts("किराया, मई")
    assert len(parts("किराया", most=4)) == 4
    assert parts("किराया") & parts("किराये")


def test_parts_are_those_that_models_were_trained_with() -> None:
    found = TextParts(BUCKETS, 10).of(["rent may", "家賃"])
    assert found is not None
    assert found.tolist() == PINNED


@given(st.lists(st.none() | texts, max_size=12), st.integers(8, 65_536), st.integers(1, 40))
def test_any_text_has_a_bounded_row_of_parts_that_depends_on_nothing_else(
    many: list[str | None], buckets: int, most: int
) -> None:
    together = TextParts(buckets, most)
    found = together.of(many)
    if found is None:
        assert not any(many)
        return
    assert found.shape == (len(many), most)
    assert ((found >= 0) & (found < buckets)).all()
    assert not ((found[:, 1:] > 0) & (found[:, :-1] == 0)).any()
    for text, row in zip(many, found, strict=True):
        alone = TextParts(buckets, most).of([text])
        assert row.tolist() == ([0] * most if alone is None else alone[0].tolist())
    again = together.of(many)
    assert again is not None
    assert np.array_equal(again, found)


@given(st.lists(st.none() | texts, min_size=1, max_size=12))
def test_different_texts_are_told_once(many: list[str | None]) -> None:
    memory = TextParts(BUCKETS, MOST)
    distinct, expected = memory.distinct(many), memory.of(many)
    if distinct is None or expected is None:
        assert distinct is expected
        return
    assert distinct.rows.tolist() == [row for row, text in enumerate(many) if text]
    assert np.array_equal(distinct.parts[distinct.which], expected[distinct.rows])
    assert len(distinct.parts) <= len({text for text in many if text})


@pytest.mark.parametrize(
    "unit", ["x", "word ", "\u0300", "\ufdfa", "a\u0430", "a1", "a\u200b", "\0", "\ud800", "家", "\u202e"]
)
def test_of_a_megabyte_only_the_beginning_is_read(unit: str) -> None:
    longest = CHARACTERS_A_PART * MOST
    huge = (unit * 1_000_000)[:1_000_000]
    memory = TextParts(BUCKETS, MOST)
    found, beginning = memory.of([huge]), memory.of([huge[:longest]])
    assert found is not None
    assert beginning is not None
    assert np.array_equal(found, beginning)


def test_a_memory_that_grew_too_large_forgets_but_answers_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "REMEMBERED", 10)
    memory = TextParts(BUCKETS, MOST)
    for first in range(0, 60, 6):
        many = [f"{chr(97 + number % 26)}name of {number // 26}" for number in range(first, first + 6)]
        assert np.array_equal(memory.of(many), TextParts(BUCKETS, MOST).of(many))
        assert len(memory) <= 10 + 6


def test_nothing_given_is_nothing_to_encode() -> None:
    assert TextParts(BUCKETS, MOST).of([None, "", None]) is None
    assert TextParts(BUCKETS, MOST).of([]) is None


def test_a_text_without_any_part_is_encoded_as_zero() -> None:
    encoder = TextEncoder(BUCKETS, 5)
    found = TextParts(BUCKETS, MOST).of([" \n", None, "rent"])
    assert found is not None
    encoded = encoder(torch.from_numpy(found))
    assert encoded.shape == (3, 5)
    assert not encoded[:2].any()
    assert encoded[2].all()


def test_only_the_parts_that_were_read_learn() -> None:
    encoder = TextEncoder(BUCKETS, 5)
    found = TextParts(BUCKETS, MOST).of(["rent may"])
    assert found is not None
    encoder(torch.from_numpy(found)).sum().backward()
    moved = encoder.parts.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert moved == sorted(parts("rent may", MOST))


def test_an_encoder_learns_a_word_in_any_company() -> None:
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghijklmnop"), 5)) for _ in range(200)]
    wanted = torch.arange(2_400) % 2 == 0
    many = [" ".join(draw.choice(words, 4)) + " forward" * is_one for is_one in wanted.tolist()]
    found = TextParts(BUCKETS, MOST).of(many)
    assert found is not None
    parts_BM = torch.from_numpy(found)
    torch.manual_seed(0)
    network = nn.Sequential(TextEncoder(BUCKETS, 4), nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.03, fused=True)
    for step in range(50):
        rows = slice(40 * step, 40 * step + 40)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(network(parts_BM[rows])[:, 0], wanted[rows].float()).backward()
        optimizer.step()
    unseen = slice(2_000, None)
    assert ((network(parts_BM[unseen])[:, 0] > 0) == wanted[unseen]).float().mean() > 0.95
