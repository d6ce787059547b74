"""Stored transactions for replay and training, and the life of feedback."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
from sqlalchemy import select, text

from storage import tables
from storage.database import Database
from storage.training_data import (
    HistoryCut,
    expire_feedback,
    fail_abandoned_runs,
    finish_training_run,
    has_pending_feedback,
    history_cut,
    join_feedback,
    labelled_transactions,
    labels_joined_since,
    latest_run_start,
    start_training_run,
    stored_transactions,
)
from tests.storage.rows import NOON, TODAY, RowMaker

MINUTE = timedelta(minutes=1)
NOON_IN_MILLISECONDS = 1_773_489_600_000


def test_a_partitions_transactions_come_in_the_order_of_their_offsets(database: Database, rows: RowMaker) -> None:
    for offset in (5, 3, 9, 4, 7):
        day = TODAY - timedelta(days=offset % 3)  # the key leads with the day
        rows.transaction(f"e{offset}", source_offset=offset, day=day, occurred_at=NOON - offset * MINUTE)
    rows.transaction("elsewhere", source_offset=6, source_partition=1)
    rows.transaction("before", source_offset=6, topic_generation=2)
    with database.reading() as connection:
        batches = list(stored_transactions(connection, topic_generation=1, partition=0, before_offset=9, batch_rows=3))
    assert [batch.event_id for batch in batches] == [["e3", "e4", "e5"], ["e7"]]
    assert [len(batch) for batch in batches] == [3, 1]
    assert batches[0].source_offset.tolist() == [3, 4, 5]


def test_columns_hold_what_was_stored(database: Database, rows: RowMaker) -> None:
    moment = NOON + timedelta(milliseconds=123)
    rows.transaction(
        "e1",
        **{"source_offset": 4, "occurred_at": moment, "recorded_at": NOON, "amount_e4": 2**60, "currency": "CHF"},
        **{"channel": "web", "country": None, "category": "travel", "memo": "Zürich ✈", "account_id": "a9"},
    )
    with database.reading() as connection:
        (found,) = stored_transactions(connection, topic_generation=1, partition=0, before_offset=5)
    assert (found.occurred_at.tolist(), found.recorded_at.tolist()) == (
        [NOON_IN_MILLISECONDS + 123],
        [NOON_IN_MILLISECONDS],
    )
    assert (found.amount_e4.tolist(), found.amount_e4.dtype) == ([2**60], np.int64)
    assert (found.source_partition.tolist(), found.source_partition.dtype) == ([0], np.int32)
    texts = (found.account_id, found.merchant_id, found.currency, found.channel, found.country, found.category)
    assert texts == (["a9"], ["m1"], ["CHF"], ["web"], [None], ["travel"])
    assert found.memo == ["Zürich ✈"]


def test_no_transactions_are_no_batches(database: Database) -> None:
    with database.reading() as connection:
        assert list(stored_transactions(connection, topic_generation=1, partition=0, before_offset=9)) == []
        assert list(labelled_transactions(connection, since=None, cut=history_cut(connection, NOON))) == []


def test_labelled_transactions_come_in_the_order_of_their_time(database: Database, rows: RowMaker) -> None:
    for number, minutes in enumerate((4, 1, 3, 2, 0)):
        rows.transaction(f"e{minutes}", occurred_at=NOON + minutes * MINUTE, source_partition=number % 2)
    rows.label("f1", "legitimate", event_id="e1", given_at=NOON)
    rows.label("f2", "fraud", event_id="e1", given_at=NOON + MINUTE)
    rows.label("f3", "legitimate", event_id="e3")
    rows.label("f4", "fraud", event_id="e2", status="pending")
    rows.alert("A", ["e4"])
    rows.label("f5", "fraud", alert_id="A")
    with database.reading() as connection:
        cut = history_cut(connection, NOON + 9 * MINUTE)
        everything = list(labelled_transactions(connection, since=None, cut=cut, batch_rows=2))
        (some,) = labelled_transactions(connection, since=NOON + MINUTE, cut=replace(cut, until=NOON + 3 * MINUTE))
    assert [batch.transactions.event_id for batch in everything] == [["e0", "e1"], ["e2", "e3"], ["e4"]]
    assert [batch.label.tolist() for batch in everything] == [[-1, 1], [-1, 0], [1]]
    assert some.transactions.event_id == ["e1", "e2"]


def test_what_comes_after_a_cut_is_not_in_it_however_old_it_is(database: Database, rows: RowMaker) -> None:
    rows.transaction("e1", source_partition=0)
    rows.label("f1", "fraud", event_id="e1", joined_at=NOON)
    with database.reading() as connection:
        cut = HistoryCut.from_json(history_cut(connection, NOON + MINUTE).as_json())
    rows.transaction("late", occurred_at=NOON - MINUTE, source_partition=0)
    rows.transaction("elsewhere", occurred_at=NOON - MINUTE, source_partition=1)
    rows.label("f2", "legitimate", event_id="e1", given_at=NOON + MINUTE, joined_at=NOON + 2 * MINUTE)
    with database.reading() as connection:
        (found,) = labelled_transactions(connection, since=None, cut=cut)
        (later,) = labelled_transactions(connection, since=None, cut=history_cut(connection, NOON + 3 * MINUTE))
    assert (found.transactions.event_id, found.label.tolist()) == (["e1"], [1])
    assert (sorted(later.transactions.event_id), later.label.max()) == (["e1", "elsewhere", "late"], 0)


def test_a_reader_of_history_may_think_for_long_between_two_batches(database: Database, rows: RowMaker) -> None:
    """PostgreSQL would end the session of a trainer whose step takes longer than a frozen owner is suffered."""
    for offset in range(4):
        rows.transaction(f"e{offset}")
    setting = text("SHOW idle_in_transaction_session_timeout")
    with database.reading() as connection:
        for _ in stored_transactions(connection, topic_generation=1, partition=0, before_offset=9, batch_rows=2):
            if database.dialect == "postgresql":
                assert connection.execute(setting).scalar() == "0"
    if database.dialect == "postgresql":
        with database.reading() as connection:
            assert connection.execute(setting).scalar() == "3s"


def test_feedback_is_joined_once_its_event_or_alert_is_stored(database: Database, rows: RowMaker) -> None:
    rows.label("on event", event_id="e1", status="pending")
    rows.label("on alert", alert_id="A", status="pending")
    rows.label("not yet", event_id="e2", status="pending")
    rows.label("elsewhere", event_id="e1", status="pending", source_partition=1)
    rows.label("given up", event_id="e1", status="expired")
    with database.begin() as connection:
        assert join_feedback(connection, 1, [0], NOON) == 0
    rows.transaction("e1")
    rows.alert("A", ["e1"])
    with database.begin() as connection:
        assert join_feedback(connection, 1, [0], NOON + MINUTE) == 2
        assert join_feedback(connection, 1, [0], NOON + 2 * MINUTE) == 0
        assert join_feedback(connection, 1, [], NOON) == 0
        columns = (tables.Feedback.feedback_id, tables.Feedback.status, tables.Feedback.joined_at)
        found = {row[0]: tuple(row[1:]) for row in connection.execute(select(*columns))}
    assert found == {
        "on event": ("joined", NOON + MINUTE),
        "on alert": ("joined", NOON + MINUTE),
        "not yet": ("pending", None),
        "elsewhere": ("pending", None),
        "given up": ("expired", None),
    }


def test_pending_feedback_expires_by_the_time_it_was_recorded(database: Database, rows: RowMaker) -> None:
    rows.label("old", event_id="e1", status="pending", recorded_at=NOON - MINUTE, given_at=NOON + MINUTE)
    rows.label("new", event_id="e1", status="pending", recorded_at=NOON)
    rows.label("joined", event_id="e1", recorded_at=NOON - MINUTE)
    with database.begin() as connection:
        assert has_pending_feedback(connection, 1, 0)
        assert not has_pending_feedback(connection, 1, 1)
        assert expire_feedback(connection, 1, [0], before=NOON) == 1
        assert has_pending_feedback(connection, 1, 0)
        assert expire_feedback(connection, 1, [0, 1], before=NOON + MINUTE) == 1
        assert not has_pending_feedback(connection, 1, 0)
        found = dict(
            tuple(row) for row in connection.execute(select(tables.Feedback.feedback_id, tables.Feedback.status))
        )
    assert found == {"old": "expired", "new": "expired", "joined": "joined"}


def test_a_training_run_is_running_until_it_is_finished(database: Database) -> None:
    for run_id in ("r1", "r2"):
        start_training_run(database, run_id, "detector", NOON, {"epochs": 3})
    finish_training_run(database, "r1", NOON + MINUTE, "failed", metrics={"ap": 0.5}, message="out of data")
    run = tables.TrainingRun
    with database.reading() as connection:
        columns = (run.run_id, run.status, run.started_at, run.finished_at, run.config, run.metrics, run.message)
        found = [tuple(row) for row in connection.execute(select(*columns).order_by(run.run_id))]
    assert found == [
        ("r1", "failed", NOON, NOON + MINUTE, {"epochs": 3}, {"ap": 0.5}, "out of data"),
        ("r2", "running", NOON, None, {"epochs": 3}, None, None),
    ]


def test_runs_of_a_job_are_told_from_those_of_others(database: Database) -> None:
    for number, (status, job) in enumerate(
        [("succeeded", "loop"), ("refused", "loop"), ("failed", "loop"), ("running", "loop"), ("running", None)]
    ):
        run_id, moment = str(number), NOON + number * MINUTE
        start_training_run(database, run_id, "detector", moment, {"job": job} if job else {})
        if status != "running":
            finish_training_run(database, run_id, moment, status)
    assert latest_run_start(database, "detector", "loop") == NOON + MINUTE
    assert latest_run_start(database, "detector", "another") is None
    assert latest_run_start(database, "policy", "loop") is None
    assert fail_abandoned_runs(database, "detector", "loop", NOON + 9 * MINUTE, "died") == 1
    run = tables.TrainingRun
    with database.reading() as connection:
        found = connection.execute(select(run.status, run.finished_at, run.message).order_by(run.run_id)).all()
    assert [tuple(row) for row in found[3:]] == [("failed", NOON + 9 * MINUTE, "died"), ("running", None, None)]


def test_labels_count_from_the_moment_they_were_joined(database: Database, rows: RowMaker) -> None:
    rows.label("early", event_id="e1", joined_at=NOON - MINUTE)
    rows.label("now", event_id="e1", joined_at=NOON)
    rows.label("late", alert_id="A", joined_at=NOON + MINUTE, given_at=NOON - 9 * MINUTE)
    rows.label("pending", event_id="e1", status="pending")
    rows.label("reward", event_id="e1", kind="reward", joined_at=NOON)
    assert labels_joined_since(database, NOON) == 2
