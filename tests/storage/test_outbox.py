"""Committed rows past a cursor, in the order they are to be published."""

from datetime import timedelta
from operator import attrgetter

from storage.database import Database
from storage.outbox import (
    PREDICTION_DAYS,
    AlertRow,
    DeadLetterRow,
    PredictionRow,
    RecommendationRow,
    RecommendedItemRow,
    alerts_after,
    current_slates,
    dead_letters_after,
    every_latest_alert,
    predictions_after,
    recommendations_after,
)
from tests.storage.rows import NOON, TODAY, RowMaker

MINUTE = timedelta(minutes=1)


def test_alerts_come_by_their_sequence_from_the_position_on(database: Database, rows: RowMaker) -> None:
    for sequence in (3, 0, 2, 1):
        rows.alert(f"A{sequence}", ["e1"], sequence=sequence)
    rows.alert("elsewhere", ["e1"], sequence=2, source_partition=1)
    rows.alert("before", ["e1"], sequence=2, topic_generation=2)
    with database.reading() as connection:
        found = alerts_after(connection, 1, 0, position=1, limit=2)
        assert [(row.sequence, row.alert_id) for row in found] == [(1, "A1"), (2, "A2")]
        assert [row.alert_id for row in alerts_after(connection, 1, 0, position=3, limit=2)] == ["A3"]
        assert alerts_after(connection, 1, 0, position=4, limit=2) == []


def test_an_alert_row_holds_what_is_published(database: Database, rows: RowMaker) -> None:
    timeline = [{"event_id": "e1", "amount": "12.50"}]
    stored = rows.alert("A", ["e1", "e2"], revision=3, timeline=timeline, severity="critical")
    with database.reading() as connection:
        (found,) = alerts_after(connection, 1, 0, 0, 10)
    assert found == AlertRow(**{name: stored[name] for name in AlertRow.__dataclass_fields__})


def test_dead_letters_come_by_their_offset(database: Database, rows: RowMaker) -> None:
    rows.dead_letter(source_offset=8, payload=None, record_key=None, payload_bytes=0, sha256=None)
    rows.dead_letter(source_offset=5)
    rows.dead_letter(source_offset=2)
    with database.reading() as connection:
        found = dead_letters_after(connection, 1, 0, position=5, limit=10)
    assert found == [
        DeadLetterRow("transactions", 0, 5, "invalid_json", "not JSON", b"a1", b"{", 1, "00"),
        DeadLetterRow("transactions", 0, 8, "invalid_json", "not JSON", None, None, 0, None),
    ]


def test_predictions_of_the_newest_days_come_by_their_offset_over_midnight(database: Database, rows: RowMaker) -> None:
    with database.reading() as connection:
        assert predictions_after(connection, 1, 0, 0, 10) == []
    rows.prediction("late", source_offset=1, day=TODAY - timedelta(days=PREDICTION_DAYS))
    rows.prediction("e2", source_offset=2, day=TODAY)  # record timestamps may step back within a partition
    rows.prediction("e3", source_offset=3, day=TODAY - timedelta(days=1), score=0.75, flagged=True)
    rows.prediction("e4", source_offset=4, day=TODAY)
    with database.reading() as connection:
        found = predictions_after(connection, 1, 0, 0, 2)
        rest = predictions_after(connection, 1, 0, 4, 2)
    assert found == [
        PredictionRow(2, "e2", "a1", 0.25, False, "detector:1"),
        PredictionRow(3, "e3", "a1", 0.75, True, "detector:1"),
    ]
    assert [row.event_id for row in rest] == ["e4"]


def test_redis_is_rebuilt_from_the_newest_alerts_at_their_latest_revision(database: Database, rows: RowMaker) -> None:
    for number, alert_id in enumerate(("A", "B", "C")):
        for revision in (1, 2):
            rows.alert(alert_id, ["e1"], revision=revision, scored_at=NOON + number * MINUTE)
    rows.alert("B", ["e1"], revision=3, scored_at=NOON + 9 * MINUTE)
    with database.reading() as connection:
        everything = every_latest_alert(connection, limit=10)
        newest = every_latest_alert(connection, limit=2)
    key = attrgetter("alert_id", "revision")
    assert [key(row) for row in everything] == [("A", 2), ("C", 2), ("B", 3)]
    assert [key(row) for row in newest] == [("C", 2), ("B", 3)]


def test_slates_come_by_their_offset_with_their_items_in_order(database: Database, rows: RowMaker) -> None:
    rows.slate("r9", ["i3"], source_offset=9, day=TODAY - timedelta(days=30))  # record timestamps may step back
    rows.slate("r5", ["i2", "i1"], source_offset=5, user_id="u2", policy="random")
    rows.slate("r7", ["i1"], source_offset=7)
    rows.slate("elsewhere", source_offset=6, source_partition=1)
    rows.slate("before", source_offset=6, topic_generation=2)
    with database.reading() as connection:
        found = recommendations_after(connection, 1, 0, position=5, limit=2)
        rest = recommendations_after(connection, 1, 0, position=8, limit=2)
        assert recommendations_after(connection, 1, 0, position=10, limit=2) == []
    assert found[0] == RecommendationRow(
        source_offset=5,
        recommendation_id="r5",
        user_id="u2",
        made_at=NOON,
        policy="random",
        cause="cause of r5",
        items=[RecommendedItemRow("i2", 1, 0.5, -1.0), RecommendedItemRow("i1", 2, 0.5, -2.0)],
    )
    assert [(row.recommendation_id, len(row.items)) for row in (*found, *rest)] == [("r5", 2), ("r7", 1), ("r9", 1)]


def test_redis_is_rebuilt_from_the_newest_slate_of_each_user(database: Database, rows: RowMaker) -> None:
    rows.slate("old", made_at=NOON - MINUTE)
    rows.slate("new", ["i2", "i1"], made_at=NOON)
    rows.slate("late", made_at=NOON - 2 * MINUTE)
    rows.slate("first of a moment", user_id="u2")
    rows.slate("second of a moment", user_id="u2")
    rows.slate("expired", user_id="u3", made_at=NOON - 3 * MINUTE)
    with database.reading() as connection:
        found = list(current_slates(connection, NOON - 2 * MINUTE))
    assert {row.user_id: row.recommendation_id for row in found} == {"u1": "new", "u2": "second of a moment"}
    assert [item.item_id for item in found[0].items] == ["i2", "i1"]
