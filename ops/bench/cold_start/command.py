"""`headgate bench cold-start`: what new items earn in their first hour with a policy that sees their pictures and reads
their texts, beside one that was trained on the same history with the same seed and does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.train_policy import PolicyTrainingConfig
from ops.bench.cold_start.arms import ARMS, Met, collect_history, meet_new_items
from ops.bench.cold_start.plot import group_plot
from ops.bench.cold_start.world import WorldConfig, make_world

Progress = Callable[[str, float], None]
TRAINING = PolicyTrainingConfig(click_epochs=14, actor_epochs=3)
#: What is compared, as places in ARMS.
WITH, WITHOUT = "pictures and texts", "hashed words"


def run_cold_start(
    seeds: Sequence[int],
    progress: Progress,
    *,
    shop: WorldConfig | None = None,
    training: PolicyTrainingConfig = TRAINING,
    arms: Sequence[str] = tuple(ARMS),
    picture: Path | None = None,
) -> dict[str, Any]:
    """Clicks per slate of new items, by what the policy knows of items: means over the seeds, and each seed's.
    picture: where to draw what the first seed's encoder groups."""
    found: dict[str, dict[str, float]] = {}
    for place, seed in enumerate(seeds):
        world = make_world(replace(shop or WorldConfig(), seed=seed))
        history = collect_history(world)
        met: dict[str, Met] = {}
        for number, name in enumerate(arms):
            progress(f"seed {seed}, {name}", (place + number / len(arms)) / len(seeds))
            met[name] = meet_new_items(world, history, ARMS[name], replace(training, seed=seed))
        found[str(seed)] = {name: round(each.reward, 4) for name, each in met.items()}
        encoder = met[WITH].policy.network.from_picture
        if picture is not None and place == 0 and encoder is not None:
            group_plot(world, encoder).savefig(picture, dpi=110)
    progress("cold start", 1.0)
    return summary(found)


def summary(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """found: seed -> what the policy knows -> reward."""
    names = list(next(iter(found.values())))
    means = {name: round(float(np.mean([each[name] for each in found.values()])), 4) for name in names}
    return {
        "reward_with": means[WITH],
        "reward_without": means[WITHOUT],
        "ratio": round(means[WITH] / means[WITHOUT], 3),
        "arms": means,
        "seeds": {seed: dict(each) for seed, each in found.items()},
    }


def in_words(found: Mapping[str, Any]) -> str:
    lines = ["clicks per slate of new items, by what the policy knows of items"]
    lines += [f"  {name:20} {reward:.2f}" for name, reward in found["arms"].items()]
    return "\n".join([*lines, f"{found['ratio']:.2f} times as many with {WITH} as with {WITHOUT}"])
