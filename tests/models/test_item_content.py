"""Item contents: alike for like items, whatever is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import Catalogue
from models.item_content import (
    ID_BUCKETS,
    ITEM_CONTENT,
    MOST_CHARACTERS,
    TEXT_BUCKETS,
    TEXT_PARTS,
    Item,
    id_buckets,
    item_contents,
)

texts = st.none() | st.text(max_size=40)
items = st.builds(Item, st.text(min_size=1), texts, texts, texts, st.none() | st.floats(0, 1e9))


@given(st.lists(items, max_size=5))
def test_every_item_has_finite_contents_that_do_not_depend_on_its_neighbours(several: list[Item]) -> None:
    together = item_contents(several)
    assert together.shape == (len(several), ITEM_CONTENT)
    assert np.isfinite(together).all()
    for row, item in enumerate(several):
        np.testing.assert_array_equal(item_contents([item])[0], together[row])


def test_items_with_the_same_words_lie_closer_than_items_with_others() -> None:
    red, also_red, other = item_contents(
        [Item("1", "red running shoes"), Item("2", "Running shoes, red!"), Item("3", "cast iron pan")]
    )
    assert red @ also_red > 0.99
    assert red @ other < 0.5


def test_buckets_of_ids_are_stable_and_leave_the_first_for_items_without_an_id() -> None:
    buckets = id_buckets([f"item-{number}" for number in range(2_000)])
    assert buckets.min() >= 1
    assert buckets.max() < ID_BUCKETS
    assert len(set(buckets.tolist())) > 1_800


@pytest.mark.parametrize(
    "text",
    [
        "words " * 170_000,
        "x" * 1_000_000,
        "слова 言葉 λόγος कलम \u0627\u0644\u0643 " * 40_000,
        "\0\x1b\u202e\ud800" * 250_000,
        "",
        " \t\n ",
    ],
)
def test_of_a_megabyte_of_any_text_only_the_beginning_is_read(text: str) -> None:
    whole, beginning = Item("1", title="Boots", text=text), Item("1", title="Boots", text=text[:MOST_CHARACTERS])
    np.testing.assert_array_equal(item_contents([whole]), item_contents([beginning]))
    assert len(whole.words) <= MOST_CHARACTERS
    catalogue = Catalogue()
    catalogue.put([whole, beginning])
    parts = catalogue.table().parts_AM
    assert parts is not None
    assert parts.shape == (1, TEXT_PARTS)
    assert int((parts > 0).sum()) > 0
    assert int(parts.max()) < TEXT_BUCKETS
