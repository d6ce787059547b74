"""`headgate bench shoppers`: what simple policies earn from the simulated shoppers, and what there is to win."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ops.simulate.shoppers.policies import RULES, Earned, MeasureConfig, measure

Progress = Callable[[str, float], None]
#: Standard errors of a 95 % interval.
WIDTH = 1.96


def run_shoppers_bench(seeds: list[int], progress: Progress, config: MeasureConfig | None = None) -> dict[str, Any]:
    """By policy: reward and clicks per slate over the seeds, with a 95 % interval over shoppers and seeds."""
    base = config or MeasureConfig()
    found: dict[str, list[Earned]] = {name: [] for name in RULES}
    for place, seed in enumerate(seeds):
        for number, (name, rule) in enumerate(RULES.items()):
            found[name].append(measure(rule, replace(base, seed=seed)))
            progress("shoppers", (place + (number + 1) / len(RULES)) / len(seeds))
    return {"policies": {name: _mean(each) for name, each in found.items()}, "seeds": seeds}


def in_words(found: Mapping[str, Any]) -> str:
    lines = ["policy       reward per slate        clicks per slate"]
    for name, each in found["policies"].items():
        interval = f"{each['low']:.2f} to {each['high']:.2f}"
        lines.append(f"{name:12} {each['reward']:6.2f} ({interval:14}) {each['clicks']:6.2f}")
    return "\n".join(lines)


def _mean(earned: list[Earned]) -> dict[str, float]:
    reward = float(np.mean([each.reward for each in earned]))
    error = float(np.sqrt(np.mean([each.error**2 for each in earned]) / len(earned)))
    return {
        "reward": round(reward, 4),
        "low": round(reward - WIDTH * error, 4),
        "high": round(reward + WIDTH * error, 4),
        "clicks": round(float(np.mean([each.clicks for each in earned])), 4),
    }
