"""The recommender in RecSim (Ie et al., 2019), with the package's own environments for training and evaluation.

Interest evolution: topics whose quality shortens or prolongs a session, and users whose interests move. Agents see
topics, clicks, watch times and the quality of what was clicked, and no user's interests. Long-term satisfaction is in
recsim_satisfaction.py. Runs in the benchmark environment.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models.item_table import ItemTable
from ops.bench.recommendation.recsim_learning import OnlineConfig, Progress, learn
from ops.bench.recommendation.recsim_users import (
    SEEDS_APART,
    Chooser,
    PolicyChooser,
    RandomChooser,
    World,
    draw_clicks_from,
    rewards_of,
    with_interval,
)
from ops.bench.recommendation.simulators import recsim_environments
from ops.bench.recommendation.slate_q import SlateQChooser, learn_slate_q

TOPICS, CANDIDATES, SLATE = 20, 10, 3
#: Users side by side in evaluation.
EVALUATED_TOGETHER = 100


def create(seed: int) -> Any:
    interest_evolution, _ = recsim_environments()
    return interest_evolution.create_environment(
        {"num_candidates": CANDIDATES, "slate_size": SLATE, "resample_documents": True, "seed": seed}
    )


def interest_world() -> World:
    """Documents are told apart by their topic alone: they have the same length, and their quality is not seen. Two
    columns of their content are for a price that they lack."""
    return World(
        items=ItemTable(torch.eye(TOPICS, TOPICS + 2), torch.zeros(TOPICS, dtype=torch.int64)),
        row_of=lambda document: int(document.argmax()),
        reading=lambda response: float(response["quality"]),
        size=SLATE,
    )


class MyopicChooser:
    """Shows what the user likes best, as only the simulator itself knows it: what long-term thinking must beat."""

    def __init__(self, environments: list[Any], world: World) -> None:
        self._environments = environments
        self._world = world

    def start(self, users: int) -> None:
        """Nothing is remembered."""

    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        interests = np.stack([e.environment.user_model.create_observation() for e in self._environments])
        liked = np.take_along_axis(interests, candidates, 1)
        picks = np.argsort(-liked, axis=1, kind="stable")[:, : self._world.size]
        return picks, np.zeros(candidates.shape, np.float32)

    def told(self, rows: npt.NDArray[np.int64], clicked: npt.NDArray[np.int64], value: npt.NDArray[np.float32]) -> None:
        """Nothing is learnt."""


def environments_of(count: int, seed: int) -> list[Any]:
    """Each with users and documents of its own."""
    draw_clicks_from(seed)
    return [create(seed + place) for place in range(count)]


def recsim_interest(seed: int, steps: int, progress: Progress, *, sessions: int = 1_000) -> dict[str, dict[str, float]]:
    """Mean reward of a session with its 95 % interval: of the recommender after `steps` slates of training, which then
    shows what it likes best; of SlateQ after as many; of random slates; and of what the user truly likes best."""
    world, apart = interest_world(), seed * 10 * SEEDS_APART
    online = OnlineConfig(steps=steps)
    network = learn(world, environments_of(online.users, apart), online, seed, progress, "recommender")
    slate_q = learn_slate_q(world, environments_of(online.users, apart), online, seed, progress)
    rng = np.random.default_rng(seed)
    found = {}
    for name in ("recommender", "slate_q", "random", "myopic"):
        evaluated = environments_of(EVALUATED_TOGETHER, apart + 2 * SEEDS_APART)
        choosers: dict[str, Chooser] = {
            "recommender": PolicyChooser(network, world, rng, floor=0.0, greedy=True),
            "slate_q": SlateQChooser(slate_q, world, rng, floor=0.0, greedy=True),
            "random": RandomChooser(world, rng),
            "myopic": MyopicChooser(evaluated, world),
        }
        found[name] = with_interval(rewards_of(world, evaluated, choosers[name], sessions))
        progress(f"evaluation of {name}", 1.0)
    return found
