"""A shop's history in SQL as the flow leaves it: users who click on one kind of item alone, and random slates."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from models.guard_rails import SlateRules
from storage.database import Database
from tests.streams.bench import NOW, KafkaRecord, Partitions, moment
from tests.streams.shop_bench import ENGAGEMENTS, engagement, item, items_bench, recommending

KINDS, ITEMS, USERS, ROUNDS = 4, 24, 40, 24
#: Chance of a click on an item of the user's kind, and on another.
LIKED, OTHER = 0.6, 0.03
#: Longer than a slate lasts, so that every user gets a new one in every round.
ROUND = 360.0
#: Slates are drawn from all items, and no rule but the draw decides what is shown.
RULES = SlateRules(size=4, most_impressions=1_000, most_of_category=ITEMS)
EVERYONE_RANDOM = replace(RULES, holdout=1.0)
END = moment(NOW + ROUNDS * ROUND)


@dataclass(frozen=True, slots=True)
class Shown:
    recommendation_id: str
    items: list[str]


def store_shop(database: Database, models: Path, rounds: int = ROUNDS, seed: int = 0) -> datetime:
    """Gives the moment after its last engagement. A user's kind is his number modulo KINDS, and so is an item's."""
    stock = [item(row, f"item-{row}", title=f"word{row}", category=f"kind {row % KINDS}") for row in range(ITEMS)]
    items_bench(database).run({0: stock}, NOW)
    partitions = Partitions(database, ENGAGEMENTS)
    partitions.claim(0)
    shop, draw = recommending(database, partitions, models, EVERYONE_RANDOM), np.random.default_rng(seed)
    offset = 0
    for turn in range(rounds):
        shown, records = present_slates(database), []
        for user in range(USERS):
            records += visit(shown.get(f"user-{user}"), user, turn * ROUND + user, offset + len(records), draw)
        offset += len(records)
        shop.bench.run({0: records}, NOW + turn * ROUND + USERS)
    return moment(NOW + rounds * ROUND)


def visit(shown: Shown | None, user: int, at: float, offset: int, draw: np.random.Generator) -> list[KafkaRecord]:
    """Looks at each item of the slate and clicks on some; without a slate the user finds an item of his kind."""
    name = f"user-{user}"
    if shown is None:
        return [engagement(offset, name, f"item-{user % KINDS}", seconds=at)]
    found: list[KafkaRecord] = []
    for item_id in shown.items:
        alike = int(item_id.removeprefix("item-")) % KINDS == user % KINDS
        clicked = draw.random() < (LIKED if alike else OTHER)
        for action in ("impression", "click") if clicked else ("impression",):
            place = offset + len(found)
            found.append(engagement(place, name, item_id, action, at, recommendation_id=shown.recommendation_id))
    return found


def present_slates(database: Database) -> dict[str, Shown]:
    """The latest slate of each user."""
    found: dict[str, Shown] = {}
    with database.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT r.user_id, r.recommendation_id, i.item_id FROM recommendations r JOIN recommendation_items i "
            "ON i.day = r.day AND i.topic_generation = r.topic_generation "
            "AND i.source_partition = r.source_partition AND i.source_offset = r.source_offset "
            "ORDER BY r.source_offset, i.position"
        )
        for user_id, recommendation_id, item_id in rows:
            if user_id not in found or found[user_id].recommendation_id != recommendation_id:
                found[user_id] = Shown(recommendation_id, [])
            found[user_id].items.append(item_id)
    return found


def later(hours: float) -> datetime:
    return END + timedelta(hours=hours)
