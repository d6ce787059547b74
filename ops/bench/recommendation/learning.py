"""Whether the recommender learns in a live shop: what its slates earn before any policy, and after each retraining.

Simulated shoppers answer the slates of a recommender that runs as it does live, in one process (live_shop.py); between
two stretches of traffic a retraining reads SQL, trains and judges as `headgate retrain` does. What each generation
earned is what came back for its slates, not an estimate. Beside the policy stand, at the same time, the users of the
permanent random holdout, and the best slates that could be made, by a rule that looks into shoppers' heads.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import bindparam, text

from ops.bench.recommendation.live_shop import STEP, LiveShop
from ops.bench.shoppers import WIDTH
from ops.jobs.retrain_policy import PolicyOutcome, PolicyRules, PolicyWorkplace, retrain_policy_once
from ops.simulate.shoppers.command import live_traffic
from ops.simulate.shoppers.policies import best_slates, by_earnings
from ops.simulate.shoppers.traffic import Slate, TrafficConfig, pace
from storage.database import Database, open_database, upgrade
from storage.registry import ModelRegistry
from storage.tables import UtcTimestamp
from streams.policy_watch import POLICY_NAME

Progress = Callable[[str, float], None]
START = 1_780_000_000_000


@dataclass(frozen=True, slots=True)
class LearningConfig:
    """users and items of the shop; rate: visits a second; seconds of traffic before each retraining; generations: of
    traffic, the first without a policy; first_anyway: the first policy serves without evidence, as in the demo."""

    users: int = 2_000
    items: int = 300
    rate: float = 200.0
    seconds: float = 60.0
    generations: int = 3
    first_anyway: bool = False
    rules: PolicyRules = field(default_factory=lambda: PolicyRules(reward_window=timedelta(seconds=10)))

    def paced(self) -> "LearningConfig":
        """With guard rails in the time of shoppers, whose days pass in seconds."""
        slates, speed = self.rules.slates, pace(self.users, self.rate)
        spans = ("slate_max_age", "impression_window", "popularity_half_life")
        in_their_time = {name: max(1, round(getattr(slates, name) / speed)) for name in spans}
        return replace(self, rules=replace(self.rules, slates=replace(slates, **in_their_time)))


def learning_benchmark(seed: int, progress: Progress, config: LearningConfig | None = None) -> dict[str, Any]:
    """generations: of each, `earned` by chooser (looks at slates, and the reward of one with a 95 % interval over
    users), `lift` of whoever serves (the policy, before it what is popular) over the random holdout as a share with its
    interval, `best` (the reward of a look at the best slates, of shoppers who never see others) and the `retraining`
    that followed."""
    config = (config or LearningConfig()).paced()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'shop.sqlite'}"
        upgrade(url)
        database = open_database(url)
        registry = ModelRegistry(database, str(Path(folder) / "models"))
        shop = LiveShop(database, registry, traffic_config(seed, config), config.items, config.rules.slates)
        work = PolicyWorkplace(database, registry, "items", shop.clock, progress)
        generations = []
        for number in range(config.generations):
            progress("live traffic", number / config.generations)
            generations.append(generation(shop, work, config, last=number == config.generations - 1))
        progress("live traffic", 1.0)
        database.engine.dispose()
    for each, best in zip(generations, best_rewards(seed, config), strict=True):
        each["best"] = best
    return {"seed": seed, "users": config.users, "items": config.items, "generations": generations}


def traffic_config(seed: int, config: LearningConfig) -> TrafficConfig:
    return TrafficConfig(start=START, users=config.users, rate=config.rate, seed=seed)


def generation(shop: LiveShop, work: PolicyWorkplace, config: LearningConfig, *, last: bool) -> dict[str, Any]:
    """One stretch of traffic, and unless it is the last a retraining after it."""
    champion, begin = work.registry.champion(POLICY_NAME), shop.clock()
    shop.run(config.seconds)
    earned = earned_since(work.database, begin)
    serving = "popular" if champion is None else str(champion)
    found: dict[str, Any] = {
        "serving": serving,
        "earned": {name: each.figures() for name, each in earned.items()},
        "lift": lift(earned[serving], earned["random"]),
    }
    if not last:
        outcome, seconds = timed(lambda: retrain_policy_once(work, config.rules))
        found["retraining"] = {
            "challenger": outcome.challenger,
            "decision": outcome.decision,
            "reason": outcome.reason,
            "cpu_seconds": round(seconds, 1),
        }
        if config.first_anyway and champion is None and not outcome.promoted:
            version = int(outcome.challenger.rpartition(":")[2])
            work.registry.promote(POLICY_NAME, version, "the first one serves without evidence", shop.clock)
    return found


@dataclass(frozen=True, slots=True)
class Earned:
    """The mean reward of a look at a slate; its error lets a user's looks depend on each other."""

    looks: int
    users: int
    reward: float
    error: float

    def figures(self) -> dict[str, float]:
        low, high = self.reward - WIDTH * self.error, self.reward + WIDTH * self.error
        return {"looks": self.looks, "users": self.users, "reward": self.reward, "low": low, "high": high}


def earned_since(database: Database, begin: datetime) -> dict[str, Earned]:
    """By who chose: of the slates made from a moment on. Every look sees the first item."""
    statement = text(
        "SELECT policy, sum(CASE WHEN position = 1 THEN impressions ELSE 0 END) AS looks, sum(reward) AS reward "
        "FROM slate_answers WHERE made_at >= :begin GROUP BY policy, user_id"
    ).bindparams(bindparam("begin", begin, UtcTimestamp()))
    by_policy: dict[str, list[tuple[int, float]]] = {}
    with database.reading() as connection:
        for row in connection.execute(statement):
            by_policy.setdefault(row.policy, []).append((row.looks, row.reward))
    return {policy: mean_over_looks(np.array(users, np.float64)) for policy, users in sorted(by_policy.items())}


def mean_over_looks(users: npt.NDArray[np.float64]) -> Earned:
    """users float64[n, 2]: looks and reward of each."""
    count, (looks, reward) = len(users), users.sum(axis=0)
    mean = reward / looks
    residual = users[:, 1] - mean * users[:, 0]
    error = math.sqrt(float(residual @ residual) * count / (count - 1)) / looks if count > 1 else math.inf
    return Earned(int(looks), count, float(mean), float(error))


def lift(serving: Earned, random: Earned) -> dict[str, float]:
    """The ratio of two independent means less 1, with a 95 % interval of its logarithm (delta method)."""
    ratio = serving.reward / random.reward
    error = math.hypot(serving.error / serving.reward, random.error / random.reward)
    low, high = (ratio * math.exp(side * WIDTH * error) - 1 for side in (-1, 1))
    return {"lift": ratio - 1, "low": low, "high": high}


def best_rewards(seed: int, config: LearningConfig) -> list[float]:
    """Per generation the reward of a look where every look finds the slate that is best just then, as only the
    simulation can know it; no guard rail and no exploration keeps anything from these slates."""

    def slates(user_ids: Sequence[str]) -> list[Slate]:
        users = np.array([row_of[user_id] for user_id in user_ids], np.int64)
        scores = by_earnings(traffic.shoppers, users, np.zeros(len(traffic.catalogue)), chance)
        chosen = best_slates(scores, traffic.shoppers, now, config.rules.slates.size)
        items = traffic.catalogue.item_ids
        return [Slate("best", "best", [items[row] for row in rows if row >= 0]) for rows in chosen.tolist()]

    now, chance, found = START, np.random.default_rng(seed), []
    traffic = live_traffic(traffic_config(seed, config), config.items, slates)
    row_of = {user_id: row for row, user_id in enumerate(traffic.people.user_ids)}
    for _ in range(config.generations):
        traffic.earnings.clear()
        end = now + round(config.seconds * 1000)
        while now < end:
            now = min(now + STEP, end)
            traffic.until(now)
        found.append(traffic.earnings["best"].reward / traffic.earnings["best"].slates)
    return found


def timed(work: Callable[[], PolicyOutcome]) -> tuple[PolicyOutcome, float]:
    """With the seconds of CPU that it took."""
    began = time.process_time()
    return work(), time.process_time() - began


def in_words(found: Mapping[str, Any]) -> str:
    lines = ["serving         reward of a look         random holdout           lift over the holdout    best"]
    for each in found["generations"]:
        own, random, more = each["earned"][each["serving"]], each["earned"]["random"], each["lift"]
        lines.append(
            f"{each['serving']:15} {own['reward']:.2f} ({own['low']:.2f} to {own['high']:.2f})"
            f"      {random['reward']:.2f} ({random['low']:.2f} to {random['high']:.2f})"
            f"      {more['lift']:+.0%} ({more['low']:+.0%} to {more['high']:+.0%})   {each['best']:.2f}"
        )
        if "retraining" in each:
            made = each["retraining"]
            lines.append(
                f"  {made['challenger']}: {made['decision']}, {made['cpu_seconds']} s of CPU. {made['reason']}"
            )
    return "\n".join(lines)
