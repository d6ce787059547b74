"""What the demo asks for: its sizes, and settings of its own over the user's."""

from pathlib import Path

import pytest

from ops.demo.prepare import DemoConfig, demo_settings
from ops.demo.shop import BETWEEN_VISITS, ShopSize
from ops.embedded import EmbeddedServices
from ops.settings import Settings

SERVICES = EmbeddedServices("kafka:1", "redis://redis:1/0", "sqlite://", Path("/somewhere"))


def test_a_threshold_stays_as_registered_and_rewards_count_soon() -> None:
    """A history of days within minutes misleads a budget per day: after a minute everything was an alert."""
    settings = demo_settings(Settings(), SERVICES)

    assert settings.alert_rule == "registered"
    assert settings.reward_window.total_seconds() == pytest.approx(10)
    assert settings.random_holdout == 0.2
    assert (settings.topic_prefix, settings.redis_prefix) == (Settings().topic_prefix, Settings().redis_prefix)


def test_services_of_ones_own_get_prefixes_of_this_run() -> None:
    settings = demo_settings(Settings(kafka="own:9092", redis="rediss://own/0"), SERVICES)

    assert settings.topic_prefix.startswith("demo-")
    assert ":demo-" in settings.redis_prefix


@pytest.mark.parametrize(("rate", "visits"), [(1.0, 2.0), (200.0, 20.0), (5_000.0, 50.0)])
def test_there_are_so_many_shoppers_that_each_visits_every_ten_seconds(rate: float, visits: float) -> None:
    size = ShopSize.of(DemoConfig(rate=rate))

    assert size.visits == visits
    assert size.shoppers == max(50, BETWEEN_VISITS * visits)
