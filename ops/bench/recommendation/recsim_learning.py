"""The recommender's learner in RecSim: rounds of fresh sessions, each learnt from a few times.

The same settings for every environment; only the number of sessions differs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.actor_critic import Learner, LearnerConfig, update
from models.experience import Experience
from models.policy import PolicyConfig, PolicyNetwork
from ops.bench.recommendation.recsim_users import PolicyChooser, World, play

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """steps: slates shown in training, over all users; users: sessions of a round; passes: over each round's sessions;
    batch: sessions of one update; last_rate: share of the learning rate that is left at the end."""

    steps: int = 300_000
    users: int = 50
    passes: int = 4
    batch: int = 25
    learning_rate: float = 3e-3
    last_rate: float = 0.1
    hidden: int = 64
    return_scale: float = 100.0


def learn(
    world: World, environments: list[Any], config: OnlineConfig, seed: int, progress: Progress, stage: str
) -> PolicyNetwork:
    """Acts at random in the first round, which fits the click model; from then on as the actor says. environments: as
    many as `users`; each is used again for its next user."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    content = world.items.content_AF.shape[1]
    network = PolicyNetwork(
        PolicyConfig(content=content, hidden=config.hidden, buckets=1, text_buckets=0, pictures=False)
    )
    learner = Learner(network, world.items, config.learning_rate)
    learning = LearnerConfig(return_scale=config.return_scale)
    chooser = PolicyChooser(network, world, rng, floor=learning.floor, greedy=False)
    used = 0
    while used < config.steps:
        sessions = play(world, environments, chooser)
        first, used = used == 0, used + sessions.slates
        done = min(1.0, used / config.steps)
        learner.set_learning_rate(config.learning_rate * (1 - (1 - config.last_rate) * done))
        learn_round(learner, sessions.experience, learning, config, act=not first)
        if first:
            network.act_as_clicked()
        progress(stage, done)
    return network.eval()


def learn_round(
    learner: Learner, experience: Experience, learning: LearnerConfig, config: OnlineConfig, *, act: bool
) -> None:
    for _ in range(config.passes):
        for rows in torch.randperm(len(experience)).split(config.batch):  # type: ignore[no-untyped-call]
            update(learner, experience.take(rows), learning, act=act)
