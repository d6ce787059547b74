"""State after a topic got more partitions: each account's is the fold of all its events, wherever they lie."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.scoring import Scorer
from storage.database import Database
from storage.partition_counts import Count, rescale, settle_count
from streams.partitioners import ANY, partition_of
from tests.streams.bench import NOW, UUID, Bench, KafkaRecord, Partitions, detection, moment, payment

MINUTE = 60.0
ACCOUNTS = [f"a{number}" for number in range(13)]
#: Kept apart: where in the log the latest events lie, which differs, and what is not by event.
PLACES = ("offsets", "days")
Place = Callable[[str], int]


class Log:
    """Partitions of one topic that a producer with Java's partitioner fills."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._ends: dict[int, int] = {}

    def sent(self, first: int, last: int) -> dict[int, list[KafkaRecord]]:
        """Payments number `first` to `last`, by partition."""
        found: dict[int, list[KafkaRecord]] = {}
        for number in range(first, last):
            account = ACCOUNTS[(number * 7 + number // 12) % len(ACCOUNTS)]
            partition = partition_of("murmur2", account, self.partitions)
            offset = self._ends.get(partition, 0)
            self._ends[partition] = offset + 1
            amount = 9_000.0 if number % 17 == 5 else 10.0 + number % 5
            record = payment(
                offset, account, amount=amount, seconds=40.0 * number, event_id=f"p{number}", memo=f"m{number % 3}"
            )
            found.setdefault(partition, []).append(record)
        return found


def worker(database: Database, topic: str, partitions: int) -> tuple[Bench, Any, Partitions]:
    owned = Partitions(database, topic)
    owned.claim(*range(partitions))
    return *detection(database, owned, sweep_interval=1e12), owned


def settled(database: Database, topic: str, partitions: int) -> Count:
    return settle_count(
        database, topic=topic, topic_uuid=UUID, partitions=partitions, keyed=True, by="w", now=moment(0)
    )[0]


def rescaled(database: Database, topic: str, partitioner: str = "murmur2") -> None:
    rescale(
        database,
        topic=topic,
        topic_uuid=UUID,
        seen=settled(database, topic, 2),
        partitions=4,
        partitioner=partitioner,
        by="anna",
        now=moment(0),
    )


def state_of(scorer: Scorer, account: str, partition: int) -> dict[str, Any]:
    """Every array's entry of an account, without its places in the log."""
    features = scorer._features
    slot = features.account_slots.slot(partition, account)
    arrays = {name: array[slot].copy() for name, array in features.accounts.arrays.items() if name not in PLACES}
    return arrays


def assert_same(one: dict[str, Any], other: dict[str, Any], account: str) -> None:
    for name in one:
        if one[name].dtype.kind in "iu":
            assert np.array_equal(one[name], other[name]), (account, name)
        else:
            assert np.allclose(one[name], other[name], atol=1e-5), (account, name)


@pytest.fixture
def before(database: Database) -> Log:
    """Two partitions, 150 payments in them, all in SQL."""
    settled(database, "transactions", 2)
    log = Log(2)
    bench, _, _ = worker(database, "transactions", 2)
    for start in range(0, 150, 15):
        bench.run(log.sent(start, start + 15), NOW + 150 * MINUTE)
    return log


def four_from_the_start(database: Database, until: int) -> Scorer:
    """A worker on a topic that always had four partitions."""
    bench, scorer, _ = worker(database, "four", 4)
    log = Log(4)
    for start in range(0, until, 15):
        bench.run(log.sent(start, start + 15), NOW + 150 * MINUTE)
    return scorer


def after(log: Log) -> Log:
    """The same topic with four partitions, each of which goes on where it is."""
    more = Log(4)
    more._ends = dict(log._ends)
    return more


def test_an_account_in_a_new_partition_has_the_state_of_one_that_was_always_there(
    database: Database, before: Log
) -> None:
    rescaled(database, "transactions")
    bench, scorer, _ = worker(database, "transactions", 4)
    following = after(before)
    bench.run(following.sent(150, 165), NOW + 151 * MINUTE)
    always = four_from_the_start(database, 165)
    moved = [account for account in ACCOUNTS if partition_of("murmur2", account, 4) >= 2]
    assert len(moved) >= 4, "else the test shows nothing"
    for account in moved:
        partition = partition_of("murmur2", account, 4)
        assert_same(state_of(scorer, account, partition), state_of(always, account, partition), account)


def test_an_account_that_stays_keeps_its_state_and_one_that_left_is_still_known_where_it_was(
    database: Database, before: Log
) -> None:
    bench, scorer, owned = worker(database, "transactions", 2)
    for owner in owned.usable():
        bench.processor._states.of(owner, bench.processor._active)  # type: ignore[attr-defined]
    rescaled(database, "transactions")
    bench_of_four, of_four, owned = worker(database, "transactions", 4)
    for owner in owned.usable():
        bench_of_four.processor._states.of(owner, bench_of_four.processor._active)  # type: ignore[attr-defined]
    for account in ACCOUNTS:
        partition = partition_of("murmur2", account, 2)
        assert_same(state_of(of_four, account, partition), state_of(scorer, account, partition), account)


def test_an_event_repeated_after_the_rescale_is_a_duplicate_in_its_new_partition(
    database: Database, before: Log
) -> None:
    rescaled(database, "transactions")
    bench, scorer, _ = worker(database, "transactions", 4)
    account = next(account for account in ACCOUNTS if partition_of("murmur2", account, 4) >= 2)
    partition = partition_of("murmur2", account, 4)
    (event_id,) = bench.sql(
        f"SELECT event_id FROM transactions WHERE account_id = '{account}' ORDER BY occurred_at DESC LIMIT 1"
    )[0]
    bench.run({partition: [payment(0, account, seconds=7_000.0, event_id=event_id)]}, NOW + 151 * MINUTE)
    assert scorer.last.duplicate.tolist() == [True]
    assert bench.sql("SELECT count(*) FROM duplicates") == [(1,)]


def test_a_worker_restored_after_a_rescale_has_the_state_of_one_that_went_on(database: Database, before: Log) -> None:
    rescaled(database, "transactions")
    undisturbed, scorer, owned = worker(database, "transactions", 4)
    following = after(before)
    for start in range(150, 240, 15):
        undisturbed.run(following.sent(start, start + 15), NOW + 170 * MINUTE)
    kept = dict(owned.owned)
    restored, fresh, _ = worker(database, "transactions", 4)
    last = following.sent(240, 270)
    restored.prepare(last, NOW + 171 * MINUTE)
    owned.owned = kept
    undisturbed.prepare(last, NOW + 171 * MINUTE)
    for account in ACCOUNTS:
        partition = partition_of("murmur2", account, 4)
        assert_same(state_of(fresh, account, partition), state_of(scorer, account, partition), account)
    assert np.allclose(fresh.last.score, scorer.last.score, atol=1e-5, equal_nan=True)


def test_with_any_partitioner_every_partition_knows_every_account(database: Database, before: Log) -> None:
    rescaled(database, "transactions", ANY)
    bench, scorer, owned = worker(database, "transactions", 4)
    for owner in owned.usable():
        bench.processor._states.of(owner, bench.processor._active)  # type: ignore[attr-defined]
    assert scorer.resident_accounts == 4 * len(ACCOUNTS)
