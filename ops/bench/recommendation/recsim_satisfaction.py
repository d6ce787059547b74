"""RecSim's long-term satisfaction: clickbait earns more now and costs satisfaction, by a hidden amount.

The same agent with the same settings learns among users of one sensitivity and then of another, and is never told
which; at one it pays to show clickbait, at the other it ruins a session. Runs in the benchmark environment.
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
    World,
    draw_clicks_from,
    rewards_of,
    with_interval,
)
from ops.bench.recommendation.simulators import recsim_environments

CANDIDATES = 10
#: The package's default is the first.
SENSITIVITIES = (0.01, 0.3)
#: Documents are told apart by their clickbait score in so many steps from 0 to 1.
LEVELS = 101
#: The constant policies that are tried: always the document nearest to such a score.
CONSTANTS = tuple(np.linspace(0, 1, 11).tolist())
EVALUATED_TOGETHER = 100


def create(sensitivity: float, seed: int) -> Any:
    """As the package's create_environment, which has no place for either."""
    _, satisfaction = recsim_environments()
    user_model = satisfaction.LTSUserModel(
        1, user_state_ctor=satisfaction.LTSUserState, response_model_ctor=satisfaction.LTSResponse, seed=seed
    )
    user_model._user_sampler = satisfaction.LTSStaticUserSampler(
        user_ctor=satisfaction.LTSUserState, sensitivity=sensitivity, seed=seed
    )
    environment = satisfaction.environment.Environment(
        user_model, satisfaction.LTSDocumentSampler(seed=seed), CANDIDATES, 1, resample_documents=True
    )
    return satisfaction.recsim_gym.RecSimGymEnv(environment, satisfaction.clicked_engagement_reward)


def environments_of(sensitivity: float, count: int, seed: int) -> list[Any]:
    """Each with users and documents of its own."""
    draw_clicks_from(seed)
    return [create(sensitivity, seed + place) for place in range(count)]


def satisfaction_world() -> World:
    """A document's content is its score and what that lacks of 1 (and two columns for a price that it lacks)."""
    scores = torch.linspace(0, 1, LEVELS)
    content_AF = torch.stack([1 - scores, scores], dim=1)
    return World(
        items=ItemTable(torch.nn.functional.pad(content_AF, (0, 2)), torch.zeros(LEVELS, dtype=torch.int64)),
        row_of=lambda document: round(float(document[0]) * (LEVELS - 1)),
        reading=lambda response: float(response["engagement"]),
        size=1,
    )


class ConstantChooser:
    """Always the document whose clickbait score is nearest to one."""

    def __init__(self, score: float) -> None:
        self._row = score * (LEVELS - 1)

    def start(self, users: int) -> None:
        """Nothing is remembered."""

    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        nearest = np.abs(candidates - self._row).argmin(axis=1)[:, None]
        return nearest, np.zeros(candidates.shape, np.float32)

    def told(self, rows: npt.NDArray[np.int64], clicked: npt.NDArray[np.int64], value: npt.NDArray[np.float32]) -> None:
        """Nothing is learnt."""


def recsim_satisfaction(
    seed: int, progress: Progress, *, steps: int = 100_000, sessions: int = 1_000
) -> dict[str, dict[str, float]]:
    """For each sensitivity (as text): the mean reward of a session with its 95 % interval, and that of the best
    constant policy, for which the sensitivity was tried out in advance."""
    world, apart = satisfaction_world(), seed * 10 * SEEDS_APART
    online = OnlineConfig(steps=steps, return_scale=300.0)
    found = {}
    for sensitivity in SENSITIVITIES:
        stage = f"learning at {sensitivity}"
        users = environments_of(sensitivity, online.users, apart)
        network = learn(world, users, online, seed, progress, stage)
        choosers: dict[str, Chooser] = {f"constant {score:.1f}": ConstantChooser(score) for score in CONSTANTS}
        choosers["recommender"] = PolicyChooser(network, world, np.random.default_rng(seed), floor=0.0, greedy=True)
        rewards = {}
        for name, chooser in choosers.items():
            evaluated = environments_of(sensitivity, EVALUATED_TOGETHER, apart + SEEDS_APART)
            rewards[name] = rewards_of(world, evaluated, chooser, sessions)
            progress(f"evaluation at {sensitivity}", len(rewards) / len(choosers))
        ours = with_interval(rewards.pop("recommender"))
        best = max(rewards, key=lambda name: float(rewards[name].mean()))
        found[str(sensitivity)] = ours | {
            "best_constant": float(rewards[best].mean()),
            "best_score": float(best.removeprefix("constant ")),
        }
    return found
