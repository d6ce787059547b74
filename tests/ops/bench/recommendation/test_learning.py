"""The learning benchmark: SQL has what the shoppers did, figures are means with errors, and generations follow."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from models.guard_rails import SlateRules
from models.train_policy import PolicyTrainingConfig
from ops.bench.recommendation.learning import (
    START,
    LearningConfig,
    earned_since,
    in_words,
    learning_benchmark,
    lift,
    mean_over_looks,
)
from ops.bench.recommendation.live_shop import LiveShop
from ops.jobs.retrain_policy import PolicyRules
from ops.simulate.shoppers.traffic import TrafficConfig
from storage.database import open_database, upgrade
from storage.progress import all_progress
from storage.registry import ModelRegistry

QUICK = PolicyTrainingConfig(hidden=8, click_epochs=1, actor_epochs=1)


def test_what_shoppers_do_with_slates_is_in_sql(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    upgrade(url)
    database = open_database(url)
    registry = ModelRegistry(database, str(tmp_path / "models"))
    shop = LiveShop(database, registry, TrafficConfig(start=START, users=60, rate=20.0, seed=3), items=80)
    shop.run(30.0)
    found = earned_since(database, datetime.fromtimestamp(START / 1000, UTC))
    known = shop.traffic.earnings
    assert found.keys() == known.keys()
    for name, earned in known.items():
        assert found[name].looks == pytest.approx(earned.slates, rel=0.02)
    paid = sum(each.reward * each.looks for each in found.values())
    due = sum(each.reward for each in known.values())
    assert 0.7 * due < paid < 1.01 * due  # some purchases become known later
    with database.reading() as connection:
        rows = list(all_progress(connection))
        assert all(row.adds_up and not (row.gaps or row.duplicates or row.dead_letters) for row in rows)
    assert {row.topic for row in rows if row.applied} == {"items", "engagements", "feedback"}
    assert earned_since(database, shop.clock() + timedelta(days=1)) == {}
    database.engine.dispose()


def test_users_with_more_looks_count_for_more_and_their_looks_are_not_independent() -> None:
    alike = mean_over_looks(np.array([[1.0, 2.0], [9.0, 18.0]]))
    assert (alike.looks, alike.users, alike.reward, alike.error) == (10, 2, 2.0, 0.0)
    apart = mean_over_looks(np.array([[10.0, 0.0], [10.0, 20.0]]))
    assert (apart.reward, apart.error) == (1.0, pytest.approx(1.0))
    assert mean_over_looks(np.array([[3.0, 6.0]])).error == np.inf


def test_the_lift_is_a_ratio_whose_interval_holds_both_errors() -> None:
    found = lift(mean_over_looks(np.array([[1, 3.9], [1, 4.1]])), mean_over_looks(np.array([[1, 2.0], [1, 2.0]])))
    assert found["lift"] == pytest.approx(1.0)
    assert (1 + found["low"]) * (1 + found["high"]) == pytest.approx(4.0)
    assert -1 < found["low"] < found["lift"] < found["high"]


@pytest.mark.slow
def test_each_generation_is_served_by_what_the_one_before_taught() -> None:
    rules = PolicyRules(SlateRules(holdout=0.3), QUICK, reward_window=timedelta(seconds=5))
    config = LearningConfig(60, 80, 20.0, 25.0, generations=2, first_anyway=True, rules=rules)
    found = learning_benchmark(3, lambda stage, done: None, config)
    first, second = found["generations"]
    assert (first["serving"], second["serving"]) == ("popular", "recommender:1")
    assert first["retraining"]["challenger"] == "recommender:1"
    assert "retraining" not in second
    assert second["best"] > second["earned"]["random"]["reward"] > 0
    assert in_words(found).count("\n") == 3
