"""Clicks per product shown in RecoGym: the recommender beside its baselines, in the same worlds.

Each contestant learns from the same log of 1,000 users and then meets users of its own, drawn alike; those that learn
online learn from what they show. recogym_world.py has the protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ops.bench.recommendation.recogym_agent import Recommender
from ops.bench.recommendation.recogym_baselines import NaiveBayes, Oracle, RandomAgent, VowpalWabbit
from ops.bench.recommendation.recogym_world import (
    TEST_USERS,
    Agent,
    Log,
    OlderAgent,
    Progress,
    RecoGymConfig,
    environment_of,
    logged,
    play,
)
from ops.bench.recommendation.titles import RECOGYM


@dataclass(frozen=True, slots=True)
class Contestant:
    """name: as in titles.RECOGYM. make(config, log, the environment that it will play in, progress)."""

    name: str
    make: Callable[[RecoGymConfig, Log, Any, Callable[[float], None]], Agent]


OWN = Contestant("headgate", lambda config, log, environment, progress: Recommender(config, log, progress))
BASELINES = (
    Contestant("random", lambda config, *_: RandomAgent(config)),
    Contestant("logger", lambda config, *_: OlderAgent(config, config.seed + 1)),
    Contestant("vw_mtr", lambda config, log, *_: VowpalWabbit(config, log, online=False)),
    Contestant("vw_squarecb", lambda config, log, *_: VowpalWabbit(config, log, online=True)),
    Contestant("naive_bayes", lambda config, log, *_: NaiveBayes(config, log)),
    Contestant("oracle", lambda config, log, environment, _: Oracle(config, environment)),
)


def recogym_benchmark(
    worlds: Sequence[int],
    progress: Progress,
    *,
    config: RecoGymConfig | None = None,
    contestants: Sequence[Contestant] = (OWN, *BASELINES),
) -> dict[str, Any]:
    """{"ctr", "low", "high", "baselines": {name: the same}} of the first world, and "worlds": those of each. worlds:
    seeds, the published figures are of 42; config: but for its seed; contestants: OWN among them."""
    found = {}
    for seed in worlds:
        figures = played(replace(config or RecoGymConfig(), seed=seed), contestants, _in_world(seed, progress))
        found[str(seed)] = {**figures.pop(OWN.name), "baselines": figures}
    return {**found[str(worlds[0])], "worlds": found}


def _in_world(seed: int, progress: Progress) -> Progress:
    return lambda stage, done: progress(f"RecoGym {seed}: {stage}", done)


def played(config: RecoGymConfig, contestants: Sequence[Contestant], progress: Progress) -> dict[str, dict[str, float]]:
    """Contestant -> click rate with its interval, in one world."""
    log = logged(config, partial(progress, "log"))
    found = {}
    for one in contestants:
        environment = environment_of(config, TEST_USERS)
        agent = one.make(config, log, environment, partial(progress, f"{RECOGYM[one.name]}, training"))
        found[one.name] = play(environment, agent, config.test_users, partial(progress, RECOGYM[one.name])).click_rate()
    return found
