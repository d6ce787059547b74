"""What the demo makes of slates and their rewards."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from ops.demo.shop_readings import PolicyFigures, ShopFigures, ShopReadings
from storage.database import Database, open_database
from storage.tables import Engagement, Recommendation, RecommendationItem

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def database(sqlite_url: str) -> Database:
    return open_database(sqlite_url)


def test_the_lift_is_of_all_trained_versions_together_over_the_random_holdout() -> None:
    figures = ShopFigures(
        100,
        [
            PolicyFigures("recommender:1", 10, 20.0),
            PolicyFigures("recommender:2", 30, 100.0),
            PolicyFigures("popular", 50, 500.0),
            PolicyFigures("random", 10, 15.0),
        ],
    )
    assert figures.lift == pytest.approx(3.0 / 1.5 - 1)


@pytest.mark.parametrize(
    "policies",
    [
        [],
        [PolicyFigures("recommender:1", 10, 20.0)],
        [PolicyFigures("popular", 10, 20.0), PolicyFigures("random", 10, 5.0)],
        [PolicyFigures("recommender:1", 10, 20.0), PolicyFigures("random", 10, 0.0)],
    ],
    ids=["nothing", "no holdout", "no trained policy", "a holdout that earned nothing"],
)
def test_where_there_is_nothing_to_compare_there_is_no_lift(policies: list[PolicyFigures]) -> None:
    assert ShopFigures(10, policies).lift is None


def slate(connection: Connection, number: int, policy: str, at: datetime, actions: list[str]) -> None:
    """One item was recommended, and these things were done with it."""
    key: dict[str, Any] = {"day": at.date(), "topic_generation": 1, "source_partition": 0, "source_offset": number}
    connection.execute(
        insert(Recommendation),
        key
        | {
            "recommendation_id": f"rec-{number}",
            "user_id": f"user-{number}",
            "made_at": at,
            "occurred_at": at,
            "policy": policy,
            "cause": f"cause-{number}",
            "catalogue": "none",
            "floor": 0.05,
            "seed": 1,
            "candidate_hash": 1,
            "candidates": b"",
            "log_weights": b"",
        },
    )
    item = {"position": 1, "recommendation_id": f"rec-{number}", "item_id": "item-1"}
    connection.execute(
        insert(RecommendationItem), key | item | {"propensity": 0.5, "prefix_propensity": 0.5, "score": 0.0}
    )
    for place, action in enumerate(actions):
        event = {
            "source_offset": 1_000 * number + place,
            "event_id": f"e-{number}-{place}",
            "user_id": f"user-{number}",
        }
        connection.execute(
            insert(Engagement),
            key
            | event
            | {
                "item_id": "item-1",
                "occurred_at": at,
                "recorded_at": at,
                "action": action,
                "recommendation_id": f"rec-{number}",
            },
        )


def test_figures_count_the_slates_of_this_run_that_somebody_looked_at(database: Database) -> None:
    with database.engine.begin() as connection:
        slate(connection, 1, "random", NOW, ["impression"])
        slate(connection, 2, "random", NOW, ["impression", "click"])
        slate(connection, 3, "recommender:10", NOW, ["impression", "click", "like"])
        slate(connection, 4, "recommender:9", NOW, ["impression", "purchase"])
        slate(connection, 5, "recommender:9", NOW, [])  # replaced before anybody looked
        slate(connection, 6, "popular", NOW - timedelta(hours=1), ["click"])  # before
    readings = ShopReadings(
        worker_url="http://127.0.0.1:9", topic="engagements", database=database, since=NOW, clock=lambda: 0.0
    )
    found = readings.figures()

    assert found.recommendations == 5
    assert found.policies == [
        PolicyFigures("recommender:9", 1, 5.0),
        PolicyFigures("recommender:10", 1, 3.0),
        PolicyFigures("random", 2, 1.0),
    ]
    assert found.lift == pytest.approx(4.0 / 0.5 - 1)


def test_sql_is_asked_seldom_unless_it_must_be_now(database: Database) -> None:
    seconds = 0.0
    readings = ShopReadings(
        worker_url="http://127.0.0.1:9", topic="engagements", database=database, since=NOW, clock=lambda: seconds
    )
    assert readings.figures().recommendations == 0
    with database.engine.begin() as connection:
        slate(connection, 1, "random", NOW, ["click"])
    assert readings.figures().recommendations == 0
    assert readings.figures(now=True).recommendations == 1
    with database.engine.begin() as connection:
        slate(connection, 2, "random", NOW, ["click"])
    seconds = 60.0
    assert readings.figures().recommendations == 2


def test_a_worker_that_does_not_answer_has_applied_what_it_had_before(database: Database) -> None:
    readings = ShopReadings(
        worker_url="http://127.0.0.1:9", topic="engagements", database=database, since=NOW, clock=lambda: 0.0
    )
    assert readings.applied() == 0.0
