"""SlateQ (Ie et al., 2019), our own: Q-learning of single items, put together to slates by a click model.

The value of a slate is the mean of its items' values (and of no click), weighed by how likely each is clicked. It sees
what the recommender sees, with the same recurrent network: the click model is fitted by likelihood, the items' values
by one-step Q-learning with a target network over replayed sessions, and slates are the best by click weight times value
over no click (the paper's top-K optimiser), with some at random.
"""

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.actor_critic import Look, click_loss, look
from models.experience import Experience
from models.policy import PolicyConfig, PolicyNetwork
from ops.bench.recommendation.recsim_learning import OnlineConfig, Progress
from ops.bench.recommendation.recsim_users import PolicyChooser, World, play

DISCOUNT = 0.99
#: Random slates, at first and at the end of training.
EXPLORATION = (1.0, 0.05)
#: Share of the target network that is renewed at each update (Polyak averaging).
RENEWED = 0.02
#: Rounds that are kept to be replayed.
REPLAYED = 10


class SlateQ:
    """The actor's query gives the items' values here, the critic that of no click, in units of the return scale."""

    def __init__(self, world: World, hidden: int, learning_rate: float, return_scale: float) -> None:
        self.network = PolicyNetwork(PolicyConfig(content=world.items.content_AF.shape[1], hidden=hidden, buckets=1))
        self.target = copy.deepcopy(self.network)
        self._items = world.items
        self._return_scale = return_scale
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)

    def update(self, batch: Experience) -> None:
        """One step of Q-learning and of the click model."""
        answers = look(self.network, self._items, batch, self._return_scale)
        with torch.no_grad():
            next_N = _next_values(self.target, look(self.target, self._items, batch, self._return_scale))
        clicked_NK = answers.reward_NK > 0
        of_items_NK = answers.logits_NC.gather(1, answers.picks_NK)
        found_N = torch.where(clicked_NK.any(1), (of_items_NK * clicked_NK).sum(1), answers.value_N)
        wanted_N = answers.reward_NK.sum(1) + DISCOUNT * next_N
        loss = torch.nn.functional.huber_loss(found_N, wanted_N) * 10 + click_loss(self.network, answers)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.network.parameters(), strict=True):
                old.lerp_(new, RENEWED)


def _next_values(network: PolicyNetwork, answers: Look) -> Tensor:
    """The value of the best slate at each following place of the same session, [N]; 0 after the last."""
    query_NV = network.click_query(answers.state_NH)
    appeal_NC = (
        torch.einsum("nv,ncv->nc", query_NV, answers.candidate_NCV) - network.no_click(answers.state_NH)[:, None]
    ).exp()
    best_NK = _best(appeal_NC, answers.logits_NC, answers.value_N, answers.picks_NK.shape[1])
    appeal_NK, value_NK = appeal_NC.gather(1, best_NK), answers.logits_NC.gather(1, best_NK)
    value_N = ((appeal_NK * value_NK).sum(1) + answers.value_N) / (appeal_NK.sum(1) + 1)
    value_BD = value_N.new_zeros(answers.present_BD.shape).masked_scatter(answers.present_BD, value_N)
    return torch.nn.functional.pad(value_BD[:, 1:], (0, 1))[answers.present_BD]


def _best(appeal_NC: Tensor, value_NC: Tensor, none_N: Tensor, size: int) -> Tensor:
    return (appeal_NC * (value_NC - none_N[:, None])).topk(size, dim=1).indices


class SlateQChooser(PolicyChooser):
    """Shows the best slate, or with some probability a random one."""

    exploration = 0.0

    @torch.inference_mode()
    def slates(self, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        network, hidden = self._network, self._hidden
        vectors_NCV = self._vectors[torch.from_numpy(candidates)]
        appeal_NC = (
            torch.einsum("nv,ncv->nc", network.click_query(hidden), vectors_NCV) - network.no_click(hidden)[:, None]
        )
        value_NC = torch.einsum("nv,ncv->nc", network.query(hidden), vectors_NCV)
        best = _best(appeal_NC.exp(), value_NC, network.value(hidden), self._world.size).numpy()
        at_random = np.argsort(self._rng.random(candidates.shape), axis=1)[:, : self._world.size]
        explores = self._rng.random(len(candidates)) < self.exploration
        picks = np.where(explores[:, None], at_random, best)
        return picks, np.full(candidates.shape, -math.log(candidates.shape[1]), np.float32)


def learn_slate_q(
    world: World, environments: list[Any], config: OnlineConfig, seed: int, progress: Progress
) -> PolicyNetwork:
    """As many updates and sessions as the recommender gets."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    learner = SlateQ(world, config.hidden, config.learning_rate, config.return_scale)
    chooser = SlateQChooser(learner.network, world, rng, floor=0.0, greedy=True)
    rounds: list[Experience] = []
    used = 0
    while used < config.steps:
        share = min(1.0, 2 * used / config.steps)
        chooser.exploration = EXPLORATION[0] + (EXPLORATION[1] - EXPLORATION[0]) * share
        sessions = play(world, environments, chooser)
        used += sessions.slates
        rounds = [*rounds, sessions.experience][-REPLAYED:]
        for group in learner.optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - (1 - config.last_rate) * min(1.0, used / config.steps))
        for _ in range(config.passes * config.users // config.batch):
            replayed = rounds[int(rng.integers(len(rounds)))]
            learner.update(replayed.take(torch.from_numpy(rng.permutation(len(replayed))[: config.batch])))
        progress("SlateQ", min(1.0, used / config.steps))
    return learner.network.eval()
