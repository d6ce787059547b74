"""Many users of a RecSim environment at once, as the recommender sees them: items by row, answers as engagements.

Runs in the benchmark environment. What an agent may know is taken from the package's observations and nothing else:
never a user's true interests, which RecSim's interest evolution hands out as its observation of the user.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.actor_critic import floored
from models.engagements import CLICK, IMPRESSION
from models.experience import Experience
from models.item_table import ItemTable
from models.policy import PolicyNetwork

#: Seconds between two engagements; RecSim has no clock.
GAP = 60.0
#: No session is longer; a few users watch what prolongs their session for ever.
MOST_SLATES = 1_000
#: The environments of training, evaluation and so on draw their users and documents from seeds this far apart.
SEEDS_APART = 100_000


@dataclass(frozen=True, slots=True)
class World:
    """A RecSim environment as items and engagements.

    items: the table of what there is to show; row_of: an observed document's row in it; reading: what is observed of
    an item that was clicked, as the engagement's value; size: positions of a slate.
    """

    items: ItemTable
    row_of: Callable[[npt.NDArray[np.float64]], int]
    reading: Callable[[dict[str, Any]], float]
    size: int


class Chooser(Protocol):
    """Picks slates for users; told what came of each."""

    def start(self, users: int) -> None: ...

    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """candidates int64[n, C]: rows of items. Gives picks int64[n, K] and log-weights float32[n, C]."""

    def told(self, rows: npt.NDArray[np.int64], clicked: npt.NDArray[np.int64], value: npt.NDArray[np.float32]) -> None:
        """rows int64[n, K]: what was shown; clicked int64[n]: at which position, K for none; value float32[n]."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Finished sessions of n users: reward float64[n], and all that happened as an Experience."""

    reward: npt.NDArray[np.float64]
    experience: Experience

    @property
    def slates(self) -> int:
        return self.experience.slates


def play(world: World, environments: list[Any], chooser: Chooser) -> Sessions:
    """One session of each environment's next user, all side by side with one call of the chooser for each slate."""
    chooser.start(len(environments))
    observations = [environment.reset() for environment in environments]
    alive = np.ones(len(environments), np.bool_)
    reward = np.zeros(len(environments))
    steps: list[tuple[npt.NDArray[Any], ...]] = []
    while alive.any() and len(steps) < MOST_SLATES:
        candidates = np.array(
            [[world.row_of(document) for document in seen["doc"].values()] for seen in observations], np.int64
        )
        picks, log_weights = chooser.slates(candidates)
        clicked, value, earned = np.full(len(alive), world.size), np.full(len(alive), np.nan), np.zeros(len(alive))
        was_alive = alive.copy()
        for user in np.flatnonzero(alive).tolist():
            seen, earned[user], over, _ = environments[user].step(picks[user].tolist())
            observations[user] = seen
            for position, response in enumerate(seen["response"]):
                if response["click"]:
                    clicked[user], value[user] = position, world.reading(response)
            alive[user] = not over
        chooser.told(np.take_along_axis(candidates, picks, 1), clicked, value.astype(np.float32))
        reward += earned
        steps.append((candidates, log_weights, picks, clicked, value, earned, was_alive))
    return Sessions(reward, experience_of(steps, world.size))


def experience_of(steps: list[tuple[npt.NDArray[Any], ...]], size: int) -> Experience:
    """From what `play` noted of each slate: an engagement with every item shown, a click or an impression."""
    columns = [torch.from_numpy(np.stack(column, axis=1)) for column in zip(*steps, strict=True)]
    candidates_BDC, log_weights_BDC, picks_BDK, clicked_BD, value_BD, earned_BD, alive_BD = columns
    users, slates = alive_BD.shape
    hit_BDK = clicked_BD[..., None] == torch.arange(size)
    shown_BDK, alive_BDK = candidates_BDC.gather(2, picks_BDK), alive_BD[..., None].expand(-1, -1, size)

    def each(column_BDK: Tensor) -> Tensor:
        return column_BDK.reshape(users, slates * size)

    return Experience(
        item_BT=each(shown_BDK),
        action_BT=each(torch.where(hit_BDK, CLICK, IMPRESSION).where(alive_BDK, -1)),
        value_BT=each(torch.where(hit_BDK, value_BD[..., None], torch.nan)).float(),
        gap_BT=torch.full((users, slates * size), GAP),
        predicted_BT=torch.zeros(users, slates * size, dtype=torch.bool),
        seen_BD=torch.where(alive_BD, size * torch.arange(slates), -1),
        candidates_BDC=candidates_BDC,
        log_weights_BDC=log_weights_BDC,
        picks_BDK=picks_BDK,
        reward_BDK=torch.where(hit_BDK, earned_BD[..., None], 0.0).float(),
        continues_B=torch.zeros(users, dtype=torch.bool),
    )


class PolicyChooser:
    """A policy network in front of many users; greedy shows what it likes best, else slates are drawn."""

    def __init__(
        self, network: PolicyNetwork, world: World, rng: np.random.Generator, *, floor: float, greedy: bool
    ) -> None:
        self._network = network
        self._world = world
        self._rng = rng
        self._floor = floor
        self._greedy = greedy

    @torch.inference_mode()
    def start(self, users: int) -> None:
        self._hidden = torch.zeros(users, self._network.config.hidden)
        self._vectors = self._network.item_vectors(self._world.items)

    @torch.inference_mode()
    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        vectors_NCV = self._vectors[torch.from_numpy(candidates)]
        logits_NC = torch.einsum("nv,ncv->nc", self._network.query(self._hidden), vectors_NCV)
        log_weights = floored(logits_NC, torch.ones_like(logits_NC, dtype=torch.bool), self._floor).numpy()
        keys = log_weights if self._greedy else log_weights + self._rng.gumbel(size=candidates.shape)
        picks = np.argsort(-keys, axis=1, kind="stable")[:, : self._world.size]
        return picks, log_weights

    @torch.inference_mode()
    def told(self, rows: npt.NDArray[np.int64], clicked: npt.NDArray[np.int64], value: npt.NDArray[np.float32]) -> None:
        for position in range(rows.shape[1]):
            hit = torch.from_numpy(clicked == position)
            self._hidden = self._network.step(
                self._hidden,
                self._vectors[torch.from_numpy(rows[:, position])],
                torch.where(hit, CLICK, IMPRESSION),
                torch.where(hit, torch.from_numpy(value), torch.nan),
                torch.full((len(rows),), GAP),
            )


class RandomChooser:
    """Every slate is as likely as any other."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._world = world
        self._rng = rng

    def start(self, users: int) -> None:
        """Nothing is remembered."""

    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        picks = np.argsort(self._rng.random(candidates.shape), axis=1)[:, : self._world.size]
        return picks, np.full(candidates.shape, -np.log(candidates.shape[1]), np.float32)

    def told(self, rows: npt.NDArray[np.int64], clicked: npt.NDArray[np.int64], value: npt.NDArray[np.float32]) -> None:
        """Nothing is learnt."""


def draw_clicks_from(seed: int) -> None:
    """The package draws users' reactions from numpy's global generator."""
    np.random.seed(seed)


def rewards_of(world: World, environments: list[Any], chooser: Chooser, sessions: int) -> npt.NDArray[np.float64]:
    """float64[sessions or a few more]: rewards of whole sessions, undiscounted."""
    found: list[npt.NDArray[np.float64]] = []
    while sum(map(len, found)) < sessions:
        found.append(play(world, environments, chooser).reward)
    return np.concatenate(found)


def with_interval(rewards: npt.NDArray[np.float64]) -> dict[str, float]:
    """The mean and its 95 % interval over sessions."""
    mean, half = float(rewards.mean()), 1.96 * float(rewards.std(ddof=1)) / len(rewards) ** 0.5
    return {"reward": mean, "low": mean - half, "high": mean + half, "sessions": float(len(rewards))}
