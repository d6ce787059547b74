"""The catalogue in use keeps up with the items in SQL, between two batches and never in the middle of one."""

from base64 import b64encode
from dataclasses import dataclass

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.catalogue import Catalogue
from models.pictures import thumbnail
from storage.database import Database, DatabaseUnavailable
from streams import catalogue_watch
from streams.catalogue_watch import CatalogueWatch, version_name
from streams.recommendation_metrics import RecommendationMetrics
from tests.pictures import BLUE_JPEG, RED_PNG
from tests.streams.bench import NOW, Bench, SometimesAway
from tests.streams.shop_bench import ITEMS, deletion, item, items_bench, some_items


@dataclass
class Watched:
    """A watch with the catalogue that it feeds."""

    watch: CatalogueWatch
    catalogue: Catalogue
    numbers: CollectorRegistry

    def catch_up(self) -> str:
        """Looks once, then takes until nothing waits."""
        self.watch.look()
        for _ in range(10):
            self.watch.take(self.catalogue)
        return self.watch.take(self.catalogue)

    @property
    def available(self) -> list[str]:
        return sorted(self.catalogue.item_ids[row] for row in self.catalogue.available_rows.tolist())


def watched(database: Database) -> Watched:
    numbers = CollectorRegistry()
    return Watched(CatalogueWatch(database, ITEMS, RecommendationMetrics(numbers)), Catalogue(1), numbers)


@pytest.fixture
def items(database: Database) -> Bench:
    return items_bench(database, 0, 1)


def test_the_thumbnail_of_an_items_picture_reaches_the_catalogue_and_goes_with_it(
    database: Database, items: Bench
) -> None:
    found = watched(database)
    pictures = [b64encode(data).decode() for data in (RED_PNG, BLUE_JPEG, RED_PNG[:60])]
    items.run({0: [item(row, name, image=pictures[row]) for row, name in enumerate("abc")]}, NOW)
    found.catch_up()
    table = found.catalogue.table(found.catalogue.rows_of(["a", "b", "c"]))
    assert table.pixels_PX is not None
    assert table.picture_A is not None
    assert table.picture_A.tolist() == [0, 1, -1]
    assert [bytes(row) for row in table.pixels_PX.numpy()] == [thumbnail(RED_PNG), thumbnail(BLUE_JPEG)]
    version = found.catalogue.version
    items.run({0: [item(3, "a", image=pictures[0], price=5), item(4, "b"), deletion(5, "c")]}, NOW)
    found.catch_up()
    changed = found.catalogue.changed_since(version)
    assert sorted(changed.tolist()) == sorted(found.catalogue.rows_of(["a", "b"]).tolist())
    table = found.catalogue.table(found.catalogue.rows_of(["a", "b", "c"]))
    assert table.picture_A is not None
    assert table.picture_A.tolist() == [0, -1, -1]


def test_new_changed_and_deleted_items_reach_the_catalogue(database: Database, items: Bench) -> None:
    found = watched(database)
    items.run({0: [item(0, "a", title="red shoe"), item(1, "b")], 1: [item(0, "c", available=False)]}, NOW)
    found.catch_up()
    assert found.available == ["a", "b"]
    assert sorted(found.catalogue.item_ids) == ["a", "b", "c"]
    before = found.catalogue.content[found.catalogue.rows_of(["a"])].copy()
    items.run({0: [item(2, "a", title="green hat"), deletion(3, "b")], 1: [item(1, "c"), item(2, "d")]}, NOW)
    assert found.available == ["a", "b"]  # nobody has looked
    found.catch_up()
    assert found.available == ["a", "c", "d"]
    assert not np.array_equal(found.catalogue.content[found.catalogue.rows_of(["a"])], before)
    items.run({0: [item(4, "b", title="again")]}, NOW)
    found.catch_up()
    assert found.available == ["a", "b", "c", "d"]
    assert found.numbers.get_sample_value("headgate_catalogue_items", {"state": "available"}) == 4


def test_a_version_is_named_by_how_far_each_partition_was_taken_in_and_only_once_it_is_complete(
    database: Database, items: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_watch, "TAKEN_AT_ONCE", 2)
    found = watched(database)
    assert found.watch.take(found.catalogue) == "none"
    items.run({0: some_items(5), 1: [item(7, "x")]}, NOW)
    found.watch.look()
    names = []
    while len(found.catalogue) < 6:
        names.append(found.watch.take(found.catalogue))
    assert names == ["none"] * 4
    assert found.watch.take(found.catalogue) == "1:0@5 1:1@8"
    assert found.catch_up() == "1:0@5 1:1@8"
    items.run({1: [item(8, "y")]}, NOW)
    assert found.catch_up() == "1:0@5 1:1@9"


def test_versions_are_told_apart_by_the_topics_generation() -> None:
    assert version_name({}) == "none"
    assert version_name({(2, 1): 7, (1, 0): 40}) == "1:0@40 2:1@7"


def test_loading_takes_all_that_there_is_and_no_item_is_read_twice_afterwards(database: Database, items: Bench) -> None:
    items.run({0: some_items(40)}, NOW)
    found = watched(database)
    found.watch.load(found.catalogue)
    assert len(found.available) == 40
    assert found.watch.take(found.catalogue) == "1:0@40 1:1@0"
    version = found.catalogue.version
    items.run({0: [item(40, "new")]}, NOW)
    found.catch_up()
    assert found.catalogue.changed_since(version).tolist() == found.catalogue.rows_of(["new"]).tolist()


def test_an_empty_catalogue_is_warned_of_until_an_item_can_be_recommended(database: Database, items: Bench) -> None:
    found = watched(database)
    found.watch.load(found.catalogue)
    assert found.watch.warning == "the catalogue is empty: no slates until items come in on items"
    items.run({0: [item(0, "a", available=False)]}, NOW)
    found.catch_up()
    assert found.watch.warning is not None
    items.run({0: [item(1, "b")]}, NOW)
    found.catch_up()
    assert found.watch.warning is None
    items.run({0: [deletion(2, "b")]}, NOW)
    found.catch_up()
    assert found.watch.warning is not None


@pytest.mark.parametrize("refusal", ["at once", "at its end"])
def test_a_database_that_is_away_delays_changes_and_loses_none(database: Database, items: Bench, refusal: str) -> None:
    items.run({0: some_items(3)}, NOW)
    away = SometimesAway(database.engine, [refusal])
    found = watched(away)
    with pytest.raises(DatabaseUnavailable):
        found.watch.look()
    assert found.watch.take(found.catalogue) == "none"
    assert len(found.catalogue) == 0
    assert found.catch_up() == "1:0@3 1:1@0"
    assert len(found.available) == 3
