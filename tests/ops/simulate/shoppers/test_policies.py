"""What there is to win with simulated shoppers: an oracle earns far more than chance, and chasing clicks does not."""

import numpy as np
import pytest

from ops.simulate.shoppers.policies import RULES, Earned, MeasureConfig, best_slates, by_aversion, measure
from ops.simulate.shoppers.visits import Shoppers
from tests.ops.simulate.shoppers.test_shop_visits import START, goods, people


@pytest.fixture(scope="module")
def earned() -> dict[str, Earned]:
    rules = {**RULES, "aversion": by_aversion}
    return {name: measure(rule, MeasureConfig(users=150, items=250, days=16)) for name, rule in rules.items()}


def test_knowing_the_tastes_earns_many_times_what_chance_or_popularity_do(earned: dict[str, Earned]) -> None:
    assert earned["oracle"].reward > 5 * earned["popular"].reward
    assert earned["popular"].reward > earned["random"].reward + 2 * earned["random"].error
    assert earned["random"].reward > 0.4
    assert earned["aversion"].reward < 0


def test_what_attracts_is_not_what_earns(earned: dict[str, Earned]) -> None:
    """About as many clicks, far less reward."""
    assert earned["clickbait"].clicks > 0.8 * earned["oracle"].clicks
    assert earned["clickbait"].reward < 0.8 * earned["oracle"].reward


def test_measuring_is_repeatable() -> None:
    config = MeasureConfig(users=20, items=60, days=2)
    assert measure(RULES["random"], config) == measure(RULES["random"], config)


def test_a_slate_has_no_more_items_than_are_in_stock() -> None:
    shop = Shoppers(goods, people, luck="test")
    slates = best_slates(np.zeros((2, len(goods))), shop, START, len(goods))

    assert (slates == -1).any()
    assert set(slates[0][slates[0] >= 0].tolist()) == set(np.flatnonzero(goods.states(START) == 1).tolist())
