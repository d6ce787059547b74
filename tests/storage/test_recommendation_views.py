"""What slates were worth: by day and policy, with an interval that treats a user's slates as one."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.engagements import ACTIONS, rewards
from storage import tables
from storage.database import Database
from tests.storage.rows import NOON, TODAY, RowMaker

COUNTS = "day, policy, slates, users, impressions, clicks, reward"
DAY = timedelta(days=1)
VALUES = [None, -5.0, 0.0, 5e-324, 1e-7, 0.5, 30.0, 59.999, 60.0, 61.0, 1e12]


def read(database: Database, statement: str) -> list[Any]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_every_action_is_worth_what_models_say(database: Database, rows: RowMaker) -> None:
    cases = [(action, value) for action in ACTIONS for value in VALUES]
    for number, (action, value) in enumerate(cases):
        rows.slate(f"r{number}", ["i1"], policy=f"p{number}")
        rows.engagement(f"e{number}", action, value=value, recommendation_id=f"r{number}")
    found = dict(read(database, "SELECT policy, reward FROM v_recommendation_reward"))
    numbers = np.array([ACTIONS.index(action) for action, _ in cases], np.int8)
    expected = rewards(numbers, np.array([np.nan if value is None else value for _, value in cases]))
    assert [found[f"p{number}"] for number in range(len(cases))] == pytest.approx(expected.tolist(), abs=1e-8)


def test_a_slate_earns_what_users_do_with_its_items_and_what_feedback_adds(database: Database, rows: RowMaker) -> None:
    rows.slate("r1", ["i1", "i2"])
    for number, (action, item_id) in enumerate([("impression", "i1"), ("impression", "i2"), ("click", "i2")]):
        rows.engagement(f"e{number}", action, item_id=item_id, recommendation_id="r1")
    rows.engagement("days later", "purchase", item_id="i2", recommendation_id="r1", occurred_at=NOON + 9 * DAY)
    rows.engagement("by someone else", "like", item_id="i1", recommendation_id="r1", user_id="u2")
    rows.engagement("not in the slate", "like", item_id="i3", recommendation_id="r1")
    rows.engagement("of another slate", "like", item_id="i1", recommendation_id="r9")
    rows.engagement("of none", "like", item_id="i1")
    rows.reward("f1", 0.25)
    rows.reward("f2", 0.5, item_id="i2")
    rows.reward("f3", 100.0, status="pending")
    rows.reward("f4", 100.0, item_id="i3")
    rows.label("f5", "fraud", recommendation_id="r1", item_id="i1", value=100.0)
    assert [str(value) for value in read(database, f"SELECT {COUNTS} FROM v_recommendation_reward")[0][:2]] == [
        str(TODAY),
        "recommender:1",
    ]
    assert read(database, "SELECT slates, users, impressions, clicks FROM v_recommendation_reward") == [(1, 1, 2, 1)]
    assert read(database, "SELECT reward, reward_per_slate FROM v_recommendation_reward") == [(8.75, 8.75)]


def test_slates_that_nobody_looked_at_do_not_lower_the_reward(database: Database, rows: RowMaker) -> None:
    for number in range(4):
        rows.slate(f"r{number}", ["i1"], user_id=f"u{number % 2}")
    for name in ("r0", "r1"):
        rows.engagement(f"shown {name}", "impression", item_id="i1", recommendation_id=name)
    rows.engagement("clicked", "click", item_id="i1", recommendation_id="r1")
    rows.slate("other", ["i1"], policy="without impressions")
    rows.slate("another", ["i1"], policy="without impressions")
    rows.engagement("clicked too", "click", item_id="i1", recommendation_id="other")
    statement = "SELECT policy, slates, seen, reward_per_slate FROM v_recommendation_reward ORDER BY policy"
    assert read(database, statement) == [("recommender:1", 4, 2, 0.5), ("without impressions", 2, 0, 0.5)]


def test_days_and_policies_have_rows_of_their_own(database: Database, rows: RowMaker) -> None:
    rows.slate("r1", made_at=NOON)
    rows.slate("r2", made_at=NOON + timedelta(hours=11, minutes=59))
    rows.slate("r3", made_at=NOON + timedelta(hours=12))
    rows.slate("r4", policy="random")
    rows.engagement("e1", recommendation_id="r4")
    found = read(database, "SELECT day, policy, slates, reward FROM v_recommendation_reward ORDER BY day, policy")
    assert [(str(day), policy, slates, reward) for day, policy, slates, reward in found] == [
        (str(TODAY), "random", 1, 1.0),
        (str(TODAY), "recommender:1", 2, 0.0),
        (str(TODAY + DAY), "recommender:1", 1, 0.0),
    ]


def test_slates_that_are_a_day_old_count_as_matured(database: Database, rows: RowMaker) -> None:
    now = datetime.now(UTC)
    for name, age in (("young", timedelta(hours=23)), ("old", timedelta(hours=25))):
        rows.slate(name, ["i1"], policy=name, made_at=now - age)
    assert read(database, "SELECT policy, matured, slates FROM v_recommendation_reward ORDER BY policy") == [
        ("old", 1, 1),
        ("young", 0, 1),
    ]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_interval_is_that_of_a_ratio_of_sums_over_users(database: Database, earned: list[list[float]]) -> None:
    """earned: of each user, the reward of each of his slates."""
    with database.begin() as connection:
        for model in (tables.RecommendationItem, tables.Recommendation, tables.Feedback):
            connection.execute(model.__table__.delete())  # type: ignore[attr-defined]
    rows = RowMaker(database)
    for user, slates in enumerate(earned):
        for number, reward in enumerate(slates):
            name = f"r{user}.{number}"
            rows.slate(name, ["i1"], user_id=f"u{user}")
            rows.reward(f"f{name}", reward, recommendation_id=name)
    ((per_slate, low, high),) = read(
        database, "SELECT reward_per_slate, reward_low, reward_high FROM v_recommendation_reward"
    )
    sums, sizes = np.array([sum(slates) for slates in earned]), np.array([len(slates) for slates in earned])
    mean = sums.sum() / sizes.sum()
    assert per_slate == pytest.approx(mean, abs=1e-9)
    if len(earned) == 1:
        assert (low, high) == (None, None)
        return
    users = len(earned)
    margin = 1.96 * np.sqrt(((sums - mean * sizes) ** 2).sum() * users / (users - 1)) / sizes.sum()
    assert (low, high) == (pytest.approx(mean - margin, abs=1e-6), pytest.approx(mean + margin, abs=1e-6))


def test_a_policy_without_any_answer_has_earned_nothing_so_far(database: Database, rows: RowMaker) -> None:
    rows.slate("r1", user_id="u1")
    rows.slate("r2", user_id="u2")
    figures = "slates, impressions, clicks, reward, reward_per_slate, reward_low, reward_high"
    assert read(database, f"SELECT {figures} FROM v_recommendation_reward") == [(2, 0, 0, 0.0, 0.0, 0.0, 0.0)]
