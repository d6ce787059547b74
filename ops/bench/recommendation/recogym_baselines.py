"""Whom the recommender is measured against in RecoGym: chance, the agent that wrote the log, two of Vowpal Wabbit's
contextual bandits, the naive Bayes of the challenge's winner, and one that knows the user's true taste."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ops.bench.packages import package
from ops.bench.recommendation.recogym_world import Log, RecoGymConfig, ViewCounts

Floats = npt.NDArray[np.float64]


class RandomAgent(ViewCounts):
    def __init__(self, config: RecoGymConfig) -> None:
        super().__init__(config.products)
        self._draw = np.random.default_rng(config.seed)

    def choose(self) -> int:
        return int(self._draw.integers(len(self.counts)))


class Oracle(ViewCounts):
    """Reads the user's taste and the products' true response out of the simulator: nobody can do better."""

    def __init__(self, config: RecoGymConfig, environment: Any) -> None:
        super().__init__(config.products)
        self._environment = environment

    def choose(self) -> int:
        world = self._environment
        return int((world.beta @ world.omega + world.mu_bandit).argmax())


class NaiveBayes(ViewCounts):
    """Learns online which viewed products go with a click on a shown one: multinomial naive Bayes over pairs (shown,
    viewed), each viewed product counting once. Equal scores are drawn from."""

    def __init__(self, config: RecoGymConfig, log: Log, smoothing: float = 1.0) -> None:
        super().__init__(config.products)
        self._draw = np.random.default_rng(config.seed)
        self._pairs = np.full((2, config.products, config.products), smoothing)
        self._evidence = np.zeros((config.products, config.products))
        log.replay(self, lambda product, clicked, propensity: self._count(product, clicked))
        for product in range(config.products):
            self._weigh(product)

    def choose(self) -> int:
        scores = self._evidence[:, self.counts > 0].sum(axis=1)
        return int(self._draw.choice(np.flatnonzero(scores == scores.max())))

    def learn(self, product: int, clicked: bool) -> None:
        self._count(product, clicked)
        self._weigh(product)

    def _count(self, product: int, clicked: bool) -> None:
        self._pairs[int(clicked), product] += self.counts > 0

    def _weigh(self, product: int) -> None:
        self._evidence[product] = np.log(self._pairs[1, product]) - np.log(self._pairs[0, product])


class VowpalWabbit(ViewCounts):
    """A contextual bandit over all products, from the log by inverse propensities: features are the shares of the
    user's views, the shown product, and their pairs. online: explores by its own distribution and learns on."""

    def __init__(self, config: RecoGymConfig, log: Log, online: bool) -> None:
        super().__init__(config.products)
        kind = "--cb_explore_adf --squarecb" if online else "--cb_adf"
        options = f"{kind} --cb_type mtr --quadratic ua --random_seed {config.seed}"
        self._learner: Any = package("vowpalwabbit").Workspace(options, quiet=True)
        self._draw = np.random.default_rng(config.seed)
        self._online, self._propensity = online, 1.0
        self._products = [f"|a {product}" for product in range(config.products)]
        self._shared: str | None = None
        self._choice: int | None = None
        log.replay(self, self._learn)

    def begin(self) -> None:
        super().begin()
        self._shared = self._choice = None

    def view(self, product: int) -> None:
        super().view(product)
        self._shared = self._choice = None

    def choose(self) -> int:
        if self._choice is None or self._online:
            found = np.array(self._learner.predict([self._user(), *self._products]))
            self._choice = self._explored(found) if self._online else int(found.argmin())
        return self._choice

    def learn(self, product: int, clicked: bool) -> None:
        if self._online:
            self._learn(product, clicked, self._propensity)

    def _explored(self, probabilities: Floats) -> int:
        choice = int(self._draw.choice(len(probabilities), p=probabilities / probabilities.sum()))
        self._propensity = float(probabilities[choice])
        return choice

    def _learn(self, product: int, clicked: bool, propensity: float) -> None:
        example = [self._user(), *self._products]
        example[product + 1] = f"0:{-int(clicked)}:{propensity:.6g} {self._products[product]}"
        self._learner.learn(example)

    def _user(self) -> str:
        """The line that all products of an example share."""
        if self._shared is None:
            viewed = np.flatnonzero(self.counts)
            shares = self.counts / self.counts.sum()
            self._shared = "shared |u " + " ".join(f"{product}:{shares[product]:.4g}" for product in viewed)
        return self._shared
