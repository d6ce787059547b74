"""RecoGym's protocol: the log, its propensities, the click rate with its interval, and that the same seed repeats."""

import math

import numpy as np
import pytest

from ops.bench.recommendation.recogym import OWN, Contestant, recogym_benchmark
from ops.bench.recommendation.recogym_baselines import NaiveBayes, Oracle, RandomAgent, VowpalWabbit
from ops.bench.recommendation.recogym_world import (
    TEST_USERS,
    Log,
    OlderAgent,
    Played,
    RecoGymConfig,
    environment_of,
    logged,
    play,
)
from tests.ops.bench.recommendation.benchmark_environment import in_benchmark_environment

SMALL = RecoGymConfig(products=20, flips=10, logged_users=60, test_users=60)


def nothing(done: float) -> None: ...


def test_the_interval_lets_a_users_clicks_depend_on_each_other() -> None:
    draw = np.random.default_rng(0)
    shown = np.full(400, 50)
    apart = Played(shown, draw.binomial(50, 0.1, size=400)).click_rate()
    together = Played(shown, 50 * draw.binomial(1, 0.1, size=400)).click_rate()
    width = [one["high"] - one["low"] for one in (apart, together)]
    assert width[0] == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 20_000), rel=0.2)
    assert width[1] == pytest.approx(2 * 1.96 * math.sqrt(0.09 / 400), rel=0.2)


def test_the_older_agents_propensities_are_how_often_it_chooses() -> None:
    agent = OlderAgent(RecoGymConfig(products=4, epsilon=0.2), seed=0)
    agent.begin()
    for product in (0, 0, 0, 1):
        agent.view(product)
    chosen = np.bincount([agent.choose() for _ in range(20_000)], minlength=4) / 20_000
    expected = [agent.propensity_of(product) for product in range(4)]
    assert sum(expected) == pytest.approx(1)
    np.testing.assert_allclose(chosen, expected, atol=0.015)


def test_naive_bayes_shows_what_was_clicked_by_those_who_viewed_the_same() -> None:
    config = RecoGymConfig(products=4)
    # User 0 viewed 0 and clicked 2; user 1 viewed 1 and did not.
    log = Log(
        user=np.array([0, 0, 1, 1]),
        shown=np.array([False, True, False, True]),
        product=np.array([0, 2, 1, 2]),
        clicked=np.array([False, True, False, False]),
        propensity=np.array([np.nan, 0.5, np.nan, 0.5]),
    )
    agent = NaiveBayes(config, log)
    agent.begin()
    agent.view(0)
    assert {agent.choose() for _ in range(20)} == {2}
    agent.begin()
    agent.view(1)
    assert {agent.choose() for _ in range(50)} == {0, 1, 3}


@pytest.mark.filterwarnings("ignore")
class TestInTheBenchmarkEnvironment:
    pytestmark = in_benchmark_environment

    def test_the_log_repeats_and_says_who_was_shown_what(self) -> None:
        one, again = logged(SMALL, nothing), logged(SMALL, nothing)
        for name in ("user", "shown", "product", "clicked", "propensity"):
            np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        assert len(np.unique(one.user)) == SMALL.logged_users
        assert not one.clicked[~one.shown].any()
        assert np.isnan(one.propensity[~one.shown]).all()
        assert ((one.propensity[one.shown] > 0) & (one.propensity[one.shown] <= 1)).all()

    def test_who_reads_the_users_mind_beats_chance(self) -> None:
        config = RecoGymConfig(products=20, flips=10)
        environment = environment_of(config, TEST_USERS)
        best = play(environment, Oracle(config, environment), 300, nothing).click_rate()
        chance = play(environment_of(config, TEST_USERS), RandomAgent(config), 300, nothing).click_rate()
        assert best["low"] > chance["high"]

    @pytest.mark.parametrize("online", [True, False])
    def test_vowpal_wabbit_learns_which_product_is_clicked(self, online: bool) -> None:
        rounds = 300
        product = np.column_stack([np.zeros(rounds, int), np.arange(rounds) % 4]).ravel()
        shown = np.tile([False, True], rounds)
        log = Log(
            np.repeat(np.arange(rounds), 2),
            shown,
            product,
            shown & (product == 3) & (np.arange(2 * rounds) % 3 > 0),
            np.where(shown, 0.25, np.nan),
        )
        agent = VowpalWabbit(RecoGymConfig(products=4), log, online)
        agent.begin()
        agent.view(0)
        assert np.mean([agent.choose() == 3 for _ in range(100)]) > 0.6

    def test_the_benchmark_gives_every_contestants_figures_in_every_world(self) -> None:
        contestants = [Contestant(name, lambda config, *_: RandomAgent(config)) for name in (OWN.name, "random")]
        found = recogym_benchmark([42, 0], lambda stage, done: None, config=SMALL, contestants=contestants)
        assert set(found["worlds"]) == {"42", "0"}
        assert found["ctr"] == found["worlds"]["42"]["ctr"] == found["baselines"]["random"]["ctr"]
        assert found["worlds"]["0"] != found["worlds"]["42"]
        assert found["low"] < found["ctr"] < found["high"]
