"""From flagged events to alerts in SQL: opened, folded, closed by time and by a verdict, with timelines and ids."""

import json
from typing import Any

import pytest

from storage.database import Database
from streams.alert_rows import WriteAlerts
from streams.alerts import deterministic_id
from streams.detection import MODEL_KIND
from streams.health import FlowMetrics
from tests.storage.rows import RowMaker
from tests.streams.bench import NOW, TOPIC, UUID, Bench, Partitions, detection, fraud, moment, payment

MINUTE = 60.0
HOUR = 60 * MINUTE


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database)
    owned.claim(0, 1)
    return owned


@pytest.fixture
def bench(database: Database, partitions: Partitions) -> Bench:
    return detection(database, partitions)[0]


def alerts(bench: Bench) -> list[tuple[Any, ...]]:
    """(alert_id, revision, status, closed_by) in the order they were made."""
    return bench.sql("SELECT alert_id, revision, status, closed_by FROM alerts ORDER BY source_partition, sequence")


def alert_id(offset: int, partition: int = 0) -> str:
    return deterministic_id(TOPIC, UUID, partition, offset, MODEL_KIND)


def test_a_flagged_event_opens_an_alert_under_the_id_of_its_place_and_its_prediction_names_it(bench: Bench) -> None:
    batch = bench.run({0: [payment(0), fraud(1), payment(2, "b")]}, NOW)
    assert alerts(bench) == [(alert_id(1), 1, "open", None)]
    assert bench.sql("SELECT source_offset, alert_id FROM predictions ORDER BY source_offset") == [
        (0, None),
        (1, alert_id(1)),
        (2, None),
    ]
    assert batch is not None
    assert [work.outboxes for work in batch.works] == [{"predictions", "alerts"}]


def test_events_within_thirty_minutes_fold_and_a_later_one_opens_another_alert(bench: Bench) -> None:
    bench.run({0: [fraud(0)]}, NOW)
    bench.run({0: [fraud(1, seconds=29 * MINUTE)]}, NOW + 29 * MINUTE)
    bench.run({0: [fraud(2, seconds=90 * MINUTE)]}, NOW + 90 * MINUTE)
    first, second = alert_id(0), alert_id(2)
    assert alerts(bench) == [
        (first, 1, "open", None),
        (first, 2, "open", None),
        (first, 3, "closed", "time"),
        (second, 1, "open", None),
    ]
    assert bench.sql("SELECT alert_id FROM predictions ORDER BY source_offset") == [(first,), (first,), (second,)]


def test_the_timeline_shows_the_account_s_recent_events_as_stored(bench: Bench) -> None:
    bench.run({0: [payment(0, amount=12.34), payment(1, "b"), payment(2, amount=5.0, currency="USD")]}, NOW)
    bench.run({0: [payment(3, amount=7.0), fraud(4)]}, NOW)
    ((stored,),) = bench.sql("SELECT timeline FROM alerts")
    timeline = json.loads(stored) if isinstance(stored, str) else stored
    assert [(entry["event_id"], entry["amount"], entry["currency"], entry["flagged"]) for entry in timeline] == [
        ("e0", 12.34, "EUR", False),
        ("e2", 5.0, "USD", False),
        ("e3", 7.0, "EUR", False),
        ("e4", 9_000.0, "EUR", True),
    ]
    scores = dict(bench.sql("SELECT event_id, score FROM predictions"))
    assert [entry["score"] for entry in timeline] == [scores[entry["event_id"]] for entry in timeline]


def test_a_quiet_partition_s_alerts_close_by_the_clock_and_keep_their_timeline(bench: Bench) -> None:
    bench.run({0: [payment(0), fraud(1)]}, NOW)
    assert bench.run({}, NOW + 29 * MINUTE) is None
    batch = bench.run({}, NOW + 31 * MINUTE)
    assert batch is not None
    (work,) = batch.works
    assert (work.advance.base_offset, work.advance.next_offset, batch.records) == (2, 2, 0)
    assert alerts(bench) == [(alert_id(1), 1, "open", None), (alert_id(1), 2, "closed", "time")]
    (opened,), (closed,) = bench.sql("SELECT timeline FROM alerts ORDER BY revision")
    assert opened == closed
    assert bench.run({}, NOW + 90 * MINUTE) is None


def test_beside_a_partition_that_is_behind_a_quiet_one_ages_with_it_and_not_with_the_clock(bench: Bench) -> None:
    bench.run({0: [fraud(0)], 1: [payment(0, "b")]}, NOW)
    bench.run({1: [payment(1, "b", seconds=10 * MINUTE)]}, NOW + 2 * HOUR)
    assert [status for _, _, status, _ in alerts(bench)] == ["open"]
    bench.run({1: [payment(2, "b", seconds=31 * MINUTE)]}, NOW + 2 * HOUR + 2)
    assert [status for _, _, status, _ in alerts(bench)] == ["open", "closed"]


def test_a_moment_of_quiet_before_a_backlog_does_not_keep_its_events_from_folding(bench: Bench) -> None:
    """After an outage the first look comes before the first record of the hour that is to be caught up."""
    bench.run({}, NOW + HOUR)
    bench.run({0: [fraud(0)]}, NOW + HOUR + 2)
    bench.run({0: [fraud(1, seconds=5 * MINUTE)]}, NOW + HOUR + 4)
    assert alerts(bench) == [(alert_id(0), 1, "open", None), (alert_id(0), 2, "open", None)]


@pytest.mark.parametrize("about", ["event", "alert"])
def test_a_verdict_closes_the_alert_at_the_next_look(bench: Bench, rows: RowMaker, about: str) -> None:
    bench.run({0: [fraud(0), fraud(1, "b")]}, NOW)
    given = {"event_id": "e0"} if about == "event" else {"alert_id": alert_id(0)}
    bench.run({}, NOW + 5)
    rows.label("f1", joined_at=moment(NOW + 8), **given)
    assert bench.run({}, NOW + 5.5) is None  # no look yet
    bench.run({}, NOW + 10)
    assert alerts(bench)[2:] == [(alert_id(0), 2, "closed", "verdict")]
    bench.run({}, NOW + 20)
    assert len(alerts(bench)) == 3


def test_a_verdict_that_nobody_heard_of_during_a_pause_is_found_after_it(bench: Bench, rows: RowMaker) -> None:
    bench.look = lambda now: None
    bench.run({0: [fraud(0)]}, NOW)
    bench.run({}, NOW + 5)
    rows.label("f1", event_id="e0", joined_at=moment(NOW + 6))
    assert bench.run({}, NOW + 10) is None
    bench.run({}, NOW + 50)
    assert alerts(bench)[1:] == [(alert_id(0), 2, "closed", "verdict")]


def test_a_verdict_from_before_a_restart_is_found_by_the_first_look_back(
    database: Database, partitions: Partitions, bench: Bench, rows: RowMaker
) -> None:
    bench.run({0: [fraud(0)]}, NOW)
    rows.label("f1", event_id="e0", joined_at=moment(NOW + 1))
    partitions.claim(0, 1)
    restarted, _ = detection(database, partitions)
    restarted.run({}, NOW + 20 * MINUTE)
    assert alerts(restarted)[1:] == [(alert_id(0), 2, "closed", "verdict")]


def test_an_event_older_than_the_limit_is_scored_and_raises_no_alert(
    database: Database, partitions: Partitions
) -> None:
    bench, _ = detection(database, partitions, alert_max_age=60_000)
    bench.run({0: [fraud(0), fraud(1, "b", seconds=61.0)]}, NOW + 121.0)
    assert bench.sql("SELECT flagged, alert_id IS NULL FROM predictions ORDER BY source_offset") == [
        (True, True),
        (True, False),
    ]
    assert len(alerts(bench)) == 1


def test_a_repeated_fraud_raises_no_second_revision(bench: Bench) -> None:
    bench.run({0: [fraud(0), fraud(1, event_id="e0")]}, NOW)
    bench.run({0: [fraud(2, event_id="e0")]}, NOW)
    assert alerts(bench) == [(alert_id(0), 1, "open", None)]
    assert bench.sql("SELECT source_offset, event_id FROM duplicates ORDER BY 1") == [(1, "e0"), (2, "e0")]


def test_the_same_log_processed_twice_makes_the_same_alerts(database: Database, partitions: Partitions) -> None:
    log = [fraud(offset, f"a{offset % 3}", seconds=offset * 11 * MINUTE) for offset in range(20)]
    made = []
    for size in (20, 3):
        bench, _ = detection(database, partitions, sweep_interval=1e12)
        for start in range(0, 20, size):
            bench.prepare({0: log[start : start + size]}, NOW + 5 * HOUR)
        revisions = [
            revision
            for batch in bench.batches
            for work in batch.works
            for finish in work.finish
            if isinstance(finish, WriteAlerts)
            for revision in finish.revisions
        ]
        made.append([(r.alert_id, r.revision, r.sequence, r.status, r.event_ids) for r in revisions])
    assert made[0] == made[1]
    assert len(made[0]) > 20


def test_amounts_in_another_currency_count_in_the_base_currency(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(database, partitions, rates={"JPY": 0.006})
    cheap = payment(0, amount=9_000.0, currency="JPY")
    dear = payment(1, "b", amount=1_000_000.0, currency="JPY")
    bench.run({0: [cheap, dear]}, NOW)
    assert bench.sql("SELECT account_id, amount_at_risk FROM alerts") == [("b", 6_000.0)]
    assert bench.sql("SELECT amount_e4 FROM transactions ORDER BY source_offset") == [(90_000_000,), (10_000_000_000,)]


def test_alerts_and_resident_accounts_are_counted(database: Database, partitions: Partitions) -> None:
    metrics = FlowMetrics()
    bench, _ = detection(database, partitions, metrics)
    bench.run({0: [fraud(0), fraud(1), payment(2, "b")]}, NOW)
    assert metrics.registry.get_sample_value("headgate_alert_revisions_total") == 2
    assert metrics.registry.get_sample_value("headgate_resident_accounts") == 2
    assert metrics.registry.get_sample_value("headgate_restore_seconds_count", {"topic": TOPIC}) == 2
    partitions.claim(1)
    bench.run({}, NOW + 5)
    bench.run({1: [payment(0, "c")]}, NOW + 6)
    assert metrics.registry.get_sample_value("headgate_resident_accounts") == 1


def test_a_verdict_that_sql_joined_while_the_database_was_slow_is_still_seen(bench: Bench, rows: RowMaker) -> None:
    """A label counts from its commit, which may follow its joined_at by a while."""
    bench.run({0: [fraud(0)]}, NOW)
    bench.run({}, NOW + 50)
    rows.label("f1", event_id="e0", joined_at=moment(NOW + 45))
    bench.run({}, NOW + 60)
    assert alerts(bench)[1:] == [(alert_id(0), 2, "closed", "verdict")]
