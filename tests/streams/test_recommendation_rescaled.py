"""Users' state after their topic got more partitions: the fold of all that each did, and of the slates each got."""

from pathlib import Path

import numpy as np
import pytest

from storage.database import Database
from storage.partition_counts import rescale, settle_count
from streams.partitioners import partition_of
from tests.streams.bench import NOW, UUID, KafkaRecord, Partitions, moment
from tests.streams.shop_bench import ENGAGEMENTS, Remembering, Shop, engagement, items_bench, some_items
from tests.streams.test_recommendation import ACTIONS, ITEMS, MINUTE, USERS, shop_of

NAMES = [f"user-{number}" for number in range(USERS)]


class Log:
    """Partitions of one topic that a producer with Java's partitioner fills."""

    def __init__(self, partitions: int, ends: dict[int, int] | None = None) -> None:
        self._partitions = partitions
        self.ends = dict(ends or {})

    def sent(self, first: int, last: int) -> dict[int, list[KafkaRecord]]:
        found: dict[int, list[KafkaRecord]] = {}
        for number in range(first, last):
            user = NAMES[(number + number // 13) % USERS]
            partition = partition_of("murmur2", user, self._partitions)
            offset = self.ends.get(partition, 0)
            self.ends[partition] = offset + 1
            action, item_id = ACTIONS[number % len(ACTIONS)], f"item-{number * 7 % ITEMS}"
            record = engagement(offset, user, item_id, action, 40.0 * number, event_id=f"e{number}")
            found.setdefault(partition, []).append(record)
        return found


def shop(database: Database, topic: str, partitions: int, folder: Path) -> Shop:
    owned = Partitions(database, topic)
    owned.claim(*range(partitions))
    return shop_of(database, owned, folder)


@pytest.fixture
def before(database: Database, tmp_path: Path) -> Log:
    """Two partitions, 130 engagements in them, all in SQL with their slates."""
    items_bench(database).run({0: some_items(ITEMS)}, NOW)
    settle_count(database, topic=ENGAGEMENTS, topic_uuid=UUID, partitions=2, keyed=True, by="w", now=moment(0))
    log, here = Log(2), shop(database, ENGAGEMENTS, 2, tmp_path)
    for start in range(0, 130, 13):
        here.bench.run(log.sent(start, start + 13), NOW + 130 * MINUTE)
    return log


def rescaled(database: Database) -> None:
    seen, _ = settle_count(
        database, topic=ENGAGEMENTS, topic_uuid=UUID, partitions=4, keyed=True, by="w", now=moment(0)
    )
    rescale(
        database,
        topic=ENGAGEMENTS,
        topic_uuid=UUID,
        seen=seen,
        partitions=4,
        partitioner="murmur2",
        by="anna",
        now=moment(0),
    )


def assert_same(one: Remembering, other: Remembering, user: str) -> None:
    """Everything but where in the log the latest engagements lie."""
    partition = partition_of("murmur2", user, 4)
    own, wanted = (each._users.slots.slot(partition, user) for each in (one, other))
    for name, array in one._users.arena.arrays.items():
        if "offset" not in name:
            np.testing.assert_allclose(array[own], other._users.arena.arrays[name][wanted], atol=1e-5, err_msg=name)


def test_a_user_in_a_new_partition_has_the_state_of_one_who_was_always_there(
    database: Database, before: Log, tmp_path: Path
) -> None:
    rescaled(database)
    here = shop(database, ENGAGEMENTS, 4, tmp_path)
    here.bench.run(Log(4, before.ends).sent(130, 143), NOW + 131 * MINUTE)
    always, log = shop(database, "four", 4, tmp_path), Log(4)
    for start in range(0, 143, 13):
        now = 130 if start < 130 else 131
        always.bench.run(log.sent(start, start + 13), NOW + now * MINUTE)
    moved = [user for user in NAMES if partition_of("murmur2", user, 4) >= 2]
    assert len(moved) >= 3, "else the test shows nothing"
    for user in moved:
        assert_same(here.recommender, always.recommender, user)


def test_a_worker_restored_after_a_rescale_has_the_state_of_one_that_went_on(
    database: Database, before: Log, tmp_path: Path
) -> None:
    rescaled(database)
    undisturbed, log = shop(database, ENGAGEMENTS, 4, tmp_path), Log(4, before.ends)
    for start in range(130, 208, 13):
        undisturbed.bench.run(log.sent(start, start + 13), NOW + 150 * MINUTE)
    owned = dict(undisturbed.bench.partitions.owned)
    restored = shop(database, ENGAGEMENTS, 4, tmp_path)
    last = log.sent(208, 240)
    restored.bench.prepare(last, NOW + 151 * MINUTE)
    undisturbed.bench.partitions.owned = owned
    undisturbed.bench.prepare(last, NOW + 151 * MINUTE)
    for user in NAMES:
        assert_same(restored.recommender, undisturbed.recommender, user)
