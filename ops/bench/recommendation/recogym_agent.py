"""The recommender in RecoGym: the policy's network reads a user's views, and a click model on its state learns online.

First the network learns to say which product a user views next, so that its state holds his taste and item vectors lie
where views put them. What a shown product's clicks say is then learned by likelihood: for each product a Bayesian
logistic regression on the few directions in which users' queries differ, beginning where its item vector points.
Clicks are too rare (one in eighty) for more. Choices are Thompson samples, drawn more narrowly than the posterior is
wide: with a hundred products and a few thousand clicks, full exploration would cost more than it finds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.engagements import CLICK
from models.item_table import ItemTable
from models.policy import PolicyConfig, PolicyNetwork
from ops.bench.recommendation.recogym_world import Log, RecoGymConfig

Floats = npt.NDArray[np.float64]
USERS_AT_ONCE, MOST_VIEWS = 64, 100


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """directions: of users' queries that clicks may depend on; bias_spread and direction_spread: how far products are
    expected to differ, in logits; own_direction: how far a product's item vector is expected to say what its clicks
    depend on; exploration: width of Thompson samples over the posterior's."""

    hidden: int = 64
    vector: int = 33
    epochs: int = 40
    learning_rate: float = 6e-3
    directions: int = 5
    bias_spread: float = 0.35
    direction_spread: float = 0.15
    own_direction: float = 0.1
    exploration: float = 0.4


class ViewNetwork:
    """The policy's network over a fixed catalogue whose items have no content."""

    def __init__(self, products: int, config: AgentConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = PolicyNetwork(PolicyConfig(1, config.hidden, config.vector, products, 0, pictures=False))
        self._items = ItemTable(torch.zeros(products, 1), torch.arange(products))

    def vectors(self) -> Tensor:
        """[products, V]"""
        return self.network.item_vectors(self._items)

    def inputs(self, vectors: Tensor, viewed: Tensor) -> Tensor:
        """Views are engagements as clicks are; RecoGym has no clock that would say more."""
        known = torch.full(viewed.shape, math.nan)
        return self.network.inputs(vectors[viewed], torch.full(viewed.shape, CLICK), known, torch.ones(viewed.shape))


def pretrained(
    views: Sequence[npt.NDArray[np.int64]],
    products: int,
    config: AgentConfig,
    seed: int,
    progress: Callable[[float], None],
) -> ViewNetwork:
    """Learns to predict the next view. views: of each user, in order; they are shuffled anew in each epoch, since a
    user's taste hardly moves while he is there."""
    found, draw = ViewNetwork(products, config, seed), np.random.default_rng(seed)
    views = [of_user for of_user in views if len(of_user)]
    _begin_with_popularity(found, np.bincount(np.concatenate(views), minlength=products))
    steps = config.epochs * math.ceil(len(views) / USERS_AT_ONCE)
    optimiser = torch.optim.AdamW(found.network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, steps, pct_start=0.1)
    for epoch in range(config.epochs):
        order = draw.permutation(len(views))
        for first in range(0, len(order), USERS_AT_ONCE):
            chosen = [draw.permutation(views[user])[:MOST_VIEWS] for user in order[first : first + USERS_AT_ONCE]]
            loss = next_view_loss(found, chosen)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(found.network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / config.epochs)
    return found


def _begin_with_popularity(found: ViewNetwork, times: npt.NDArray[np.int64]) -> None:
    popularity = torch.tensor(np.log(times + 0.5), dtype=torch.float32)
    with torch.no_grad():
        found.network.from_id.weight.normal_(0, 0.1)
        found.network.from_id.weight[:, -1] = popularity - popularity.mean()


def next_view_loss(found: ViewNetwork, views: Sequence[npt.NDArray[np.int64]]) -> Tensor:
    """Mean negative log-likelihood of each view given the user's views before it."""
    lengths = torch.tensor([len(of_user) for of_user in views])
    viewed = torch.nn.utils.rnn.pad_sequence([torch.tensor(of_user) for of_user in views], batch_first=True)
    vectors = found.vectors()
    after = found.network.states(found.inputs(vectors, viewed))
    before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
    likelihood = torch.log_softmax(found.network.query(before) @ vectors.T, dim=-1)
    of_views = likelihood.gather(-1, viewed[..., None])[..., 0]
    return -of_views[torch.arange(viewed.shape[1]) < lengths[:, None]].mean()


class Directions:
    """Where users' queries differ most, as their products' preferences see it: coordinates of unit variance."""

    def __init__(self, queries: Floats, vectors: Floats, number: int) -> None:
        """queries [n, V - 1]; vectors [products, V - 1], both without the last component."""
        self._mean = queries.mean(axis=0)
        _, size, axes = np.linalg.svd((queries - self._mean) @ vectors.T / math.sqrt(len(queries)), full_matrices=False)
        number = min(number, int((size > 1e-6 * size[0]).sum()))
        self._to_coordinates = vectors.T @ axes[:number].T / size[:number]
        #: [products, number]: how a product's preference moves with each coordinate.
        self.of_products: Floats = axes[:number].T * size[:number]

    def coordinates(self, query: Floats) -> Floats:
        """[..., number]"""
        found: Floats = (query - self._mean) @ self._to_coordinates
        return found


class ClickModel:
    """For each product the logit of a click is linear in x float64[1 + directions], x[0] = 1, with a Gaussian posterior
    of its own. Updated click by click: Laplace's approximation, one step of Newton's each."""

    def __init__(self, prior_mean: Floats, prior_spread: Floats) -> None:
        """prior_mean float64[products, 1 + directions]; prior_spread float64[1 + directions]."""
        self.mean = np.array(prior_mean)
        self.covariance = np.tile(np.diag(prior_spread**2), (len(prior_mean), 1, 1))

    def update(self, product: int, x: Floats, clicked: bool) -> None:
        mean, covariance = self.mean[product], self.covariance[product]
        chance = 1 / (1 + math.exp(-float(x @ mean)))
        along: Floats = covariance @ x
        curvature = chance * (1 - chance)
        shrink = 1 / (1 + curvature * float(x @ along))
        mean += along * ((clicked - chance) * shrink)
        covariance -= np.outer(along, along) * (curvature * shrink)

    def logits(self, x: Floats) -> tuple[Floats, Floats]:
        """(mean, standard deviation) of each product's."""
        return self.mean @ x, np.sqrt((self.covariance @ x) @ x)


class Recommender:
    """An Agent, after it learned from the log."""

    def __init__(
        self, world: RecoGymConfig, log: Log, progress: Callable[[float], None], config: AgentConfig | None = None
    ) -> None:
        config = config or AgentConfig()
        viewed = [log.product[(log.user == user) & ~log.shown] for user in range(log.user.max() + 1)]
        self._views = pretrained(viewed, world.products, config, world.seed, progress)
        self._draw, self._exploration = np.random.default_rng(world.seed), config.exploration
        with torch.no_grad():
            self._vectors = self._views.vectors()
        self.begin()
        self._directions = self._found_directions(viewed, config)
        rate = float(log.clicked[log.shown].mean())
        directions = self._directions.of_products
        bias = np.full((world.products, 1), math.log(rate / (1 - rate)))
        spread = np.array([config.bias_spread, *[config.direction_spread] * directions.shape[1]])
        self._model = ClickModel(np.hstack([bias, config.own_direction * directions]), spread)
        log.replay(self, lambda product, clicked, propensity: self.learn(product, clicked))

    def begin(self) -> None:
        self._hidden = torch.zeros(1, self._views.network.config.hidden)
        self._x: Floats | None = None

    def view(self, product: int) -> None:
        viewed = torch.tensor([product])
        with torch.no_grad():
            self._hidden = self._views.network.states(self._views.inputs(self._vectors, viewed)[:, None], self._hidden)[
                :, -1
            ]
        self._x = None

    def choose(self) -> int:
        mean, deviation = self._model.logits(self._state())
        return int((mean + self._exploration * deviation * self._draw.standard_normal(len(mean))).argmax())

    def learn(self, product: int, clicked: bool) -> None:
        self._model.update(product, self._state(), clicked)

    def _state(self) -> Floats:
        if self._x is None:
            self._x = np.concatenate([[1.0], self._directions.coordinates(self._query(self._hidden)[0])])
        return self._x

    def _query(self, hidden: Tensor) -> Floats:
        with torch.no_grad():
            found: Floats = self._views.network.query(hidden)[:, :-1].numpy().astype(np.float64)
        return found

    def _found_directions(self, viewed: Sequence[npt.NDArray[np.int64]], config: AgentConfig) -> Directions:
        queries = []
        for of_user in viewed:
            self.begin()
            for product in of_user.tolist():
                self.view(product)
            queries.append(self._query(self._hidden))
        return Directions(np.concatenate(queries), self._vectors[:, :-1].numpy().astype(np.float64), config.directions)
