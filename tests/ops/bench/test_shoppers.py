"""The measurement of what simulated shoppers give."""

from ops.bench.shoppers import in_words, run_shoppers_bench
from ops.simulate.shoppers.policies import RULES, MeasureConfig, measure

SMALL = MeasureConfig(users=30, items=60, days=4)


def test_it_is_the_mean_over_seeds_with_an_interval_around_it() -> None:
    seen: list[float] = []
    found = run_shoppers_bench([3, 4], lambda stage, done: seen.append(done), SMALL)
    of_seeds = [measure(RULES["oracle"], MeasureConfig(users=30, items=60, days=4, seed=seed)) for seed in (3, 4)]

    assert list(found["policies"]) == ["random", "popular", "clickbait", "oracle"]
    oracle = found["policies"]["oracle"]
    assert oracle["reward"] == round(sum(each.reward for each in of_seeds) / 2, 4)
    assert oracle["low"] < oracle["reward"] < oracle["high"]
    assert seen[-1] == 1.0
    for name in RULES:
        assert name in in_words(found)
