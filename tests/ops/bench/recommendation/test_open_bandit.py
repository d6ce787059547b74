"""Our estimators give obp's figures on its own sample, and the gate refuses what no weighting can say."""

from functools import cache

import pytest

from ops.bench.recommendation.open_bandit import CAMPAIGNS
from ops.bench.recommendation.open_bandit import compared as computed
from tests.ops.bench.recommendation.benchmark_environment import in_benchmark_environment

# obp was written for older versions of what it uses.
pytestmark = [*in_benchmark_environment, pytest.mark.filterwarnings("ignore")]
compared = cache(computed)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_estimates_are_those_of_obp_in_both_directions(campaign: str) -> None:
    for figures in compared(campaign).values():
        assert figures["ips"] == pytest.approx(figures["obp"]["ipw"], rel=1e-12)
        assert figures["snips"] == pytest.approx(figures["obp"]["snipw"], rel=1e-12)


def test_random_logs_say_what_thompson_sampling_earns_within_their_noise() -> None:
    found = compared("all")
    forwards, backwards = found["random_to_bts"], found["bts_to_random"]
    assert forwards["ips"] == pytest.approx(0.0046, abs=0.0001)
    assert forwards["effective_sample_size"] == pytest.approx(1640, rel=0.02)
    assert forwards["low"] < backwards["on_policy"] < forwards["high"]


@pytest.mark.parametrize(("campaign", "weight", "equal"), [("all", 278, 340), ("men", 178, 656), ("women", 21_739, 2)])
def test_the_reverse_direction_is_refused(campaign: str, weight: float, equal: float) -> None:
    figures = compared(campaign)["bts_to_random"]
    assert figures["largest_weight"] == pytest.approx(weight, abs=1)
    assert figures["effective_sample_size"] == pytest.approx(equal, abs=1)
    assert figures["verdict"] == "refuse"
    assert any("at least 400 are needed" in reason for reason in figures["reasons"])
