"""The catalogue in SQL: the latest record of each item, and what changed in it since a worker last looked.

A position is the offset before which SQL has all records of a partition of the topic. Rows and positions are written in
one transaction, so whoever reads both in one snapshot misses nothing and reads nothing twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import JSON, Connection, Row, and_, bindparam, or_, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from storage.tables import Item

ROWS_AT_ONCE = 5_000
#: (topic generation, partition) -> the next offset.
Positions = Mapping[tuple[int, int], int]
NAMES = tuple(column.name for column in Item.__table__.columns)


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """n items as columns, with thumbnails in place of their images; of deleted ones nothing but the item_id is
    known."""

    item_id: list[str]
    title: list[str | None]
    text: list[str | None]
    category: list[str | None]
    price: list[float | None]
    thumbnail: list[bytes | None]
    available: npt.NDArray[np.bool_]
    deleted: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item_id)


def upsert_items(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts these rows (all columns of `items`, extra decoded, each item_id once) in place of older ones. A record of a
    topic that was created anew is newer, and so is a later one of the partition; where an item has moved to another
    partition, the record's time decides."""
    if not rows:
        return
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    no_json_null = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
    statement = insert(Item).values(**{name: bindparam(name) for name in NAMES if name != "extra"})
    statement = statement.values(extra=bindparam("extra", type_=no_json_null))
    new, table = statement.excluded, Item.__table__.c
    same_topic = new.topic_generation == table.topic_generation
    same_partition = new.source_partition == table.source_partition
    newer = or_(
        new.topic_generation > table.topic_generation,
        and_(same_topic, same_partition, new.source_offset >= table.source_offset),
        and_(same_topic, ~same_partition, new.recorded_at >= table.recorded_at),
    )
    changed = {name: new[name] for name in NAMES if name != "item_id"}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["item_id"], set_=changed, where=newer), list(rows)
    )


def catalogue_positions(connection: Connection, topic: str) -> dict[tuple[int, int], int]:
    """Up to where SQL has each partition of the topic, of all its generations."""
    statement = text("SELECT topic_generation, partition, next_offset FROM stream_progress WHERE topic = :topic")
    rows = connection.execute(statement, {"topic": topic})
    return {(row.topic_generation, row.partition): row.next_offset for row in rows}


def changed_items(connection: Connection, known: Positions, positions: Positions) -> Iterator[ItemColumns]:
    """The items whose latest record is not among those before the known positions, as a stream in the order of the log;
    {} for all of the catalogue. positions: of the same snapshot (storage/label_state.py has begin_snapshot)."""
    advanced = sorted(place for place, position in positions.items() if position > known.get(place, 0))
    columns = [getattr(Item, name) for name in ItemColumns.__dataclass_fields__]
    streaming = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    for generation, partition in advanced:
        statement = (
            select(*columns)
            .where(
                Item.topic_generation == generation,
                Item.source_partition == partition,
                Item.source_offset >= known.get((generation, partition), 0),
            )
            .order_by(Item.source_offset)
        )
        with connection.execute(statement, execution_options=streaming) as found:
            for rows in found.partitions(ROWS_AT_ONCE):
                yield _columns(rows)


def _columns(rows: Sequence[Row[Any]]) -> ItemColumns:
    names = ItemColumns.__dataclass_fields__
    columns: dict[str, Any] = {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    flags = {name: np.array(columns[name], np.bool_) for name in ("available", "deleted")}
    return ItemColumns(**columns | flags)
