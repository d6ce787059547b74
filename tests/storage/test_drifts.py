"""Drifts in SQL: one a day for each subject, whichever worker finds it first."""

from dataclasses import replace
from datetime import timedelta

from storage.database import Database
from storage.drifts import DriftRecord, drifted_since, record_drifts
from tests.storage.rows import NOON

DRIFT = DriftRecord("fraud:1", "psi", "amount", NOON, 0.4, 0.25, "worker-1")


def test_a_drift_is_recorded_once_a_day_whoever_finds_it(database: Database) -> None:
    assert record_drifts(database, [DRIFT]) == [DRIFT]
    again = replace(DRIFT, detected_at=NOON + timedelta(hours=3), worker="worker-2")
    assert record_drifts(database, [again]) == []
    others = [
        replace(DRIFT, subject="gap"),
        replace(DRIFT, detector="adwin"),
        replace(DRIFT, model="fraud:2"),
        replace(DRIFT, detected_at=NOON + timedelta(days=1)),
    ]
    assert record_drifts(database, [again, *others]) == others


def test_a_drift_is_since_a_moment_that_lies_before_it(database: Database) -> None:
    assert not drifted_since(database, NOON - timedelta(days=99))
    record_drifts(database, [DRIFT])
    assert drifted_since(database, NOON - timedelta(seconds=1))
    assert not drifted_since(database, NOON)
