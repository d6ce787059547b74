"""Logged slates of simulated users, with a champion that chose them and a challenger whose worth is known.

Users have tastes that stay; they read a slate from the top, leave it sooner or later and rather after a click, so that
items change each other's reward; a few clicks become purchases. Both policies know the tastes in part: the signal is
how much, and each has an error for every user and item, which stays. Errors of both have one distribution and can be
exchanged, so with equal signals both policies are worth exactly the same; with more signal a policy is worth more.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.logged_slates import LoggedSlates
from models.slates import Picks, draw_slates, floored_log_weights

Floats = npt.NDArray[np.float64]

DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01
CLICK, PURCHASE, PURCHASE_SHARE = 1.0, 5.0, 0.05
#: The chance to go on to the next position without a click and after one.
GOES_ON, GOES_ON_AFTER_CLICK = 0.85, 0.5


@dataclass(frozen=True, slots=True)
class GateWorld:
    """users make `slates` on average over `days`; champion: signal of the policy that chose all slates; challenger: of
    the other; policy_error: the spread of each policy's error; shared: the correlation of both policies' errors, 0 for
    two that have nothing in common, much for a champion that was trained again."""

    challenger: float
    champion: float = 1.0
    policy_error: float = 0.7
    shared: float = 0.0
    users: int = 1_500
    slates: float = 6.0
    days: int = 12
    items: int = 200
    candidates: int = 12
    size: int = 4
    floor: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GateLog:
    """The log with both policies' log-weights float32[n, C], and the challenger's true gain in reward per slate."""

    slates: LoggedSlates
    champion: npt.NDArray[np.float32]
    challenger: npt.NDArray[np.float32]
    true_gain: float
    true_reward: float


def simulated_log(world: GateWorld) -> GateLog:
    draw = np.random.default_rng(world.seed)
    activity = draw.gamma(2.0, world.slates / 2, world.users)
    user = draw.permutation(np.repeat(np.arange(world.users), draw.poisson(activity)))
    made_at = START + np.sort(draw.integers(0, world.days * DAY, len(user)))
    candidates = draw.random((len(user), world.items)).argpartition(world.candidates, axis=1)[:, : world.candidates]
    appeal, tastes = _tastes(world, draw, user, candidates)
    common, *own = world.policy_error * draw.normal(size=(3, world.users, world.items))
    errors = [np.sqrt(world.shared) * common + np.sqrt(1 - world.shared) * one for one in own]
    weights = [
        floored_log_weights(signal * tastes + error[user[:, None], candidates], tastes > -np.inf, world.floor)
        for signal, error in zip((world.champion, world.challenger), errors, strict=True)
    ]
    picks = draw_slates(weights[0], draw.random(tastes.shape), world.size)
    reward = _rewards(_appeal_of(picks, appeal), draw)
    slates = LoggedSlates(
        user=user,
        made_at=made_at,
        policy=["recommender:1"] * len(user),
        candidates=candidates.astype(np.int32),
        log_weights=weights[0],
        picks=picks,
        reward=reward,
        matured=np.ones(len(user), bool),
    )
    worth = _true_rewards(weights, appeal, world, draw)
    gain = worth[1] - worth[0] if world.challenger != world.champion else 0.0
    return GateLog(slates, weights[0], weights[1], gain, worth[0])


def _tastes(
    world: GateWorld, draw: np.random.Generator, user: npt.NDArray[np.int64], candidates: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """(chance of a click once looked at, what a policy can know of it), each float64[n, C]."""
    of_users, of_items = draw.normal(size=(world.users, 4)), 0.4 * draw.normal(size=(world.items, 4))
    quality, mood = 0.3 * draw.normal(size=world.items), 0.5 * draw.normal(size=world.users)
    tastes = np.einsum("nf,ncf->nc", of_users[user], of_items[candidates]) + quality[candidates]
    chance: Floats = 1 / (1 + np.exp(2.0 - tastes - mood[user, None]))
    return chance, tastes


def _appeal_of(picks: Picks, appeal: Floats) -> Floats:
    return np.take_along_axis(appeal, picks.astype(np.int64), axis=1)


def _rewards(appeal: Floats, draw: np.random.Generator) -> Floats:
    """float64[n, K], drawn; appeal float64[n, K]."""
    rewards = np.zeros_like(appeal)
    reads = np.ones(len(appeal), bool)
    for position in range(appeal.shape[1]):
        clicks = reads & (draw.random(len(appeal)) < appeal[:, position])
        buys = clicks & (draw.random(len(appeal)) < PURCHASE_SHARE)
        rewards[:, position] = CLICK * clicks + PURCHASE * buys
        reads &= draw.random(len(appeal)) < np.where(clicks, GOES_ON_AFTER_CLICK, GOES_ON)
    return rewards


def _expected_reward(appeal: Floats) -> float:
    """Mean over slates of their expected reward, without the luck of clicks."""
    total, reads = 0.0, np.ones(len(appeal))
    for position in range(appeal.shape[1]):
        clicks = reads * appeal[:, position]
        total += float(clicks.mean()) * (CLICK + PURCHASE_SHARE * PURCHASE)
        reads = clicks * GOES_ON_AFTER_CLICK + (reads - clicks) * GOES_ON
    return total


def _true_rewards(
    weights: list[npt.NDArray[np.float32]], appeal: Floats, world: GateWorld, draw: np.random.Generator
) -> list[float]:
    """Of each policy, over many slates of every logged moment; the policies meet the same luck."""
    total = np.zeros(len(weights))
    repeats = 5
    for _ in range(repeats):
        uniform = draw.random(appeal.shape)
        for number, of_policy in enumerate(weights):
            total[number] += _expected_reward(_appeal_of(draw_slates(of_policy, uniform, world.size), appeal))
    return [float(one) / repeats for one in total]
