"""Counts of scores in SQL are those of the stored predictions and alerts, whatever is repeated, lost or restarted."""

from datetime import datetime
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from models.score_counts import BINS, LOWEST, WIDTH, log_odds
from storage.database import Database
from storage.score_sketches import sketches_from
from storage.tables import Alert, Prediction
from streams.score_counting import MOST_EVENTS, WRITE_SECONDS, PartitionCounts, WriteScoreCounts, scored_columns
from tests.streams.bench import NOW, Bench, Partitions, detection, fraud, payment
from tests.streams.test_detection_restore import log

MINUTE = 60.0
LATER = NOW + 120 * MINUTE
Totals = dict[tuple[str, datetime], tuple[int, int, int, list[int]]]


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database)
    owned.claim(0, 1)
    return owned


def counted(database: Database) -> Totals:
    """(model, hour) -> events, flagged, opened, bins, over all partitions."""
    found: Totals = {}
    with database.reading() as connection:
        for one in sketches_from(connection, None):
            before = found.get((one.model, one.hour), (0, 0, 0, [0] * BINS))
            bins = np.add(before[3], one.bins).tolist()
            sums = before[0] + one.events, before[1] + one.flagged, before[2] + one.opened, bins
            found[one.model, one.hour] = sums
    return found


def stored(database: Database) -> Totals:
    """The same from what is in `predictions` and `alerts`."""
    found: Totals = {}
    with database.reading() as connection:
        alerts = connection.execute(select(Alert.occurred_at, Alert.model).where(Alert.revision == 1)).all()
        rows = connection.execute(
            select(Prediction.model, Prediction.occurred_at, Prediction.score, Prediction.flagged)
        )
        for row in rows.all():
            key = row.model, row.occurred_at.replace(minute=0, second=0, microsecond=0)
            events, flagged, opened, bins = found.get(key, (0, 0, 0, [0] * BINS))
            place = int((log_odds(np.array([row.score]))[0] - LOWEST) / WIDTH)
            bins = [*bins[:place], bins[place] + 1, *bins[place + 1 :]]
            found[key] = events + 1, flagged + row.flagged, opened, bins
    for alert in alerts:
        key = alert.model, alert.occurred_at.replace(minute=0, second=0, microsecond=0)
        events, flagged, opened, bins = found[key]
        found[key] = events, flagged, opened + 1, bins
    return found


def flush(bench: Bench, now: float = LATER) -> None:
    bench.run({}, now + WRITE_SECONDS)


def test_what_is_counted_is_what_is_stored(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(database, partitions)
    for start in range(0, 120, 30):
        bench.run({0: log(start, start + 30), 1: log(start, start + 9)}, LATER + start)
    flush(bench, LATER + 120)
    assert counted(database) == stored(database)
    assert sum(opened for _, _, opened, _ in counted(database).values()) > 3


@pytest.mark.parametrize("batches_before", [1, 2, 3])
def test_a_worker_that_is_killed_loses_no_count(
    database: Database, partitions: Partitions, batches_before: int
) -> None:
    """The first batch writes its counts at once, those of the following ones wait, and die with the worker."""
    killed, _ = detection(database, partitions)
    for number in range(batches_before):
        killed.run({0: log(number * 20, number * 20 + 20), 1: log(0, 5)[number : number + 1]}, LATER + number)
    partitions.claim(0, 1)
    other, _ = detection(database, partitions)
    other.run({0: log(batches_before * 20, batches_before * 20 + 20)}, LATER + 60)
    flush(other, LATER + 60)
    assert counted(database) == stored(database)


def test_a_batch_that_is_sent_again_is_counted_once(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(database, partitions)
    bench.run({0: log(0, 20)}, LATER)
    bench.run({0: log(20, 40)}, LATER + 1)
    quiet = bench.prepare({}, LATER + 1 + WRITE_SECONDS)
    assert quiet is not None
    assert WriteScoreCounts in [type(finish) for work in quiet.works for finish in work.finish]
    bench.commit(quiet)
    bench.commit(quiet)  # it moves no offset: what is in its transaction must not count twice
    assert counted(database) == stored(database)


def test_counts_wait_a_few_seconds_and_a_quiet_partition_writes_its_own(
    database: Database, partitions: Partitions
) -> None:
    bench, _ = detection(database, partitions)
    bench.run({0: [payment(0)]}, NOW)
    bench.run({0: [payment(1)]}, NOW + 2)
    assert sum(events for events, *_ in counted(database).values()) == 1
    assert bench.run({}, NOW + 2 + WRITE_SECONDS / 2) is None
    batch = bench.run({1: [payment(0, "b")]}, NOW + 2 + WRITE_SECONDS)
    assert batch is not None
    assert [work.outboxes for work in batch.works] == [{"predictions"}, set()]
    assert sum(events for events, *_ in counted(database).values()) == 3


def test_an_event_that_folds_into_an_open_alert_opens_none(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(database, partitions)
    bench.run({0: [fraud(0), fraud(1), payment(2), fraud(3, "b")]}, NOW)
    assert [(events, flagged, opened) for events, flagged, opened, _ in counted(database).values()] == [(4, 3, 2)]


def test_what_is_too_old_to_alert_is_not_counted(database: Database, partitions: Partitions) -> None:
    bench, _ = detection(database, partitions, alert_max_age=60_000)
    bench.run({0: [fraud(0), fraud(1, "b", seconds=90)]}, NOW + 100)
    assert [(events, flagged, opened) for events, flagged, opened, _ in counted(database).values()] == [(1, 1, 1)]
    partitions.claim(0)
    other, _ = detection(database, partitions, alert_max_age=60_000)
    flush(other)
    assert [(events, flagged, opened) for events, flagged, opened, _ in counted(database).values()] == [(1, 1, 1)]


def test_many_events_are_written_before_their_time(partitions: Partitions) -> None:
    counts, claim = PartitionCounts(60_000), partitions.owned[0].claim
    none: list[Any] = []
    few, many = (np.full(size, 0.5) for size in (1, MOST_EVENTS))
    for score, written in ((few, True), (few, False), (many, True)):
        times, flagged = np.zeros(len(score), np.int64), np.zeros(len(score), bool)
        counts.count("fraud:1", scored_columns(times, 0, score, flagged, none))
        assert (counts.due(claim, 5, NOW) is not None) is written
