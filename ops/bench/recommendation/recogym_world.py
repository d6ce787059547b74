"""RecoGym as its challenge of 2019 set it up: a shop whose users view products by themselves and are shown one in
between, which they click rarely. An agent sees the views and the clicks of what it showed, and no parameter of the
world.

Of users who came before, a log is given: an older agent chose in it, who shows users what they viewed anyway.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ops.bench.recommendation.simulators import recogym_environments

Progress = Callable[[str, float], None]

#: Random streams of a world: users of the log, users of the test.
LOG_USERS, TEST_USERS = 0, 1


@dataclass(frozen=True, slots=True)
class RecoGymConfig:
    """drift: of a user's taste with each view (sigma_omega); flips: pairs of products whose clicks were exchanged;
    epsilon: how often the older agent shows what the user did not view."""

    seed: int = 42
    products: int = 100
    factors: int = 5
    flips: int = 50
    drift: float = 0.01
    epsilon: float = 0.005
    logged_users: int = 1_000
    test_users: int = 2_000


class Agent(Protocol):
    """Meets one user after the other; what it was told of a user's clicks it may use for the next user too."""

    def begin(self) -> None:
        """A new user comes."""

    def view(self, product: int) -> None:
        """The user views a product by himself."""

    def choose(self) -> int:
        """The product to show him now."""

    def learn(self, product: int, clicked: bool) -> None:
        """What became of the choice."""


@dataclass(frozen=True, slots=True)
class Log:
    """n events in order: user int64[n], shown bool[n] (by the older agent; else viewed), product int64[n], clicked
    bool[n], propensity float64[n] (NaN for views)."""

    user: npt.NDArray[np.int64]
    shown: npt.NDArray[np.bool_]
    product: npt.NDArray[np.int64]
    clicked: npt.NDArray[np.bool_]
    propensity: npt.NDArray[np.float64]

    def replay(self, agent: Agent, each_shown: Callable[[int, bool, float], None]) -> None:
        """An agent meets the log's users; each_shown(product, clicked, propensity)."""
        before = -1
        columns = (self.user, self.shown, self.product, self.clicked, self.propensity)
        for user, shown, product, clicked, propensity in zip(*(one.tolist() for one in columns), strict=True):
            if user != before:
                agent.begin()
                before = user
            if shown:
                each_shown(product, clicked, propensity)
            else:
                agent.view(product)


@dataclass(frozen=True, slots=True)
class Played:
    """Of each user, int64[users]: products shown, clicks."""

    shown: npt.NDArray[np.int64]
    clicks: npt.NDArray[np.int64]

    def click_rate(self) -> dict[str, float]:
        """{"ctr", "low", "high"}: clicks per product shown, with its 95 % interval; a user's clicks may depend on each
        other."""
        total = int(self.shown.sum())
        rate = float(self.clicks.sum() / total)
        off = self.clicks - rate * self.shown
        error = math.sqrt(float(off @ off)) / total
        return {"ctr": rate, "low": rate - 1.96 * error, "high": rate + 1.96 * error}


class ViewCounts:
    """Begins an agent: how often the user viewed each product, float64[products]."""

    def __init__(self, products: int) -> None:
        self.counts = np.zeros(products)

    def begin(self) -> None:
        self.counts[:] = 0

    def view(self, product: int) -> None:
        self.counts[product] += 1

    def learn(self, product: int, clicked: bool) -> None:
        pass


class OlderAgent(ViewCounts):
    """Shows a product in proportion to the user's views of it, or now and then one that he never viewed."""

    def __init__(self, config: RecoGymConfig, seed: int) -> None:
        super().__init__(config.products)
        self._epsilon, self._draw = config.epsilon, np.random.default_rng(seed)
        self.propensity = math.nan

    def choose(self) -> int:
        explores = self._draw.random() < self._epsilon and not self.counts.all()
        weights = (self.counts == 0) if explores else self.counts
        product = int(self._draw.choice(len(self.counts), p=weights / weights.sum()))
        self.propensity = self.propensity_of(product)
        return product

    def propensity_of(self, product: int) -> float:
        if self.counts[product]:
            return float((1 - self._epsilon) * self.counts[product] / self.counts.sum())
        return self._epsilon / float((self.counts == 0).sum())


def environment_of(config: RecoGymConfig, users: int) -> Any:
    """A RecoEnv1. users: LOG_USERS or TEST_USERS."""
    recogym = recogym_environments()
    environment = recogym.RecoEnv1()
    environment.init_gym(
        {
            **recogym.env_1_args,
            "random_seed": config.seed,
            "num_products": config.products,
            "K": config.factors,
            "sigma_omega": config.drift,
            "number_of_flips": config.flips,
        }
    )
    environment.reset_random_seed(users)
    return environment


def play(
    environment: Any,
    agent: Agent,
    users: int,
    progress: Callable[[float], None],
    note: Callable[[int, bool, int, bool], None] = lambda user, shown, product, clicked: None,
) -> Played:
    """note(user, shown, product, clicked) for each event."""
    played = Played(np.zeros(users, np.int64), np.zeros(users, np.int64))
    for user in range(users):
        environment.reset(user)
        agent.begin()
        observation, _, done, _ = environment.step(None)
        _tell(agent, user, observation, note)
        while not done:
            product = agent.choose()
            observation, reward, done, _ = environment.step(product)
            clicked = bool(reward)
            agent.learn(product, clicked)
            note(user, True, product, clicked)
            _tell(agent, user, observation, note)
            played.shown[user] += 1
            played.clicks[user] += clicked
        progress((user + 1) / users)
    return played


def _tell(agent: Agent, user: int, observation: Any, note: Callable[[int, bool, int, bool], None]) -> None:
    for session in observation.sessions():
        product = int(session["v"])
        agent.view(product)
        note(user, False, product, False)


def logged(config: RecoGymConfig, progress: Callable[[float], None]) -> Log:
    """What the older agent and its users did."""
    agent = OlderAgent(config, config.seed)
    rows: list[tuple[int, bool, int, bool, float]] = []

    def note(user: int, shown: bool, product: int, clicked: bool) -> None:
        rows.append((user, shown, product, clicked, agent.propensity if shown else math.nan))

    play(environment_of(config, LOG_USERS), agent, config.logged_users, progress, note)
    columns = list(zip(*rows, strict=True))
    kinds = (np.int64, np.bool_, np.int64, np.bool_, np.float64)
    return Log(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
