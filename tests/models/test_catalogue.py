"""The catalogue: rows stay with their items, and whoever follows its changes knows what it knows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalogue import NO_CATEGORY, Catalogue, item_key
from models.hashing import hashes, stable_hash
from models.item_content import ITEM_CONTENT, Item, id_buckets, item_contents
from models.pictures import SIDE
from tests.models.engagement_logs import items

RED, BLUE = bytes([255, 0, 0]) * (SIDE * SIDE), bytes([0, 0, 255]) * (SIDE * SIDE)
ids = st.sampled_from([f"item-{number}" for number in range(12)])
item = st.builds(
    Item,
    item_id=ids,
    title=st.sampled_from([None, "blue shoes", "red hat"]),
    category=st.sampled_from([None, "", "shoes", "hats"]),
    price=st.sampled_from([None, 0.0, -4.0, 20.0, 1e12]),
    available=st.booleans(),
    thumbnail=st.sampled_from([None, RED, BLUE]),
)
#: Puts are lists of items, deletions lists of ids.
changes = st.lists(st.one_of(st.lists(item, max_size=6), st.lists(ids, max_size=4)), max_size=8)


def content_of(catalogue: Catalogue, row: int) -> tuple[bytes, bytes, bytes]:
    """All that a vector is made of but the id."""
    table = catalogue.table(np.array([row]))
    assert table.parts_AM is not None
    assert table.pixels_PX is not None
    return table.content_AF.numpy().tobytes(), table.parts_AM.numpy().tobytes(), table.pixels_PX.numpy().tobytes()


def changed(catalogue: Catalogue, change: list[Item] | list[str]) -> None:
    if change and isinstance(change[0], str):
        catalogue.delete(change)
    else:
        catalogue.put(change)


@given(changes)
def test_a_catalogue_holds_the_latest_state_of_each_item_in_a_row_that_stays_its_own(changes: list) -> None:
    catalogue, latest, rows = Catalogue(1), dict[str, Item](), dict[str, int]()
    for change in changes:
        changed(catalogue, change)
        for one in change:
            if isinstance(one, Item):
                latest[one.item_id] = one
            elif one in latest:
                latest[one] = Item(
                    **{name: getattr(latest[one], name) for name in Item.__slots__} | {"available": False}
                )
        found = dict(zip(latest, catalogue.rows_of(list(latest)).tolist(), strict=True))
        assert found.items() >= rows.items()
        rows = found
    assert sorted(rows.values()) == list(range(len(catalogue))) == list(range(len(latest)))
    for item_id, one in latest.items():
        row = rows[item_id]
        assert catalogue.item_ids[row] == item_id
        assert catalogue.key[row] == item_key(item_id)
        assert catalogue.available[row] == one.available
        assert catalogue.bucket[row] == id_buckets([item_id])[0]
        assert catalogue.category[row] == (stable_hash(one.category) if one.category else NO_CATEGORY)
        assert np.array_equal(catalogue.content[row], item_contents([one])[0].astype(np.float16))
    assert catalogue.available_rows.tolist() == np.flatnonzero(catalogue.available).tolist()
    assert np.isfinite(catalogue.content).all()


@given(changes, st.lists(st.booleans(), min_size=8, max_size=8))
def test_who_reads_the_rows_that_changed_since_he_last_looked_knows_all(changes: list, looks: list[bool]) -> None:
    catalogue, seen, version = Catalogue(1), dict[int, tuple], 0
    seen = {}
    for change, look in zip(changes, looks, strict=False):
        changed(catalogue, change)
        if look:
            for row in catalogue.changed_since(version).tolist():
                seen[row] = content_of(catalogue, row)
            version = catalogue.version
            held = {row: content_of(catalogue, row) for row in range(len(catalogue))}
            assert seen == held
            assert len(catalogue.changed_since(version)) == 0


def test_of_an_item_that_occurs_twice_in_one_put_the_later_counts() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a", available=False), Item("b"), Item("a", category="late")])
    assert len(catalogue) == 2
    assert catalogue.available.tolist() == [True, True]
    assert catalogue.category[catalogue.rows_of(["a"])[0]] == stable_hash("late")


def test_a_deleted_item_keeps_its_row_and_comes_back_into_it() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a"), Item("b")])
    catalogue.delete(["a", "a", "nobody"])
    assert catalogue.available_rows.tolist() == [1]
    catalogue.put([Item("c"), Item("a")])
    assert catalogue.rows_of(["a", "b", "c"]).tolist() == [0, 1, 2]
    assert catalogue.available_rows.tolist() == [0, 1, 2]


def test_changes_of_nothing_are_no_change() -> None:
    catalogue = Catalogue()
    catalogue.put([])
    catalogue.delete(["nobody"])
    catalogue.delete([])
    assert (catalogue.version, len(catalogue), catalogue.available_rows.tolist()) == (0, 0, [])
    assert catalogue.content.shape == (0, ITEM_CONTENT)


def test_unknown_items_and_keys_have_no_row() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a")])
    assert catalogue.rows_of(["x", "a", ""]).tolist() == [-1, 0, -1]
    keys = np.array([[item_key("a"), 0], [item_key("x"), item_key("a")]])
    assert catalogue.rows_of_keys(keys).tolist() == [[0, -1], [-1, 0]]
    assert catalogue.rows_of([]).shape == (0,)


@given(st.text(max_size=200))
def test_the_key_of_an_item_is_the_signed_form_of_its_hash(item_id: str) -> None:
    assert hashes([item_id]).view(np.int64)[0] == item_key(item_id)
    assert -(2**63) <= item_key(item_id) < 2**63


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_catalogue_grows_without_forgetting(step: int) -> None:
    grown, at_once, every = Catalogue(1), Catalogue(1), items(100, categories=3)
    for start in range(0, 100, step):
        grown.put(every[start : start + step])
    at_once.put(every)
    for column in ("content", "bucket", "key", "category", "available"):
        assert np.array_equal(getattr(grown, column), getattr(at_once, column))


@given(item, item)
def test_only_another_content_makes_an_item_a_changed_one(first: Item, second: Item) -> None:
    second = replace(second, item_id=first.item_id)
    catalogue = Catalogue()
    catalogue.put([first])
    before, version = content_of(catalogue, 0), catalogue.version
    catalogue.put([second])
    assert catalogue.changed_since(version).tolist() == ([] if content_of(catalogue, 0) == before else [0])
    assert catalogue.version == version + 1


def test_pictures_that_are_alike_are_one_in_the_table() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a", thumbnail=RED), Item("b"), Item("c", thumbnail=BLUE), Item("d", thumbnail=bytes(RED))])
    table = catalogue.table()
    assert table.picture_A is not None
    assert table.pixels_PX is not None
    assert table.picture_A.tolist() == [0, -1, 1, 0]
    assert [bytes(row) for row in table.pixels_PX.numpy()] == [RED, BLUE]


def test_a_picture_that_goes_away_is_forgotten() -> None:
    catalogue = Catalogue()
    catalogue.put([Item("a", thumbnail=RED)])
    catalogue.put([Item("a")])
    table = catalogue.table()
    assert table.picture_A is not None
    assert table.picture_A.tolist() == [-1]
