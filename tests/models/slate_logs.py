"""Logged slates for tests, with two policies, from a world small enough for the truth to be enumerated."""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from models.logged_slates import LoggedSlates
from models.slates import conditionals, draw_slates

DAY = 86_400_000
CANDIDATES, SIZE = 4, 2
#: Log-weights of the policies in each of two kinds of users.
CHAMPION = np.log([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
CHALLENGER = np.log([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]])
#: The mean reward of each item at each position, in each kind of users.
REWARD = np.array(
    [
        [[0.10, 0.05], [0.20, 0.10], [0.30, 0.20], [0.40, 0.20]],
        [[0.30, 0.10], [0.10, 0.05], [0.20, 0.15], [0.25, 0.20]],
    ]
)


@dataclass(frozen=True)
class Log:
    slates: LoggedSlates
    champion: Any
    challenger: Any


def true_value(log_weights: Any, above: float = 0.0) -> float:
    """Reward per slate of the policy, both kinds of users equally many; above: as of `log`."""
    total = 0.0
    for kind in range(2):
        for slate in permutations(range(CANDIDATES), SIZE):
            picks = np.array([slate], np.int16)
            probability = float(conditionals(log_weights[kind : kind + 1], picks).prod())
            total += probability * float(expected(np.array([kind]), picks, above).sum()) / 2
    return total


def expected(kind: Any, picks: Any, above: float) -> Any:
    """Mean reward at each position. The item 0 at the top takes `above` from what stands below it."""
    means = REWARD[kind[:, None], picks, np.arange(SIZE)]
    means[:, 1] -= above * (picks[:, 0] == 0)
    return means


def log(count: int, seed: int, *, users: int = 300, above: float = 0.0, days: int = 10) -> Log:
    """Slates by the champion."""
    draw = np.random.default_rng(seed)
    user = draw.integers(0, users, count)
    kind = user % 2
    log_weights = CHAMPION[kind].astype(np.float32)
    picks = draw_slates(log_weights, draw.random(log_weights.shape), SIZE)
    slates = LoggedSlates(
        user=user,
        made_at=np.sort(draw.integers(0, days * DAY, count)),
        policy=["recommender:1"] * count,
        candidates=np.tile(np.arange(CANDIDATES, dtype=np.int32), (count, 1)),
        log_weights=log_weights,
        picks=picks,
        reward=(draw.random(picks.shape) < expected(kind, picks, above)).astype(float),
        matured=np.ones(count, bool),
    )
    return Log(slates, log_weights, CHALLENGER[kind].astype(np.float32))
