"""Engagements to rows: every record has one outcome, slates repeat exactly, and a restored worker goes on alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.catalogue import item_key
from models.recommending import POPULAR, RANDOM
from storage.database import Database, DatabaseUnavailable
from storage.progress import audit
from streams.catalogue_watch import TAKEN_AT_ONCE
from streams.health import FlowMetrics
from tests.models.engagement_logs import untrained_policy
from tests.streams.bench import NOW, KafkaRecord, Partitions, SometimesAway
from tests.streams.shop_bench import (
    ENGAGEMENTS,
    RULES,
    Remembering,
    Shop,
    engagement,
    item,
    items_bench,
    promote,
    recommending,
    some_items,
)

#: `engagements` is the first topic that the tests claim, `items` the second: hence catalogue versions "2:...".
MINUTE = 60.0
USERS = 8
ITEMS = 120
ACTIONS = ("click", "impression", "like", "dislike", "purchase", "skip", "dwell")
POLICY, LATER_POLICY = untrained_policy(), untrained_policy(seed=4)
SLATES = "SELECT recommendation_id, policy, seed, candidate_hash, cause FROM recommendations ORDER BY cause"
CONTROLS = "SELECT name, partition, from_offset, value FROM stream_controls ORDER BY name, partition, from_offset"


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database, ENGAGEMENTS)
    owned.claim(0, 1)
    return owned


@pytest.fixture
def stocked(database: Database) -> None:
    items_bench(database).run({0: some_items(ITEMS)}, NOW)


def shop_of(database: Database, partitions: Partitions, folder: Path, **more: Any) -> Shop:
    return recommending(database, partitions, folder / "models", **more)


def log(first: int, last: int) -> list[KafkaRecord]:
    """All actions, repeats, unknown items and broken records, with gaps between the offsets."""
    found = []
    for number in range(first, last):
        offset, seconds = 2 * number, number * 40.0
        user, item_id = f"user-{(number + number // 13) % USERS}", f"item-{(number * 7) % (ITEMS + 5)}"
        record = engagement(offset, user, item_id, ACTIONS[number % len(ACTIONS)], seconds)
        if number % 13 == 8:
            before = f"user-{(number - 1 + (number - 1) // 13) % USERS}"
            record = engagement(offset, before, item_id, seconds=seconds, event_id=f"e{offset - 2}")
        elif number % 13 == 11:
            record = replace(record, value=b"{")
        found.append(record)
    return found


def state_of(recommender: Remembering, partition: int) -> dict[str, dict[str, Any]]:
    """user -> every array's entry of him, by name."""
    users, running, found = recommender._users, recommender._running, {}
    for name in (f"user-{number}" for number in range(USERS)):
        slot = users.slots.slot(partition, name)
        found[name] = {key: array[slot].copy() for key, array in users.arena.arrays.items()}
        if running is not None:
            assert running._hidden.current[slot]
            found[name]["hidden"] = running._hidden.values[slot].numpy().copy()
    return found


def assert_same_state(one: Remembering, other: Remembering, partition: int) -> None:
    own, wanted = state_of(one, partition), state_of(other, partition)
    for user, arrays in wanted.items():
        for name, expected in arrays.items():
            if name in ("hidden", "values", "gaps"):
                np.testing.assert_allclose(own[user][name], expected, rtol=0, atol=1e-5, err_msg=f"{user} {name}")
            else:
                assert np.array_equal(own[user][name], expected), (user, name)


def assert_same_slates(one: Remembering, other: Remembering) -> None:
    own, wanted = one.last.slates, other.last.slates
    assert own is not None
    assert wanted is not None
    assert len(own) > 3
    assert (own.rows.tolist(), list(own.policy)) == (wanted.rows.tolist(), list(wanted.policy))
    for name in ("seed", "candidates", "picks"):
        assert np.array_equal(getattr(own, name), getattr(wanted, name)), name
    np.testing.assert_allclose(own.log_weights, wanted.log_weights, atol=1e-5)


def test_every_record_is_applied_a_duplicate_a_dead_letter_or_a_gap(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    shop = shop_of(database, partitions, tmp_path)
    batch = shop.bench.run({0: log(0, 40), 1: log(0, 12)}, NOW + 40 * MINUTE)
    assert batch is not None
    step = batch.works[0].advance
    assert (step.applied, step.duplicates, step.dead_letters, step.gaps) == (34, 3, 3, 39)
    assert batch.works[0].outboxes == {"recommendations", "dead_letters"}
    for start in (40, 47):
        shop.bench.run({0: log(start, start + 7)}, NOW + 60 * MINUTE)
    with database.reading() as connection:
        assert audit(connection) == []
    for table, column in (("engagements", "applied"), ("duplicates", "duplicates"), ("dead_letters", "dead_letters")):
        (counted,) = shop.bench.sql(f"SELECT sum({column}) FROM stream_progress WHERE topic = '{ENGAGEMENTS}'")
        assert shop.bench.sql(f"SELECT count(*) FROM {table}") == [counted]
    assert shop.numbers.get_sample_value("headgate_unknown_items_total") > 0


def test_a_slate_is_stored_with_all_that_its_probabilities_follow_from(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    shop = shop_of(database, partitions, tmp_path)
    shop.bench.run({0: [engagement(5, "a"), engagement(6, "b", action="like")]}, NOW + 1)
    slates = shop.recommender.last.slates
    assert slates is not None
    columns = "cause, user_id, policy, catalogue, seed, candidates, log_weights, floor, made_at"
    stored = shop.bench.sql(f"SELECT {columns} FROM recommendations ORDER BY source_offset")
    assert [row[:2] for row in stored] == [("e5", "a"), ("e6", "b")]
    catalogue = shop.recommender.catalogue
    for row, (_, _, policy, version, seed, candidates, weights, floor, _) in enumerate(stored):
        present = slates.candidates[row] >= 0
        assert policy in (POPULAR, RANDOM)
        assert (version, floor) == (f"2:0@{ITEMS}", RULES.floor)
        assert np.uint64(seed % 2**64) == slates.seed[row]
        assert np.frombuffer(candidates, "<i8").tolist() == catalogue.key[slates.candidates[row][present]].tolist()
        assert np.frombuffer(weights, "<f4").tolist() == slates.log_weights[row][present].tolist()
    shown = shop.bench.sql("SELECT source_offset, position, item_id FROM recommendation_items ORDER BY 1, 2")
    assert [(row[0], row[1]) for row in shown] == [(offset, place) for offset in (5, 6) for place in range(1, 7)]
    picked = slates.candidates[np.arange(2)[:, None], slates.picks.astype(np.int64)].ravel()
    assert [item_key(row[2]) for row in shown] == catalogue.key[picked].tolist()


def test_ids_and_seeds_follow_from_the_place_in_the_log(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    first = shop_of(database, partitions, tmp_path)
    batch = first.bench.prepare({0: log(0, 30), 1: log(0, 30)}, NOW)
    partitions.claim(0, 1)  # nothing was committed
    again = shop_of(database, partitions, tmp_path)
    again.bench.run({0: log(0, 30), 1: log(0, 30)}, NOW + 5)
    assert batch is not None
    assert_same_slates(again.recommender, first.recommender)
    stored = again.bench.sql(SLATES)
    ids, seeds = [row[0] for row in stored], [row[2] for row in stored]
    assert len(set(ids)) == len(set(seeds)) == len(stored) > 10  # the same offset in two partitions draws differently
    slates = again.recommender.last.slates
    assert slates is not None
    assert {seed % 2**64 for seed in seeds} == set(slates.seed.tolist())


def test_a_restored_worker_has_the_state_of_an_undisturbed_one_and_goes_on_alike(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    promote(database, tmp_path / "models", POLICY)
    undisturbed = shop_of(database, partitions, tmp_path)
    for start in range(0, 130, 13):
        undisturbed.bench.run({0: log(start, start + 13), 1: log(start, start + 13)[:6]}, NOW + 130 * MINUTE)
    before = dict(partitions.owned)
    partitions.claim(0, 1)
    restored = shop_of(database, partitions, tmp_path)
    following = {0: log(130, 160), 1: log(130, 140)}
    restored.bench.prepare(following, NOW + 131 * MINUTE)
    partitions.owned = before
    for owner in partitions.owned.values():
        owner.revoked = False
    undisturbed.bench.prepare(following, NOW + 131 * MINUTE)
    for partition in (0, 1):
        assert_same_state(restored.recommender, undisturbed.recommender, partition)
    assert np.array_equal(restored.recommender.last.duplicate, undisturbed.recommender.last.duplicate)
    assert_same_slates(restored.recommender, undisturbed.recommender)
    popular = [shop.recommender._popularity.of_all(ITEMS) for shop in (restored, undisturbed)]
    np.testing.assert_allclose(popular[0], popular[1], rtol=1e-9)


def test_a_policy_that_took_over_in_between_has_after_a_restore_the_states_that_it_had(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    """It began with the rings of then, and so it does again; users have more engagements than rings hold."""
    undisturbed = shop_of(database, partitions, tmp_path)
    for start in range(0, 330, 30):
        undisturbed.bench.run({0: log(start, start + 30)}, NOW + 400 * MINUTE)
    promote(database, tmp_path / "models", LATER_POLICY)
    undisturbed.look()
    for start in range(330, 400, 10):
        undisturbed.bench.run({0: log(start, start + 10)}, NOW + 400 * MINUTE)
    before = dict(partitions.owned)
    partitions.claim(0, 1)
    restored = shop_of(database, partitions, tmp_path)
    restored.bench.prepare({0: log(400, 440)}, NOW + 401 * MINUTE)
    partitions.owned = before
    for owner in partitions.owned.values():
        owner.revoked = False
    undisturbed.bench.prepare({0: log(400, 440)}, NOW + 401 * MINUTE)
    assert_same_state(restored.recommender, undisturbed.recommender, 0)
    assert_same_slates(restored.recommender, undisturbed.recommender)


def test_controls_say_from_which_offset_on_a_policy_and_a_catalogue_version_were_used(
    database: Database, partitions: Partitions, tmp_path: Path
) -> None:
    items = items_bench(database)
    items.run({0: some_items(20)}, NOW)
    shop = shop_of(database, partitions, tmp_path)
    shop.bench.run({0: log(0, 5)}, NOW)
    promote(database, tmp_path / "models", POLICY)
    shop.bench.run({0: log(5, 10)}, NOW)  # nobody has looked yet
    shop.look()
    shop.bench.run({0: log(10, 15), 1: log(0, 2)}, NOW)
    items.run({0: [item(20, "item-20")]}, NOW)
    shop.look()
    shop.bench.run({0: log(15, 20)}, NOW)  # takes the item
    shop.bench.run({0: log(20, 25)}, NOW)  # takes the version's name
    shop.bench.run({0: log(25, 30)}, NOW)
    assert shop.bench.sql(CONTROLS) == [
        ("catalogue", 0, 0, "2:0@20"),
        ("catalogue", 0, 39, "2:0@21"),
        ("catalogue", 1, 0, "2:0@20"),
        ("policy", 0, 0, POPULAR),
        ("policy", 0, 19, "recommender:1"),
        ("policy", 1, 0, "recommender:1"),
    ]


def test_a_restored_worker_does_not_record_again_what_the_partition_uses_already(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    promote(database, tmp_path / "models", POLICY)
    shop_of(database, partitions, tmp_path).bench.run({0: log(0, 5)}, NOW)
    partitions.claim(0)
    restored = shop_of(database, partitions, tmp_path)
    before = restored.bench.sql(CONTROLS)
    restored.bench.run({0: log(5, 10)}, NOW)
    assert restored.bench.sql(CONTROLS) == before
    assert len(before) == 2


def test_an_empty_catalogue_gives_no_slates_and_engagements_are_stored_all_the_same(
    database: Database, partitions: Partitions, tmp_path: Path
) -> None:
    shop = shop_of(database, partitions, tmp_path)
    batch = shop.bench.run({0: log(0, 10)}, NOW)
    assert batch is not None
    assert "recommendations" not in batch.works[0].outboxes
    assert shop.bench.sql("SELECT count(*) FROM recommendations") == [(0,)]
    assert shop.bench.sql("SELECT count(*) FROM engagements") == [(9,)]


def test_a_large_change_of_the_catalogue_is_taken_over_little_by_little_and_faster_while_nobody_waits(
    database: Database, partitions: Partitions, tmp_path: Path
) -> None:
    shop = shop_of(database, partitions, tmp_path)
    items_bench(database).run({0: some_items(3 * TAKEN_AT_ONCE)}, NOW)
    shop.look()
    shop.bench.run({0: log(0, 3)}, NOW)
    assert len(shop.recommender.catalogue) == TAKEN_AT_ONCE
    shop.bench.processor.idle(NOW)
    assert len(shop.recommender.catalogue) == 3 * TAKEN_AT_ONCE


@pytest.mark.parametrize("busy", [True, False])
def test_a_partition_that_is_gone_leaves_no_users_and_no_popularity_although_others_keep_us_busy(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path, busy: bool
) -> None:
    shop = shop_of(database, partitions, tmp_path)
    shop.bench.run({0: log(0, 40), 1: [engagement(0, "other", "item-3")]}, NOW)
    assert shop.recommender.resident_users == USERS + 1
    partitions.claim(1)
    shop.bench.run({1: [engagement(1, "other", "item-3")]} if busy else {}, NOW)
    assert shop.recommender.resident_users == 1
    assert np.flatnonzero(shop.recommender._popularity.of_all(ITEMS)).tolist() == [3]


def test_state_is_kept_when_the_same_worker_claims_again_and_dropped_when_another_was_there(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    def restores(shop: Shop) -> float | None:
        return shop.numbers.get_sample_value("headgate_restore_seconds_count", {"topic": ENGAGEMENTS})

    shop = shop_of(database, partitions, tmp_path)
    shop.bench.run({0: log(0, 20)}, NOW)
    before = restores(shop)
    partitions.claim(0, 1)
    shop.bench.run({0: log(20, 30)}, NOW)
    assert restores(shop) == before
    Partitions(database, ENGAGEMENTS).claim(0)
    partitions.claim(0, 1)
    shop.bench.run({0: log(30, 40)}, NOW)
    assert before is not None
    assert restores(shop) == before + 1


def test_a_restore_reports_every_engagement_that_it_folds(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[int] = []
    monkeypatch.setattr(FlowMetrics, "restored", lambda self, topic, events: folded.append(events))
    before = shop_of(database, partitions, tmp_path)
    before.bench.run({0: log(0, 40)}, NOW)
    partitions.claim(0, 1)
    restored = shop_of(database, partitions, tmp_path)
    restored.bench.prepare({0: log(40, 50)}, NOW)
    assert before.bench.sql("SELECT count(*) FROM engagements") == [(sum(folded),)]
    assert sum(folded) > 20


def test_a_restore_waits_while_the_database_is_away_and_begins_again(
    database: Database, partitions: Partitions, stocked: None, tmp_path: Path
) -> None:
    first = shop_of(database, partitions, tmp_path)
    first.bench.run({0: log(0, 40)}, NOW)
    partitions.claim(0, 1)
    waits: list[int] = []

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        waits.append(failures)

    away = SometimesAway(database.engine)
    restored = shop_of(away, partitions, tmp_path, wait=wait)
    away.refusals.extend(["at once", "at its end", "at once"])
    restored.bench.prepare({0: log(40, 60)}, NOW)
    for owner in partitions.owned.values():
        owner.revoked = False
    first.bench.partitions.claim(0, 1)
    first.bench.prepare({0: log(40, 60)}, NOW)
    assert waits == [1, 2, 3]
    assert_same_state(restored.recommender, first.recommender, 0)
