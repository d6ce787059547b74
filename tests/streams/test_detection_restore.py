"""State after a claim: kept where nothing happened in between, else the fold of what is stored."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from models.scoring import Scorer
from storage.database import Database, DatabaseUnavailable
from streams.alert_rows import WriteAlerts
from streams.alerts import AlertRevision
from streams.batch import PreparedBatch
from streams.health import FlowMetrics
from tests.streams.bench import (
    NOW,
    TOPIC,
    Bench,
    KafkaRecord,
    Partitions,
    SometimesAway,
    detection,
    fraud,
    payment,
)

MINUTE = 60.0
ACCOUNTS = 7


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database)
    owned.claim(0, 1)
    return owned


def log(first: int, last: int) -> list[KafkaRecord]:
    """Payments, frauds, repeats and broken records, with gaps between the offsets."""
    found = []
    for number in range(first, last):
        offset, seconds = 2 * number, number * 40.0
        account = f"a{(number + number // 11) % ACCOUNTS}"
        record = payment(offset, account, amount=10.0 + number % 5, seconds=seconds, memo=f"m{number % 3}")
        if number % 11 == 3:
            record = fraud(offset, account, seconds=seconds, country="FR")
        elif number % 11 == 7:
            before = f"a{(number - 1 + (number - 1) // 11) % ACCOUNTS}"
            record = payment(offset, before, seconds=seconds, event_id=f"e{offset - 2}")
        elif number % 11 == 9:
            record = replace(record, value=b"{")
        found.append(record)
    return found


def state_of(scorer: Scorer, partition: int) -> dict[str, dict[str, Any]]:
    """account -> every array's entry of it, by name."""
    features, found = scorer._features, {}
    for account in (f"a{number}" for number in range(ACCOUNTS)):
        slot = features.account_slots.slot(partition, account)
        own = {name: array[slot].copy() for name, array in features.accounts.arrays.items()}
        found[account] = own | {"hidden": scorer._running._hidden.values[slot].numpy().copy()}
    return found


def revisions_of(batch: PreparedBatch | None) -> list[AlertRevision]:
    assert batch is not None
    found: list[AlertRevision] = []
    for work in batch.works:
        for finish in work.finish:
            if isinstance(finish, WriteAlerts):
                found += finish.revisions
    return found


def restores(metrics: FlowMetrics) -> int:
    return int(metrics.registry.get_sample_value("headgate_restore_seconds_count", {"topic": TOPIC}) or 0)


def test_a_restored_worker_has_the_state_of_an_undisturbed_one_and_goes_on_alike(
    database: Database, partitions: Partitions
) -> None:
    undisturbed, scorer = detection(database, partitions, sweep_interval=1e12)
    for start in range(0, 90, 9):
        undisturbed.run({0: log(start, start + 9), 1: log(start, start + 9)[:4]}, NOW + 90 * MINUTE)
    partitions_before = dict(partitions.owned)
    partitions.claim(0, 1)
    restored, fresh = detection(database, partitions, sweep_interval=1e12)
    following = {0: log(90, 120), 1: log(90, 100)}
    after = restored.prepare(following, NOW + 91 * MINUTE)
    partitions.owned = partitions_before
    for owner in partitions.owned.values():
        owner.revoked = False
    expected = undisturbed.prepare(following, NOW + 91 * MINUTE)

    for partition in (0, 1):
        own, other = state_of(fresh, partition), state_of(scorer, partition)
        for account in own:
            for name in own[account]:
                if own[account][name].dtype.kind in "iu":
                    assert np.array_equal(own[account][name], other[account][name]), (account, name)
                else:
                    assert np.allclose(own[account][name], other[account][name], atol=1e-5), (account, name)
    assert np.array_equal(fresh.last.duplicate, scorer.last.duplicate)
    assert np.allclose(fresh.last.score, scorer.last.score, atol=1e-5, equal_nan=True)
    found, wanted = revisions_of(after), revisions_of(expected)
    assert len(found) == len(wanted) > 3
    for one, other_one in zip(found, wanted, strict=True):
        assert one.score == pytest.approx(other_one.score, abs=1e-5)
        assert one.amount_at_risk == pytest.approx(other_one.amount_at_risk)
        blank = {"score": 0.0, "amount_at_risk": 0.0, "reasons": (), "severity": ""}
        assert replace(one, **blank) == replace(other_one, **blank)
    assert any(revision.revision > 1 for revision in found)  # an alert from before the restart went on


def test_state_is_kept_when_the_same_worker_claims_again_and_nothing_happened_between(
    database: Database, partitions: Partitions
) -> None:
    metrics = FlowMetrics()
    bench, scorer = detection(database, partitions, metrics)
    bench.run({0: log(0, 20)}, NOW)
    before = restores(metrics)
    partitions.claim(0, 1)
    bench.run({0: log(20, 30)}, NOW)
    assert restores(metrics) == before
    assert scorer.resident_accounts == ACCOUNTS


def test_state_is_dropped_when_another_worker_owned_the_partition_between(
    database: Database, partitions: Partitions
) -> None:
    metrics = FlowMetrics()
    bench, _ = detection(database, partitions, metrics)
    bench.run({0: log(0, 20)}, NOW)
    before = restores(metrics)
    elsewhere = Partitions(database)
    elsewhere.claim(0)
    other, _ = detection(database, elsewhere)
    partitions.claim(0, 1)
    bench.run({0: log(20, 30)}, NOW)
    assert restores(metrics) == before + 1
    assert other.batches == []


def test_state_that_ran_ahead_of_sql_is_dropped_and_the_records_are_scored_once_more(
    database: Database, partitions: Partitions
) -> None:
    metrics = FlowMetrics()
    bench, scorer = detection(database, partitions, metrics)
    bench.run({0: log(0, 20)}, NOW)
    abandoned = bench.prepare({0: log(20, 30)}, NOW)
    assert abandoned is not None
    first = scorer.last
    before = restores(metrics)
    partitions.claim(0, 1)
    assert [len(part) for part in (bench.commit(abandoned).committed, bench.commit(abandoned).lost)] == [0, 1]
    bench.run({0: log(20, 30)}, NOW)
    assert restores(metrics) == before + 1
    assert np.array_equal(first.duplicate, scorer.last.duplicate)
    assert np.allclose(first.score, scorer.last.score, atol=1e-5, equal_nan=True)
    assert bench.sql("SELECT count(*) FROM stream_progress WHERE next_offset = 59") == [(1,)]


def test_state_is_dropped_when_a_closing_that_moved_no_offset_never_reached_sql(
    database: Database, partitions: Partitions
) -> None:
    """The position fits, but the book ran ahead: without this the alert would stay open for ever."""
    bench, _ = detection(database, partitions)
    bench.run({0: [fraud(0)]}, NOW)
    closing = bench.prepare({}, NOW + 31 * MINUTE)
    assert closing is not None
    partitions.claim(0, 1)
    repeated = bench.run({}, NOW + 32 * MINUTE)
    assert [revision.status for revision in revisions_of(repeated)] == ["closed"]
    assert bench.commit(closing).committed == []
    assert bench.sql("SELECT revision, status FROM alerts ORDER BY revision") == [(1, "open"), (2, "closed")]


def test_state_of_a_topic_that_was_created_anew_is_dropped(database: Database, partitions: Partitions) -> None:
    metrics = FlowMetrics()
    bench, _ = detection(database, partitions, metrics)
    bench.run({0: [payment(0)]}, NOW)
    with database.begin() as connection:
        connection.execute(text("UPDATE stream_progress SET topic_uuid = 'older'"))
    before = restores(metrics)
    partitions.claim(0)
    bench.run({0: [payment(0)]}, NOW)  # the same id, in another log: no repeat
    assert restores(metrics) == before + 1
    assert bench.sql("SELECT count(*), count(DISTINCT topic_generation) FROM transactions") == [(2, 2)]


def test_a_restore_reports_every_event_that_it_folds(
    database: Database, partitions: Partitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[int] = []
    monkeypatch.setattr(FlowMetrics, "restored", lambda self, topic, events: folded.append(events))
    bench, _ = detection(database, partitions)
    bench.run({0: log(0, 40)}, NOW)
    partitions.claim(0, 1)
    restored, _ = detection(database, partitions)
    restored.prepare({0: log(40, 50)}, NOW)
    assert bench.sql("SELECT count(*) FROM transactions") == [(sum(folded),)]
    assert sum(folded) > 30


def test_a_restore_waits_while_the_database_is_away_and_begins_again(
    database: Database, partitions: Partitions
) -> None:
    first, scorer = detection(database, partitions, sweep_interval=1e12)
    first.run({0: log(0, 40)}, NOW)
    partitions.claim(0, 1)
    waits: list[int] = []

    def wait(failures: int, error: DatabaseUnavailable) -> None:
        waits.append(failures)

    away = SometimesAway(database.engine, ["at once", "at its end", "at once"])
    restored, fresh = detection(away, partitions, wait=wait, sweep_interval=1e12)
    restored.prepare({0: log(40, 60)}, NOW)
    for owner in partitions.owned.values():
        owner.revoked = False
    state = state_of(fresh, 0)
    first.partitions.claim(0, 1)
    first.prepare({0: log(40, 60)}, NOW)
    assert waits == [1, 2, 3]
    for account, expected in state_of(scorer, 0).items():
        assert np.array_equal(state[account]["event_ids"], expected["event_ids"])
        assert np.array_equal(state[account]["events"], expected["events"])


def test_a_wait_that_gives_up_ends_the_read(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(SometimesAway(database.engine, ["at once"]), partitions)
    with pytest.raises(DatabaseUnavailable):
        bench.run({}, NOW)


def test_partitions_that_went_elsewhere_leave_memory(database: Database, partitions: Partitions) -> None:
    bench, scorer = detection(database, partitions)
    bench.run({0: [payment(0, "a")], 1: [payment(0, "b")]}, NOW)
    assert scorer.resident_accounts == 2
    partitions.claim(1)
    bench.run({}, NOW + 5)
    assert scorer.resident_accounts == 1


def test_chunks_of_a_revoked_partition_are_left_out(database: Database, partitions: Partitions) -> None:
    bench: Bench = detection(database, partitions, sweep_interval=1e12)[0]
    bench.run({0: [payment(0)]}, NOW)
    partitions.owned[0].revoked = True
    assert bench.run({0: [payment(1)]}, NOW + 1) is None
    batch = bench.run({0: [payment(1)], 1: [payment(0)]}, NOW + 1)
    assert batch is not None
    assert [work.advance.partition for work in batch.works] == [1]
    assert batch.records == 1
