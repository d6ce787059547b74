"""Slates of users, what they earned, the catalogue, and how much of it is shown."""

from base64 import b64encode
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from ops.dashboard.answers import Coverage, Daily, Item, ItemDetail, Items, Neighbour, Slate, SlateItem
from ops.dashboard.context import InContext
from ops.dashboard.errors import ApiError, not_found
from ops.dashboard.routes.data import Days, daily
from ops.dashboard.security import VIEWER
from storage.item_list import ListedItem, images_of, items_by_id, list_items
from streams import contract

router = APIRouter(prefix="/api", tags=["recommendations"], dependencies=[VIEWER])

NEIGHBOURS = 12
PNG = b"\x89PNG"


@router.get("/recommendations/{user_id:path}")
def recommendations(context: InContext, user_id: str) -> Slate:
    """The user's current slate, from Redis, with what the catalogue says of its items."""
    payload = context.sources.redis.get(f"{context.sources.redis_prefix}recs:{user_id}")
    if not isinstance(payload, bytes):
        raise not_found(f"user {user_id!r} has no current slate")
    try:
        slate = msgspec.json.decode(payload, type=contract.Recommendation)
    except msgspec.MsgspecError as error:
        raise ApiError(
            503, "unavailable", f"the slate in Redis is none: {error}; run `headgate redis rebuild`"
        ) from error
    item_ids = [item.item_id for item in slate.items]
    with context.reading() as connection:
        known, images = items_by_id(connection, item_ids), images_of(connection, item_ids)
    return Slate(
        recommendation_id=slate.recommendation_id,
        user_id=slate.user_id,
        made_at=slate.made_at,
        policy=slate.policy,
        cause=slate.cause,
        items=[slate_item(item, known.get(item.item_id), images.get(item.item_id)) for item in slate.items],
    )


@router.get("/rewards")
def rewards(context: InContext, days: Days = 30) -> Daily:
    """Rows of v_recommendation_reward, the latest day first; as_of says when they were read."""
    return daily(context, context.aggregates.rewards.latest, days)


@router.get("/items")
def items(
    context: InContext,
    search: Annotated[
        str | None, Query(max_length=200, description="The beginning of an item_id, or a part of a title.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Items:
    """Items of the catalogue, by item_id."""
    with context.reading() as connection:
        return Items(items=[Item.model_validate(item) for item in list_items(connection, search, limit)])


@router.get("/items/{item_id:path}")
def item(context: InContext, item_id: str) -> ItemDetail:
    """One item, and the available ones whose vectors of the champion policy are nearest to its own."""
    with context.reading() as connection:
        found = items_by_id(connection, [item_id]).get(item_id)
    if found is None:
        raise not_found(f"no item has the id {item_id!r}")
    similar = context.neighbours.of(item_id, NEIGHBOURS)
    with context.reading() as connection:
        titles = items_by_id(connection, [near for near, _ in similar.items])
    return ItemDetail(
        **Item.model_validate(found).model_dump(),
        neighbours=[
            Neighbour(item_id=near, title=titles[near].title if near in titles else None, cosine=cosine)
            for near, cosine in similar.items
        ],
        policy=similar.policy,
        loading=similar.loading,
    )


@router.get("/coverage")
def coverage(context: InContext) -> Coverage:
    """Which share of the available items was in a slate of the last 24 hours."""
    latest = context.aggregates.coverage.latest
    if latest is None:
        return Coverage(as_of=None, available=None, shown=None, share=None, slates=None)
    found = latest.value
    return Coverage(
        as_of=latest.moment,
        available=found.available,
        shown=found.shown,
        share=found.share,
        slates=found.slates,
    )


def slate_item(item: contract.RecommendedItem, known: ListedItem | None, image: bytes | None) -> SlateItem:
    return SlateItem(
        item_id=item.item_id,
        position=item.position,
        propensity=item.propensity,
        score=item.score,
        title=None if known is None else known.title,
        category=None if known is None else known.category,
        price=None if known is None else known.price,
        available=None if known is None else known.available,
        image=None if image is None else data_url(image),
    )


def data_url(image: bytes) -> str:
    """The catalogue holds nothing but PNG and JPEG."""
    kind = "png" if image.startswith(PNG) else "jpeg"
    return f"data:image/{kind};base64,{b64encode(image).decode()}"
