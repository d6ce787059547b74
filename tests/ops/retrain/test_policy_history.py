"""From SQL to a history: rewards, causes, picks and candidates belong together, whatever the log went through."""

from base64 import b64encode
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from models.engagements import ACTIONS
from models.guard_rails import SlateRules
from models.item_content import id_buckets
from models.pictures import thumbnail
from ops.jobs.policy_history import StoredFeedback, policy_history
from storage.database import Database
from tests.ops.retrain.stored_shop import END, ITEMS, RULES, USERS, present_slates, store_shop
from tests.pictures import RED_PNG
from tests.streams.bench import NOW, Partitions, moment
from tests.streams.shop_bench import ENGAGEMENTS, Shop, engagement, item, items_bench, recommending, some_items

LATER = moment(NOW) + timedelta(days=2)


def read(database: Database, now: datetime = LATER, since: datetime | None = None) -> StoredFeedback:
    return policy_history(database, items_topic="items", now=now, since=since, reward_window=timedelta(hours=1))


def answered_shop(database: Database, folder: Path, topic: str = ENGAGEMENTS, rules: SlateRules = RULES) -> Shop:
    items_bench(database).run({0: some_items(30)}, NOW)
    partitions = Partitions(database, topic)
    partitions.claim(0, 1)
    return recommending(database, partitions, folder / "models", rules)


def test_a_history_has_what_is_on_the_pictures_of_items_and_in_their_texts(database: Database) -> None:
    image = b64encode(RED_PNG).decode()
    items_bench(database).run({0: [item(0, "a", title="red shoe"), item(1, "b", image=image)]}, NOW)
    items = read(database).history.items
    assert items.parts_AM is not None
    assert items.picture_A is not None
    assert items.pixels_PX is not None
    assert (items.parts_AM > 0).any(1).tolist() == [True, False]
    assert items.picture_A.tolist() == [-1, 0]
    assert bytes(items.pixels_PX[0].numpy()) == thumbnail(RED_PNG)


def test_slates_stand_beside_the_engagement_that_caused_them_and_the_items_they_were_drawn_from(
    database: Database, tmp_path: Path
) -> None:
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(4, "a", "item-3"), engagement(7, "b", "item-9", "like", 5)]}, NOW)
    shop.bench.run({1: [engagement(2, "c", "item-4", seconds=2), engagement(3, "d", "unheard of", seconds=9)]}, NOW)
    stored = read(database)
    history, catalogue = stored.history, stored.catalogue
    told, slates = history.engagements, history.slates
    assert told.user_id == ["a", "c", "b", "d"]
    assert [told.user_id[row] for row in history.cause] == ["a", "c", "b", "d"]
    assert [catalogue.item_ids[row] if row >= 0 else None for row in history.item] == [
        "item-3",
        "item-4",
        "item-9",
        None,
    ]
    assert slates.user.tolist() == [0, 1, 2, 3]
    assert len(history.items) == len(catalogue) == 30
    assert np.array_equal(history.items.bucket_A, id_buckets(catalogue.item_ids))
    with database.reading() as connection:
        statement = "SELECT source_partition, source_offset, item_id FROM recommendation_items ORDER BY 1, 2, position"
        shown: dict[tuple[int, int], list[str]] = {}
        for partition, offset, item_id in connection.exec_driver_sql(statement):
            shown.setdefault((partition, offset), []).append(item_id)
    for row, cause in enumerate(history.cause):
        picked = slates.candidates[row][slates.picks[row]]
        place = int(told.partition[cause]), int(told.offset[cause])
        assert [catalogue.item_ids[item] for item in picked] == shown[place]
        assert np.exp(slates.log_weights[row]).sum() == pytest.approx(1, abs=1e-4)


def test_rewards_stand_at_the_position_of_their_item(database: Database, tmp_path: Path) -> None:
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(0, "a", "item-3")]}, NOW)
    slate = present_slates(database)["a"]
    about = {"recommendation_id": slate.recommendation_id, "seconds": 30.0}
    shop.bench.run(
        {
            0: [
                engagement(1, "a", slate.items[0], "impression", **about),
                engagement(2, "a", slate.items[2], "click", **about),
                engagement(3, "a", slate.items[2], "purchase", value=12.0, **about),
                engagement(4, "a", slate.items[3], "dislike", **about),
                engagement(5, "a", "item-3", "click", recommendation_id="of nobody", seconds=31.0),
            ]
        },
        NOW,
    )
    slates = read(database).history.slates
    assert slates.reward.tolist() == [[0.0, 0.0, 6.0, -2.0]]  # the later one was looked at by nobody


def test_slates_that_nobody_looked_at_are_left_out_where_impressions_tell(database: Database, tmp_path: Path) -> None:
    """A click does not show that slates are looked at: it would choose those that were worth one."""
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(0, "a", "item-3"), engagement(1, "b", "item-4")]}, NOW)
    slates = present_slates(database)
    clicked = engagement(2, "b", slates["b"].items[0], recommendation_id=slates["b"].recommendation_id, seconds=30)
    shop.bench.run({0: [clicked]}, NOW)
    assert len(read(database).history.slates) == 3
    seen = engagement(3, "a", slates["a"].items[0], "impression", 31, recommendation_id=slates["a"].recommendation_id)
    shop.bench.run({0: [seen]}, NOW)
    history = read(database).history
    assert [history.engagements.user_id[row] for row in history.cause] == ["a"]
    assert len(history.engagements) == 4  # states need them all


def test_a_topic_that_was_created_anew_is_told_apart(database: Database, tmp_path: Path) -> None:
    """The same partition and offsets twice: each slate keeps its own cause."""
    first = answered_shop(database, tmp_path)
    first.bench.run({0: [engagement(0, "a", "item-3"), engagement(1, "b", "item-4", seconds=1)]}, NOW)
    with database.begin() as connection:
        connection.execute(text(f"UPDATE stream_progress SET topic_uuid = 'older' WHERE topic = '{ENGAGEMENTS}'"))
    partitions = Partitions(database, ENGAGEMENTS)
    partitions.claim(0)
    again = recommending(database, partitions, tmp_path / "models", RULES)
    records = [
        engagement(0, "c", "item-5", seconds=2, event_id="other 0"),
        engagement(1, "a", "item-6", seconds=3, event_id="other 1"),
    ]
    again.bench.run({0: records}, NOW)
    history = read(database).history
    assert history.engagements.offset.tolist() == [0, 1, 0, 1]
    assert history.engagements.user_id == ["a", "b", "c", "a"]
    assert history.cause.tolist() == [0, 1, 2, 3]
    assert history.slates.user.tolist() == [0, 1, 2, 0]


def test_items_that_are_in_no_catalogue_any_more_are_unknown(database: Database, tmp_path: Path) -> None:
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(0, "a", "item-3")]}, NOW)
    picks = read(database).history.slates.picks.tolist()
    with database.begin() as connection:
        connection.execute(text("DELETE FROM items WHERE item_id <> 'item-3'"))
    history = read(database).history
    assert history.slates.picks.tolist() == picks
    assert history.item.tolist() == [0]
    assert set(history.slates.candidates[0].tolist()) == {-1, 0}
    assert np.isfinite(history.slates.log_weights[0]).any()


def test_deleted_items_keep_their_place(database: Database, tmp_path: Path) -> None:
    """Nothing is known of them but their id; slates that showed them still teach."""
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(0, "a", "item-3")]}, NOW)
    with database.begin() as connection:
        connection.execute(text("UPDATE items SET deleted = true, title = NULL, category = NULL"))
    stored = read(database)
    assert (stored.history.slates.candidates[0] >= 0).all()
    assert len(stored.catalogue.available_rows) == 0


def test_maturity_and_the_beginning_of_the_history(database: Database, tmp_path: Path) -> None:
    shop = answered_shop(database, tmp_path)
    shop.bench.run({0: [engagement(0, "a", "item-3")]}, NOW)
    shop.bench.run({0: [engagement(1, "b", "item-4", seconds=1_800)]}, NOW + 1_800)
    at = moment(NOW) + timedelta(hours=1.25)
    assert read(database, at).history.slates.matured.tolist() == [True, False]
    assert read(database, at + timedelta(hours=1)).history.slates.matured.tolist() == [True, True]
    recent = read(database, at, since=moment(NOW + 60)).history
    assert recent.engagements.user_id == ["b"]
    assert recent.cause.tolist() == [0]
    assert len(read(database, at, since=at).history.slates) == 0


def test_a_whole_shop_adds_up(database: Database, tmp_path: Path) -> None:
    store_shop(database, tmp_path / "models", rounds=5)
    history = read(database, END + timedelta(days=1)).history
    told, slates = history.engagements, history.slates
    assert len(np.unique(told.user_id)) == USERS
    assert slates.candidates.shape == (len(slates), ITEMS)
    clicks = told.action == ACTIONS.index("click")
    about = np.array([name is not None for name in told.recommendation_id])
    assert slates.reward.sum() == (clicks & about).sum() > 50
    for row, user in enumerate(slates.user.tolist()):
        assert told.user_id[history.cause[row]] == told.user_id[history.cause[np.flatnonzero(slates.user == user)[0]]]
    assert (np.diff(told.occurred_at) >= 0).all()
