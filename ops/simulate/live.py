"""Card traffic in real time: a Poisson process that goes on whether or not anybody keeps up (open loop).

What happens is fixed by the seed, the run and the start, second by second; until(now) gives out what is due. A caller
that comes late gets more at once, with the times at which it was due, so that delays show. Frauds run in episodes
that began before the start, so the mix is the same from the first second. Time comes from the caller.

A rate far above the population's own squeezes its life: fraud episodes of days then take minutes (time_scale).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ops.simulate.background import Habits, honest_payments
from ops.simulate.cards import (
    BadSimulation,
    SimulatedTransactions,
    check_frauds,
    check_population,
    id_prefix,
)
from ops.simulate.ids import stable_number
from ops.simulate.labels import LabelDelay, Labels, PendingLabels, labels_of
from ops.simulate.payments import Payments
from ops.simulate.population import Population, build_population
from ops.simulate.scenarios import DAY, SCENARIO_NAMES, Scenario, carry_out, chosen_scenarios, plan_episodes

SECOND = 1_000
HIGHEST_RATE = 1_000_000.0
LIVE_LABEL_DELAY = LabelDelay(5_000, 20_000)


@dataclass(frozen=True, slots=True)
class LiveConfig:
    """rate: transactions a second on average; start: epoch milliseconds; run: part of every event_id, None for one
    made of the start. accounts, merchants and seed as in the history that it continues.
    legitimate_share: of the honest payments, how many get a label; below 1 the labelled ones hold too many frauds."""

    start: int
    accounts: int = 10_000
    merchants: int = 1_000
    rate: float = 200.0
    fraud_share: float = 0.01
    scenarios: tuple[str, ...] = SCENARIO_NAMES
    seed: int = 0
    run: str | None = None
    label_delay: LabelDelay = LIVE_LABEL_DELAY
    legitimate_share: float = 1.0

    @property
    def run_name(self) -> str:
        return self.run if self.run is not None else f"live{self.start}"


@dataclass(frozen=True, slots=True)
class LiveBatch:
    """transactions in the order of their time; labels of these and earlier ones, in the order of given_at."""

    transactions: SimulatedTransactions
    labels: Labels


class LiveTraffic:
    """Raises BadSimulation for a config that makes no sense."""

    def __init__(self, config: LiveConfig) -> None:
        check_live(config)
        self.config = config
        self.population = build_population(config.accounts, config.merchants, config.seed)
        self.time_scale = time_scale(self.population, config.rate)
        self._habits = Habits(self.population)
        self._scenarios = chosen_scenarios(config.scenarios)
        self._fraud_share = config.fraud_share if self._scenarios else 0.0
        self._prefix = id_prefix(config.seed, config.run_name)
        self._made_until = config.start
        self._given = 0
        running = [self._episodes_before_start(scenario) for scenario in self._scenarios]
        self._payments = Payments.concatenate([Payments.none(), *running]).in_time_order()
        self._labels = PendingLabels(labels_of(self._numbered(Payments.none()), config.label_delay))

    def until(self, now: int) -> LiveBatch:
        """What is due by `now` (epoch milliseconds) and was not given yet."""
        if self._made_until <= now:
            parts = [self._payments]
            while self._made_until <= now:
                parts += self._next_second()
            self._payments = Payments.concatenate(parts).in_time_order()
        due = int(np.searchsorted(self._payments.occurred_at, now, side="right"))
        transactions = self._numbered(self._payments.take(slice(0, due)))
        self._payments = self._payments.take(slice(due, None))
        self._given += due
        share = self.config.legitimate_share
        self._labels.add(labels_of(transactions, self.config.label_delay, legitimate_share=share))
        return LiveBatch(transactions, self._labels.take_due(now))

    def _next_second(self) -> list[Payments]:
        """The honest payments of one second and the episodes that begin in it."""
        start = self._made_until
        self._made_until += SECOND
        generator = self._generator(1, (start - self.config.start) // SECOND)
        count = int(generator.poisson(self.config.rate * (1 - self._fraud_share)))
        honest = honest_payments(self.population, self._habits, generator, start, start + SECOND, count)
        frauds = [self._episodes_within(scenario, generator, start, SECOND) for scenario in self._scenarios]
        return [honest, *frauds]

    def _episodes_before_start(self, scenario: Scenario) -> Payments:
        """Episodes that could still run at the start: what remains of them."""
        longest = math.ceil(scenario.days[1] * DAY / self.time_scale)
        generator = self._generator(0, SCENARIO_NAMES.index(scenario.name))
        payments = self._episodes_within(scenario, generator, self.config.start - longest, longest)
        return payments.take(payments.occurred_at >= self.config.start)

    def _episodes_within(self, scenario: Scenario, generator: np.random.Generator, start: int, length: int) -> Payments:
        rate = self.config.rate * self._fraud_share / len(self._scenarios) / scenario.mean_size
        count = int(generator.poisson(rate * length / SECOND))
        episodes = plan_episodes(scenario, generator, count, self.time_scale)
        begin = start + generator.integers(0, max(length, 1), count)
        return carry_out(scenario, self.population, generator, episodes, begin)

    def _numbered(self, payments: Payments) -> SimulatedTransactions:
        number = np.arange(self._given, self._given + len(payments))
        return SimulatedTransactions(self.population, payments, number, self._prefix)

    def _generator(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, 4, stable_number(self.config.run_name), *purpose])


def check_live(config: LiveConfig) -> None:
    """Raises BadSimulation."""
    check_population(config.accounts, config.merchants, config.seed, config.run_name)
    check_frauds(config.fraud_share, config.scenarios, 1.0)
    if not 0 < config.rate <= HIGHEST_RATE:
        raise BadSimulation(f"the rate must be above 0 and at most {HIGHEST_RATE:.0f} a second, not {config.rate}")


def time_scale(population: Population, rate: float) -> float:
    """How much faster than its own pace the population lives at this rate; never slower."""
    return max(1.0, rate * (DAY / SECOND) / population.payments_a_day)


def batches(
    traffic: LiveTraffic,
    *,
    clock: Callable[[], float],
    wait: Callable[[float], object],
    interval: float = 0.05,
    stop: Callable[[], bool],
) -> Iterator[LiveBatch]:
    """What is due, every `interval` seconds (clock in epoch seconds), until stop() is true. The pauses follow the
    clock, so a slow consumer makes larger batches, not a lower rate."""
    while not stop():
        began = clock()
        yield traffic.until(math.floor(began * 1000))
        rest = began + interval - clock()
        if rest > 0:
            wait(rest)
