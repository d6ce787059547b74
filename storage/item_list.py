"""Items of the catalogue as people look them up: by the beginning of an id or words of a title; images for slates."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from storage.tables import Item


@dataclass(frozen=True, slots=True)
class ListedItem:
    """price in the catalogue's currency."""

    item_id: str
    title: str | None
    category: str | None
    price: float | None
    available: bool


_COLUMNS = tuple(getattr(Item, name) for name in ListedItem.__dataclass_fields__)


def list_items(connection: Connection, search: str | None, limit: int) -> list[ListedItem]:
    """By item_id, without those that were deleted. search: the beginning of an item_id, or a part of a title in any
    case."""
    statement = select(*_COLUMNS).where(~Item.deleted)
    if search:
        statement = statement.where(
            or_(
                func.substr(Item.item_id, 1, len(search)) == search,
                func.lower(Item.title).contains(search.lower(), autoescape=True),
            )
        )
    rows = connection.execute(statement.order_by(Item.item_id).limit(limit))
    return [ListedItem(**row._mapping) for row in rows]


def items_by_id(connection: Connection, item_ids: Collection[str]) -> dict[str, ListedItem]:
    """Those that are known, deleted ones too, which have nothing but an id."""
    rows = connection.execute(select(*_COLUMNS).where(Item.item_id.in_(item_ids)))
    return {row.item_id: ListedItem(**row._mapping) for row in rows}


def images_of(connection: Connection, item_ids: Collection[str]) -> dict[str, bytes]:
    """PNG or JPEG, of the items that have one."""
    statement = select(Item.item_id, Item.image).where(Item.item_id.in_(item_ids), Item.image.is_not(None))
    return {row.item_id: row.image for row in connection.execute(statement)}
