"""Counts of scores in SQL: they add up, a repeated write adds nothing, what was not written can be counted again."""

import zlib
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import update

from storage.database import Database
from storage.score_sketches import (
    KEPT,
    SketchHour,
    add_to_sketches,
    counted_until,
    predictions_between,
    sketches_from,
)
from storage.tables import ScoreSketch
from tests.storage.rows import NOON, RowMaker

HOUR = timedelta(hours=1)


def counted(events: int = 3, hour: int = 0, model: str = "fraud:1", opened: int = 1) -> SketchHour:
    bins = np.zeros(500, np.int64)
    bins[[7, 499]] = events - 1, 1
    return SketchHour(model, NOON + hour * HOUR, events, 2, opened, NOON + hour * HOUR + timedelta(minutes=5), bins)


def add(database: Database, until: int, *some: SketchHour, partition: int = 0) -> bool:
    with database.begin() as connection:
        return add_to_sketches(connection, 1, partition, until, some)


def totals(database: Database, from_hour: int | None = None) -> list[tuple[str, int, int, int, int]]:
    """(model, hour, events, opened, events in one bin) of each partition's sketches."""
    with database.reading() as connection:
        found = list(sketches_from(connection, None if from_hour is None else NOON + from_hour * HOUR))
    return sorted((one.model, int((one.hour - NOON) / HOUR), one.events, one.opened, int(one.bins[7])) for one in found)


def test_counts_of_the_same_hour_add_up_and_others_stay_apart(database: Database) -> None:
    assert add(database, 10, counted(3), counted(5, hour=1))
    assert add(database, 20, counted(4), counted(2, model="fraud:2"))
    assert add(database, 5, counted(9), partition=1)
    assert totals(database) == [
        ("fraud:1", 0, 7, 2, 5),
        ("fraud:1", 0, 9, 1, 8),
        ("fraud:1", 1, 5, 1, 4),
        ("fraud:2", 0, 2, 1, 1),
    ]


def test_a_write_that_is_repeated_adds_nothing(database: Database) -> None:
    assert add(database, 10, counted(3))
    assert not add(database, 10, counted(3))
    assert totals(database) == [("fraud:1", 0, 3, 1, 2)]
    with database.reading() as connection:
        assert counted_until(connection, 1, 0) == 10
        assert counted_until(connection, 1, 1) is None


def test_hours_can_be_read_from_one_on(database: Database) -> None:
    add(database, 10, counted(3), counted(4, hour=1), counted(5, hour=2))
    assert [hour for _, hour, *_ in totals(database, from_hour=1)] == [1, 2]


def test_hours_are_forgotten_after_five_weeks(database: Database) -> None:
    later = int(KEPT / HOUR)
    add(database, 10, counted(3))
    add(database, 20, counted(4, hour=later))
    assert [hour for _, hour, *_ in totals(database)] == [0, later]
    add(database, 30, counted(4, hour=later + 1))
    assert [hour for _, hour, *_ in totals(database)] == [later, later + 1]


def test_predictions_are_read_by_model_with_what_opened_an_alert(database: Database, rows: RowMaker) -> None:
    rows.prediction("e0", source_offset=0, model="fraud:1")
    rows.prediction("e1", source_offset=1, model="fraud:1", flagged=True, score=0.9, alert_id="a")
    rows.prediction("e2", source_offset=2, model="fraud:2", flagged=True, score=0.8, alert_id="a")
    rows.prediction("e3", source_offset=3, model="fraud:2")
    rows.prediction("other", source_offset=1, source_partition=1)
    rows.alert("a", ["e1"], source_offset=1, model="fraud:1")
    rows.alert("a", ["e1", "e2"], source_offset=2, revision=2, model="fraud:2")
    with database.reading() as connection:
        found = predictions_between(connection, 1, 0, 1, 3)
    assert {name: (c.score.tolist(), c.flagged.tolist(), c.opened.tolist()) for name, c in found.items()} == {
        "fraud:1": ([0.9], [True], [True]),
        "fraud:2": ([0.8], [True], [False]),
    }
    assert found["fraud:1"].occurred_at.tolist() == [pytest.approx(NOON.timestamp() * 1000)]


def test_a_row_that_unpacks_to_more_than_any_sketch_is_refused(database: Database) -> None:
    add(database, 10, counted(3))
    with database.begin() as connection:
        connection.execute(update(ScoreSketch).values(bins=zlib.compress(bytes(16 << 20))))
    with pytest.raises(ValueError, match=r"take more than 1,048,576 bytes"):
        totals(database)
