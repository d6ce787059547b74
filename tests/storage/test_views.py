"""What analysts read: labels, predictions with their transactions, alerts, daily figures."""

import json
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, text

from storage import tables
from storage.database import Database
from tests.storage.rows import NOON, TODAY, RowMaker

HOUR = timedelta(hours=1)


def read(database: Database, statement: str) -> list[Any]:
    with database.reading() as connection:
        return [row[0] if len(row) == 1 else tuple(row) for row in connection.execute(text(statement))]


def test_the_newest_label_wins_whatever_order_they_came_in(database: Database, rows: RowMaker) -> None:
    rows.scored("e1")
    rows.label("f1", "legitimate", event_id="e1", given_at=NOON + 2 * HOUR, source="chargeback")
    rows.label("f2", "fraud", event_id="e1", given_at=NOON + HOUR)
    rows.label("f3", "fraud", event_id="e1", given_at=NOON)
    assert read(database, "SELECT label, label_source FROM v_predictions") == [("legitimate", "chargeback")]
    assert len(read(database, "SELECT feedback_id FROM feedback")) == 3


def test_labels_of_one_moment_are_decided_by_their_ids(database: Database, rows: RowMaker) -> None:
    rows.scored("e1")
    rows.label("f2", "legitimate", event_id="e1")
    rows.label("f1", "fraud", event_id="e1")
    assert read(database, "SELECT label FROM v_predictions") == ["legitimate"]


def test_a_label_on_an_alert_labels_every_event_of_its_latest_revision(database: Database, rows: RowMaker) -> None:
    for event_id in ("e1", "e2", "e3"):
        rows.scored(event_id)
    rows.alert("A", ["e1"], revision=1)
    rows.alert("A", ["e1", "e2"], revision=2)
    rows.label("f1", "fraud", alert_id="A")
    labels = dict(read(database, "SELECT event_id, label FROM v_predictions"))
    assert labels == {"e1": "fraud", "e2": "fraud", "e3": None}


def test_a_newer_label_on_the_event_beats_the_one_on_its_alert(database: Database, rows: RowMaker) -> None:
    for event_id in ("e1", "e2"):
        rows.scored(event_id)
    rows.alert("A", ["e1", "e2"])
    rows.label("f1", "fraud", alert_id="A", given_at=NOON)
    rows.label("f2", "legitimate", event_id="e1", given_at=NOON + HOUR)
    assert dict(read(database, "SELECT event_id, label FROM v_predictions")) == {"e1": "legitimate", "e2": "fraud"}
    assert read(database, "SELECT alert_id, label FROM v_alerts") == [("A", "legitimate")]


@pytest.mark.parametrize("status", ["pending", "expired"])
def test_feedback_that_is_not_joined_counts_nowhere(database: Database, rows: RowMaker, status: str) -> None:
    rows.scored("e1", alert_id="A", flagged=True)
    rows.alert("A", ["e1"])
    rows.label("f1", event_id="e1", status=status)
    rows.label("f2", alert_id="A", status=status)
    assert read(database, "SELECT label FROM v_predictions") == [None]
    assert read(database, "SELECT label FROM v_alerts") == [None]
    assert read(database, "SELECT labelled FROM v_detection_daily") == [0]


def test_a_reward_is_not_a_label(database: Database, rows: RowMaker) -> None:
    rows.scored("e1")
    rows.label("f1", None, kind="reward", event_id="e1", value=1.0)
    assert read(database, "SELECT label FROM v_predictions") == [None]


def test_an_alert_is_shown_once_at_its_latest_revision(database: Database, rows: RowMaker) -> None:
    rows.alert("A", ["e1"], revision=1, score=0.7)
    rows.alert("A", ["e1", "e2"], revision=2, score=0.9)
    rows.alert("A", ["e1", "e2"], revision=3, score=0.9, status="closed", closed_by="time")
    rows.alert("B", ["e3"])
    rows.label("f1", "fraud", event_id="e1")
    rows.label("f2", "fraud", event_id="e2")
    found = read(database, "SELECT alert_id, revision, status, closed_by, label FROM v_alerts ORDER BY alert_id")
    assert found == [("A", 3, "closed", "time", "fraud"), ("B", 1, "open", None, None)]


@pytest.mark.parametrize("amount_e4", [0, 1, 10, 125_000, 333_333, 2**53 + 1, 2**63 - 1])
def test_amounts_are_exact_decimals_on_postgresql(database: Database, rows: RowMaker, amount_e4: int) -> None:
    rows.scored("e1", amount_e4=amount_e4)
    (amount,) = read(database, "SELECT amount FROM v_predictions")
    exact = Decimal(amount_e4).scaleb(-4)
    if database.dialect == "postgresql":
        assert isinstance(amount, Decimal)
        assert amount == exact
    else:
        assert amount == pytest.approx(float(exact))


def test_a_prediction_is_joined_with_the_transaction_of_the_same_offset(database: Database, rows: RowMaker) -> None:
    key = {"source_offset": 7}
    for generation, merchant in ((1, "old"), (2, "new")):
        rows.scored("e1", **key, topic_generation=generation, merchant_id=merchant)
    rows.transaction("e2")
    found = read(database, "SELECT topic_generation, merchant_id FROM v_predictions ORDER BY topic_generation")
    assert found == [(1, "old"), (2, "new")]


def test_the_daily_figures_of_a_case_worked_out_by_hand(database: Database, rows: RowMaker) -> None:
    rows.insert(
        tables.Model,
        {
            **{"name": "detector", "version": 1, "kind": "detector", "created_at": NOON, "artifact": "a"},
            **{"sha256": "0", "size_bytes": 1, "feature_schema": 1, "metrics": {"alerts_per_day": 8}},
        },
    )
    # Day one, detector:1: 6 events; flagged e1 e2 e3 e4 in the alerts A (e1 e2), B (e3), C (e4).
    for event_id, alert_id in (("e1", "A"), ("e2", "A"), ("e3", "B"), ("e4", "C")):
        rows.scored(event_id, flagged=True, alert_id=alert_id)
    rows.scored("e5")
    rows.scored("e6")
    rows.alert("A", ["e1", "e2"])
    rows.label("f1", "fraud", alert_id="A")
    rows.label("f2", "legitimate", event_id="e3")
    rows.label("f3", "fraud", event_id="e5")
    # Another model on the same day, and the last millisecond before the next day.
    rows.scored("e7", model="detector:2", occurred_at=NOON.replace(hour=23, minute=59, second=59, microsecond=999_000))
    # The Kafka record came a day late: the event's own day counts.
    rows.scored("e8", occurred_at=NOON + timedelta(days=1), day=TODAY)
    columns = "model, events, flagged, alerts, labelled, frauds, true_positives, precision, recall"
    found = read(
        database, f"SELECT day, {columns}, alert_budget, alert_budget_used FROM v_detection_daily ORDER BY day, model"
    )
    first, other_model, next_day = (list(row) for row in found)
    days = [date.fromisoformat(str(row.pop(0))) for row in (first, other_model, next_day)]
    assert days == [TODAY, TODAY, TODAY + timedelta(days=1)]
    # labelled: e1 e2 e3 e5; frauds: e1 e2 e5; flagged frauds: e1 e2; precision 2 of 3 flagged labelled; recall 2 of 3.
    assert first[:7] == ["detector:1", 6, 4, 3, 4, 3, 2]
    assert [float(value) for value in first[7:]] == pytest.approx([2 / 3, 2 / 3, 8, 3 / 8])
    assert other_model == ["detector:2", 1, 0, 0, 0, 0, 0, None, None, None, None]
    assert next_day[:7] == ["detector:1", 1, 0, 0, 0, 0, 0]
    assert next_day[7:9] == [None, None]


def test_a_shadow_is_compared_with_the_champion_on_the_events_that_both_scored(
    database: Database, rows: RowMaker
) -> None:
    """Flagged: e1 e2 by both, e3 by the shadow, e4 by the champion; e5 by none, e6 without a shadow."""
    by_champion = {"e1": True, "e2": True, "e3": False, "e4": True, "e5": False, "e6": True}
    predictions = {event: rows.prediction(event, flagged=flagged) for event, flagged in by_champion.items()}
    for event, flagged in {"e1": True, "e2": True, "e3": True, "e4": False, "e5": False}.items():
        rows.shadow(predictions[event], flagged=flagged)
    for event, label in {"e1": "fraud", "e2": "legitimate", "e3": "fraud", "e4": "legitimate", "e6": "fraud"}.items():
        rows.label(f"of {event}", label, event_id=event)
    later = rows.prediction("e7", model="detector:2", occurred_at=NOON + timedelta(days=1))
    rows.shadow(later)
    found = read(database, "SELECT * FROM v_shadow_daily ORDER BY day")
    counts, rates = found[0][3:11], [float(rate) for rate in found[0][11:]]
    assert (str(found[0][0]), found[0][1:3]) == (str(TODAY), ("detector:9", "detector:1"))
    assert counts == (5, 3, 3, 2, 4, 2, 2, 1)
    assert rates == pytest.approx([2 / 3, 1 / 3, 1, 1 / 2])
    assert found[1][1:6] == ("detector:9", "detector:2", 1, 0, 0)
    assert found[1][11:] == (None,) * 4


def test_a_shadow_is_in_no_view_about_champions(database: Database, rows: RowMaker) -> None:
    rows.scored("e1")
    with database.reading() as connection:
        stored = connection.execute(text("SELECT * FROM predictions")).one()
    rows.shadow({**stored._mapping, "occurred_at": NOON, "scored_at": NOON, "day": TODAY}, flagged=True)
    assert read(database, "SELECT model FROM v_predictions") == ["detector:1"]
    assert read(database, "SELECT model, events, flagged FROM v_detection_daily") == [("detector:1", 1, 0)]
    assert read(database, "SELECT * FROM v_alerts") == []


def test_models_are_listed_with_their_figures_and_without_their_curves(database: Database) -> None:
    metrics = {"average_precision": 0.5, "intervals": {"average_precision": [0.4, 0.6]}, "curves": {"events": 9}}
    row = {
        **{"name": "fraud", "version": 3, "kind": "detector", "created_at": NOON, "artifact": "a", "sha256": "0"},
        **{"size_bytes": 1, "feature_schema": 1, "metrics": metrics, "alias": "champion", "promoted_at": NOON},
        "promoted_why": "better",
    }
    with database.begin() as connection:
        connection.execute(insert(tables.Model), row)
        (found,) = connection.execute(text("SELECT * FROM v_models")).mappings().all()
    figures = found["metrics"] if isinstance(found["metrics"], dict) else json.loads(found["metrics"])
    assert figures == {"average_precision": 0.5, "intervals": {"average_precision": [0.4, 0.6]}}
    assert (found["model"], found["alias"], found["promoted_why"], found["withdrawn_at"]) == (
        "fraud:3",
        "champion",
        "better",
        None,
    )
