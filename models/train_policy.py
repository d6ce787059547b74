"""Trains a policy on stored feedback, from top to bottom: windows, pictures, click model, actor and critic, judgement.

The latest part of the slates is never trained on: it ends the last two stages, and an actor that is no better there
than the click model it began as is not kept. Everything random comes from the seed, so the same history gives the same
bytes on a CPU. What is learnt from a batch is in actor_critic.py, of pictures in liked_together.py.
Shape suffixes as in experience.py.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.actor_critic import Learner, LearnerConfig, click_loss, floored, look, update
from models.item_content import ID_BUCKETS, ITEM_CONTENT
from models.liked_together import LookLearner
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.policy_checks import failed_policy_checks
from models.policy_history import (
    PolicyHistory,
    PolicyTrainingRefused,
    Windows,
    check_history,
    sort_history,
    windows_between,
)
from models.slates import picked_marginals

Progress = Callable[[str, float], None]
Floats = npt.NDArray[np.float64]
#: About so many batches make an epoch, within these bounds of slates.
STEPS_AN_EPOCH, LEAST_BATCH, LARGEST_BATCH = 40, 16, 1_024
#: Of the later slates, those that epochs are judged by: exact marginals cost about a millisecond each.
MOST_JUDGED = 1_000
#: No slate counts more often than this in an estimate.
LARGEST_WEIGHT = 10.0
#: By these shares of the time budget the picture encoder's own stage, and then the click model, are done.
LOOK_SHARE, CLICK_SHARE = 0.1, 0.5
#: Users of the registration checks.
PROBE_USERS = 100


@dataclass(frozen=True, slots=True)
class PolicyTrainingConfig:
    """window: engagements of a user between two resets of his state; validation_share: the latest part of the slates,
    never trained on; floor: exploration that the policy will act with; epochs count for each stage (look_epochs: of the
    picture encoder alone, where items have pictures); time_budget_seconds ends training early; forgotten_ids: share of
    the items of which each step knows nothing but their content, so that content has to say what it can say."""

    hidden: int = 64
    look_epochs: int = 10
    click_epochs: int = 30
    actor_epochs: int = 8
    patience: int = 5
    learning_rate: float = 1e-3
    window: int = 64
    validation_share: float = 0.2
    least_slates: int = 100
    least_reactions: int = 20
    floor: float = 0.05
    forgotten_ids: float = 0.5
    time_budget_seconds: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PolicyTrainingResult:
    model: TrainedPolicy
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """What all stages need. deadline: of `clock`, in seconds."""

    learner: Learner
    taught: Windows
    later: Windows
    learning: LearnerConfig
    config: PolicyTrainingConfig
    rng: np.random.Generator
    progress: Progress
    clock: Callable[[], float]
    deadline: float


def train_policy(
    history: PolicyHistory,
    config: PolicyTrainingConfig,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PolicyTrainingResult:
    """Raises PolicyTrainingRefused."""
    began = clock()
    torch.manual_seed(config.seed)
    taught, later = split(history, config)
    buckets, bucket_A = torch.unique(history.items.bucket_A, return_inverse=True)
    shape = PolicyConfig(
        content=history.items.content_AF.shape[1],
        hidden=config.hidden,
        buckets=max(len(buckets), 1),
    )
    network = PolicyNetwork(shape)
    items = replace(history.items, bucket_A=bucket_A)
    learner = Learner(network, items, config.learning_rate, torch.Generator().manual_seed(config.seed))
    learning = LearnerConfig(
        floor=config.floor,
        forgotten_ids=config.forgotten_ids,
        return_scale=return_scale(taught, LearnerConfig().discount),
    )
    budget = math.inf if config.time_budget_seconds is None else config.time_budget_seconds
    rng = np.random.default_rng(config.seed)
    stage = Stage(learner, taught, later, learning, config, rng, progress, clock, began + LOOK_SHARE * budget)
    fit_looks(stage)
    click_quality = fit_clicks(replace(stage, deadline=began + CLICK_SHARE * budget))
    network.act_as_clicked()
    estimates = fit_actor(replace(stage, deadline=began + budget))
    model = TrainedPolicy(with_all_buckets(network, buckets), {"seed": config.seed})
    probe = later.experience(np.arange(min(len(later), PROBE_USERS)))
    failed = failed_policy_checks(model, history.items, probe, content=ITEM_CONTENT)
    if failed:
        raise PolicyTrainingRefused(f"the trained policy is unfit for use: {'; '.join(failed)}")
    metrics = {
        "slates": float(taught.slates),
        "validation_slates": float(later.slates),
        "engagements": float(len(history.engagements)),
        "click_loss": click_quality,
        **estimates,
        "seconds": clock() - began,
    }
    return PolicyTrainingResult(model, {name: value for name, value in metrics.items() if math.isfinite(value)})


def with_all_buckets(network: PolicyNetwork, buckets: Tensor) -> PolicyNetwork:
    """A network that was trained with just the buckets that occur, as one with all; the others add nothing."""
    whole = PolicyNetwork(replace(network.config, buckets=ID_BUCKETS))
    weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    from_id = torch.zeros_like(whole.from_id.weight)
    from_id[buckets] = weights["from_id.weight"][: len(buckets)]
    whole.load_state_dict(weights | {"from_id.weight": from_id})
    return whole.eval()


def split(history: PolicyHistory, config: PolicyTrainingConfig) -> tuple[Windows, Windows]:
    """The windows that are trained on, and those with the later slates. Raises PolicyTrainingRefused."""
    check_history(history)
    columns = sort_history(history)
    slates = columns.slates
    reactions = int((slates.reward != 0).sum())
    if len(slates) < config.least_slates:
        raise PolicyTrainingRefused(
            f"{len(slates)} slates with complete rewards are too few; at least {config.least_slates} are needed"
        )
    if reactions < config.least_reactions:
        raise PolicyTrainingRefused(
            f"{reactions} reactions to slates are too few; at least {config.least_reactions} are needed"
        )
    caused_at = columns.occurred_at[columns.position]
    begin = float(np.quantile(caused_at, 1 - config.validation_share, method="higher"))
    taught = windows_between(columns, -math.inf, begin, config.window)
    later = windows_between(columns, begin, math.inf, config.window)
    if not len(taught) or not (taught.columns.slates.reward > 0).any():
        raise PolicyTrainingRefused("no slate before the latest ones was welcome; slates of a longer time are needed")
    return taught, later


def return_scale(taught: Windows, discount: float) -> float:
    """The order of size of a window's discounted rewards."""
    reward = taught.columns.slates.reward.sum(1)
    totals = [
        float((reward[first:last] * discount ** np.arange(last - first)).sum())
        for first, last in zip(taught.first.tolist(), taught.last.tolist(), strict=True)
    ]
    return max(float(np.sqrt(np.mean(np.square(totals)))), 1e-3)


def fit_looks(stage: Stage) -> None:
    """Epochs of the picture encoder alone: what the same users like is to look alike. The policy goes on from there."""
    learner, epochs = stage.learner, stage.config.look_epochs
    encoder, picture_A = learner.network.from_picture, learner.items.picture_A
    if encoder is not None and picture_A is not None and bool((picture_A >= 0).any()):
        looks = LookLearner(encoder, learner.items, learner.chance)
        for rows, rate in chain.from_iterable(steps(stage, "looks", epoch, epochs) for epoch in range(epochs)):
            looks.learn(stage.taught.experience(rows).to(learner.network.device), rate)


def fit_clicks(stage: Stage) -> float:
    """Epochs of the click model until it gets no better on the later slates; leaves the best weights. Gives its loss
    there."""
    network, best, best_weights, waited = stage.learner.network, math.inf, None, 0
    for epoch in range(stage.config.click_epochs):
        train_epoch(stage, epoch, stage.config.click_epochs, act=False)
        loss = click_quality(stage)
        if loss < best:
            best, best_weights, waited = loss, copy.deepcopy(network.state_dict()), 0
        else:
            waited += 1
        if waited >= stage.config.patience or stage.clock() >= stage.deadline:
            break
    if best_weights is None:
        raise PolicyTrainingRefused("the click model does not come to an end of its loss: its numbers overflow")
    network.load_state_dict(best_weights)
    return best


def fit_actor(stage: Stage) -> dict[str, float]:
    """Epochs of actor and critic, judged by what the later slates would have earned; leaves the best weights, which are
    the ones it found if no epoch earns more. Gives the estimates, each the reward of a slate."""
    network, judge = stage.learner.network, Judge(stage)
    began = best = judge.estimate(network)
    best_weights, waited = copy.deepcopy(network.state_dict()), 0
    for epoch in range(stage.config.actor_epochs):
        if waited >= stage.config.patience or stage.clock() >= stage.deadline:
            break
        train_epoch(stage, epoch, stage.config.actor_epochs, act=True)
        found = judge.estimate(network)
        if found > best:
            best, best_weights, waited = found, copy.deepcopy(network.state_dict()), 0
        else:
            waited += 1
    network.load_state_dict(best_weights)
    return {"reward_logged": judge.logged, "reward_as_clicked": began, "reward_estimate": best}


def train_epoch(stage: Stage, epoch: int, epochs: int, *, act: bool) -> None:
    for rows, rate in steps(stage, "actor" if act else "click model", epoch, epochs):
        stage.learner.set_learning_rate(rate)
        update(stage.learner, stage.taught.experience(rows), stage.learning, act=act)


def steps(stage: Stage, name: str, epoch: int, epochs: int) -> Iterator[tuple[npt.NDArray[np.int64], float]]:
    """Rows of an epoch's batches until time is up, each with its learning rate, which falls to nothing along a cosine
    over the epochs."""
    batches = list(batches_of(stage.taught, stage.rng))
    for number, rows in enumerate(batches):
        if stage.clock() >= stage.deadline:
            return
        done = (epoch + number / len(batches)) / epochs
        yield rows, stage.config.learning_rate * (1 + math.cos(math.pi * done)) / 2
        stage.progress(f"{name}, epoch {epoch + 1}", (number + 1) / len(batches))


def batches_of(windows: Windows, rng: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Rows of windows in a new order, with about as many slates in each batch."""
    wanted = min(max(windows.slates // STEPS_AN_EPOCH, LEAST_BATCH), LARGEST_BATCH)
    order = rng.permutation(len(windows))
    slates = np.cumsum((windows.last - windows.first)[order])
    yield from np.split(order, np.flatnonzero(np.diff(slates // wanted)) + 1)


@torch.inference_mode()
def click_quality(stage: Stage) -> float:
    """The click model's loss on the later slates."""
    network, total = stage.learner.network, 0.0
    for rows in batches_of(stage.later, np.random.default_rng(0)):
        batch = stage.later.experience(rows).to(network.device)
        answers = look(network, stage.learner.items, batch, stage.learning.return_scale)
        total += float(click_loss(network, answers)) * batch.slates
    return total / stage.later.slates


class Judge:
    """Estimates a policy's reward from later slates that others drew: each position's reward counts as often as the
    policy would have shown that item there (item-position model, self-normalised, weights clipped)."""

    def __init__(self, stage: Stage) -> None:
        held = np.cumsum(stage.later.last - stage.later.first)
        chosen = np.arange(max(1, int(np.searchsorted(held, MOST_JUDGED))))[: len(held)]
        self._batch = stage.later.experience(chosen)
        self._stage = stage
        present_BD = self._batch.seen_BD >= 0
        self._picks = self._batch.picks_BDK[present_BD].numpy().astype(np.int16)
        self._reward: Floats = self._batch.reward_BDK[present_BD].double().numpy()
        self._shown = picked_marginals(self._batch.log_weights_BDC[present_BD].numpy(), self._picks)
        self.logged = float(self._reward.sum(1).mean())

    @torch.inference_mode()
    def estimate(self, network: PolicyNetwork) -> float:
        stage = self._stage
        answers = look(network, stage.learner.items, self._batch.to(network.device), stage.learning.return_scale)
        log_weights_NC = floored(answers.logits_NC, answers.allowed_NC, stage.config.floor)
        weights = possible(log_weights_NC, answers.allowed_NC)
        ratio = picked_marginals(weights, self._picks) / self._shown
        ratio = np.minimum(np.nan_to_num(ratio, nan=0.0, posinf=LARGEST_WEIGHT), LARGEST_WEIGHT)
        return float(((ratio * self._reward).sum(0) / np.maximum(ratio.sum(0), 1e-9)).sum())


def possible(log_weights_NC: Tensor, allowed_NC: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = log_weights_NC.masked_fill(~allowed_NC, -math.inf).cpu().float().numpy()
    return found
