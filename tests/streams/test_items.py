"""Items: the latest record of each is in SQL, whatever came before it, and a reader is given what changed."""

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import pytest

from models.catalogue import item_key
from models.pictures import thumbnail
from storage.catalogue import ItemColumns, catalogue_positions, changed_items, upsert_items
from storage.database import Database
from storage.label_state import begin_snapshot
from storage.progress import audit
from streams.health import FlowMetrics
from streams.items import ItemsProcessor
from streams.records import DecodeLimits
from streams.rows import RowEncoder
from tests.pictures import RED_PNG, claimed_png
from tests.storage.rows import NOON
from tests.streams.bench import NOW, Bench, KafkaRecord, Partitions

TOPIC = "items"


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database, TOPIC)
    owned.claim(0, 1)
    return owned


@pytest.fixture
def metrics() -> FlowMetrics:
    return FlowMetrics()


@pytest.fixture
def bench(database: Database, partitions: Partitions, metrics: FlowMetrics) -> Bench:
    return Bench(database, partitions, ItemsProcessor(RowEncoder(database.dialect), DecodeLimits(), metrics))


def item(offset: int, item_id: str = "i1", **fields: Any) -> KafkaRecord:
    at = round(NOW * 1000) + offset
    return KafkaRecord(offset, at, item_id.encode(), json.dumps({"item_id": item_id} | fields).encode())


def deletion(offset: int, item_id: str = "i1") -> KafkaRecord:
    return KafkaRecord(offset, round(NOW * 1000) + offset, item_id.encode(), None)


def stored(bench: Bench, columns: str = "item_id, title, deleted") -> list[tuple[Any, ...]]:
    return bench.sql(f"SELECT {columns} FROM items ORDER BY item_id")


def test_an_item_is_stored_with_all_that_its_record_says(bench: Bench) -> None:
    image = b64encode(RED_PNG).decode()
    bench.run(
        {1: [item(7, title="ü", text="t", category="c", price=9.5, image=image, available=False, brand="b")]}, NOW
    )
    columns = "item_id, item_key, topic_generation, source_partition, source_offset, title, text, category, price"
    assert stored(bench, columns) == [("i1", item_key("i1"), 1, 1, 7, "ü", "t", "c", 9.5)]
    ((content, small, available, deleted, extra),) = stored(bench, "image, thumbnail, available, deleted, extra")
    assert (bytes(content), bytes(small)) == (RED_PNG, thumbnail(RED_PNG))
    assert (bool(available), bool(deleted)) == (False, False)
    assert (json.loads(extra) if isinstance(extra, str) else extra) == {"brand": "b"}


def test_the_later_record_wins_within_a_batch_and_across_batches(bench: Bench) -> None:
    batch = bench.run({0: [item(0, title="first"), item(1, "i2"), item(2, title="second")]}, NOW)
    assert batch is not None
    assert (batch.works[0].advance.applied, batch.records) == (3, 3)
    assert stored(bench) == [("i1", "second", 0), ("i2", None, 0)]
    bench.run({0: [item(3, price=1)]}, NOW)
    assert stored(bench, "item_id, title, price, extra") == [("i1", None, 1, None), ("i2", None, None, None)]


def test_a_deleted_item_stays_as_a_row_without_content_until_it_comes_back(bench: Bench) -> None:
    bench.run({0: [item(0, title="t", price=1, brand="b"), item(1, "i2", title="t"), deletion(2)]}, NOW)
    assert stored(bench) == [("i1", None, 1), ("i2", "t", 0)]
    bench.run({0: [deletion(3, "i2"), deletion(4, "i3"), item(5, title="again")]}, NOW)
    assert stored(bench, "item_id, title, available, deleted") == [
        ("i1", "again", 1, 0),
        ("i2", None, 0, 1),
        ("i3", None, 0, 1),
    ]


def test_every_record_has_one_outcome_and_what_compaction_took_is_a_gap(bench: Bench, database: Database) -> None:
    broken = KafkaRecord(6, round(NOW * 1000), b"i1", b"{")
    batch = bench.run({0: [item(2), broken, item(9, "i2", price=-1), item(11)], 1: [deletion(0)]}, NOW)
    assert batch is not None
    first, second = (work.advance for work in batch.works)
    assert (first.applied, first.dead_letters, first.gaps, first.next_offset) == (2, 2, 8, 12)
    assert (second.applied, second.next_offset) == (1, 1)
    assert [work.outboxes for work in batch.works] == [{"dead_letters"}, frozenset()]
    assert bench.sql("SELECT topic, source_offset, error_code FROM dead_letters ORDER BY source_offset") == [
        ("items", 6, "invalid_json"),
        ("items", 9, "invalid_field"),
    ]
    with database.reading() as connection:
        assert audit(connection) == []


def test_broken_parts_are_counted(bench: Bench, metrics: FlowMetrics) -> None:
    huge, svg = (b64encode(data).decode() for data in (claimed_png(10_000, 5_000, b""), b"<svg/>"))
    bench.run(
        {
            0: [
                item(0, title=7, image="?"),
                item(1, "i2", image="?"),
                item(2, "i3", text="t", image=huge),
                item(3, "i4", image=svg),
            ]
        },
        NOW,
    )
    assert stored(bench, "item_id, title, text, image, thumbnail") == [
        ("i1", None, None, None, None),
        ("i2", None, None, None, None),
        ("i3", None, "t", None, None),
        ("i4", None, None, None, None),
    ]
    counted = metrics.registry.get_sample_value
    assert counted("headgate_broken_item_parts_total", {"part": "image"}) == 2
    for part in ("title", "image_costly", "image_format"):
        assert counted("headgate_broken_item_parts_total", {"part": part}) == 1


def test_a_reader_of_changes_is_given_thumbnails_and_no_images(bench: Bench, database: Database) -> None:
    bench.run({0: [item(0, image=b64encode(RED_PNG).decode()), item(1, "i2")]}, NOW)
    with database.reading() as connection:
        begin_snapshot(connection)
        (found,) = changed_items(connection, {}, catalogue_positions(connection, TOPIC))
    assert (found.item_id, found.thumbnail) == (["i1", "i2"], [thumbnail(RED_PNG), None])
    assert not hasattr(found, "image")


def test_a_worker_that_lost_its_partition_writes_no_item(bench: Bench, partitions: Partitions) -> None:
    abandoned = bench.prepare({0: [item(0, title="by the old owner")]}, NOW)
    assert abandoned is not None
    partitions.claim(0, 1)
    bench.run({0: [item(0, title="by the new one")]}, NOW)
    assert bench.commit(abandoned).committed == []
    assert stored(bench) == [("i1", "by the new one", 0)]


def test_chunks_of_a_revoked_partition_are_left_out(bench: Bench, partitions: Partitions) -> None:
    partitions.owned[0].revoked = True
    assert bench.run({0: [item(0)]}, NOW) is None
    assert bench.run({}, NOW) is None


@pytest.mark.parametrize(
    ("changes", "wins"),
    [
        ({"source_offset": 8}, True),
        ({"source_offset": 6}, False),
        ({"source_offset": 6, "topic_generation": 4}, True),
        ({"source_offset": 8, "topic_generation": 2}, False),
        ({"source_partition": 2, "source_offset": 0, "recorded_at": NOON.replace(hour=13)}, True),
        ({"source_partition": 2, "source_offset": 9, "recorded_at": NOON.replace(hour=11)}, False),
    ],
)
def test_which_of_two_records_is_newer(database: Database, changes: Mapping[str, Any], wins: bool) -> None:
    known = {
        "item_id": "i1",
        "item_key": 1,
        "topic_generation": 3,
        "source_partition": 1,
        "source_offset": 7,
        "recorded_at": NOON,
        **dict.fromkeys(("title", "text", "category", "price", "image", "thumbnail", "extra")),
        "available": True,
        "deleted": False,
    }
    with database.begin() as connection:
        upsert_items(connection, [known])
        upsert_items(connection, [known | {"title": "new"} | changes])
        title = connection.exec_driver_sql("SELECT title FROM items").scalar()
    assert title == ("new" if wins else None)


class Reader:
    """As a worker looks: what changed past the positions that it has."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.known: dict[tuple[int, int], int] = {}

    def look(self) -> list[ItemColumns]:
        with self.database.reading() as connection:
            begin_snapshot(connection)
            positions = catalogue_positions(connection, TOPIC)
            found = list(changed_items(connection, self.known, positions))
        self.known = positions
        return found

    def changes(self) -> list[tuple[str, str | None, bool]]:
        return [
            (item_id, title, bool(deleted))
            for columns in self.look()
            for item_id, title, deleted in zip(columns.item_id, columns.title, columns.deleted, strict=True)
        ]


def test_a_reader_is_given_what_changed_since_its_last_look(bench: Bench, database: Database) -> None:
    reader = Reader(database)
    assert reader.look() == []
    bench.run({0: [item(0, title="a"), item(1, "i2", title="b")], 1: [item(4, "i3", title="c")]}, NOW)
    assert reader.changes() == [("i1", "a", False), ("i2", "b", False), ("i3", "c", False)]
    assert reader.changes() == []
    bench.run({0: [deletion(2, "i2")], 1: [item(5, "i4")]}, NOW)
    assert reader.changes() == [("i2", None, True), ("i4", None, False)]
    assert sorted(Reader(database).changes()) == [
        ("i1", "a", False),
        ("i2", None, True),
        ("i3", "c", False),
        ("i4", None, False),
    ]


def test_a_reader_of_another_topic_s_items_sees_nothing(bench: Bench, database: Database) -> None:
    bench.run({0: [item(0)]}, NOW)
    with database.reading() as connection:
        assert catalogue_positions(connection, "other.items") == {}


def test_columns_are_what_was_stored(bench: Bench, database: Database) -> None:
    bench.run({0: [item(0, title="a", text="b", category="c", price=2.5, available=False), item(1, "i2")]}, NOW)
    (columns,) = Reader(database).look()
    assert (columns.item_id, columns.title, columns.text) == (["i1", "i2"], ["a", None], ["b", None])
    assert (columns.category, columns.price) == (["c", None], [2.5, None])
    assert (columns.available.tolist(), columns.deleted.tolist()) == ([False, True], [False, False])
    assert len(columns) == 2
