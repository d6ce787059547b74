"""A history of card payments: honest ones, frauds in episodes, one order in time. The same config, the same bytes.

simulate() joins what background.py and scenarios.py produce and numbers it; SimulatedTransactions gives it out as
columns of texts. Ids carry the seed and the run, so that two runs never share one; their order is that of time, so
that they tell nothing of fraud.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.simulate.background import Habits, honest_payments
from ops.simulate.ids import numbered_texts, stable_number
from ops.simulate.payments import CHANNELS, HONEST, MEMOS, Floats, Int8s, Int64s, Payments
from ops.simulate.population import CATEGORIES, CATEGORY_NAMES, COUNTRIES, Population, build_population
from ops.simulate.scenarios import DAY, SCENARIO_NAMES, chosen_scenarios, frauds_within
from streams.contract import MAX_EPOCH_MILLISECONDS

CURRENCY = "EUR"
#: 1 January 2026, UTC: where a history starts when nobody says so.
DEFAULT_START = 1_767_225_600_000
MOST_PAYMENTS = 100_000_000
#: As many as their ids have digits for, and memory room.
MOST_ACCOUNTS, MOST_MERCHANTS = 10_000_000, 1_000_000
RUN_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")

Progress = Callable[[str, float], None]


class BadSimulation(ValueError):
    """This simulation cannot be made; the message says which option to change."""


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """start, end: epoch milliseconds, payments lie in [start, end). events: None for as many as the accounts' rates
    make. run: part of every event_id. time_scale: days of fraud that pass in one day, for short spans."""

    accounts: int = 10_000
    merchants: int = 1_000
    start: int = DEFAULT_START
    end: int = DEFAULT_START + 30 * DAY
    events: int | None = None
    fraud_share: float = 0.01
    scenarios: tuple[str, ...] = SCENARIO_NAMES
    seed: int = 0
    run: str = "1"
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class SimulatedTransactions:
    """n transactions in the order of their time; number: of each in its run, which names its event."""

    population: Population
    payments: Payments
    number: Int64s
    id_prefix: str

    def __len__(self) -> int:
        return len(self.payments)

    @property
    def occurred_at(self) -> Int64s:
        """Epoch milliseconds."""
        return self.payments.occurred_at

    @property
    def fraud(self) -> npt.NDArray[np.bool_]:
        frauds: npt.NDArray[np.bool_] = self.payments.scenario != HONEST
        return frauds

    @property
    def amount(self) -> Floats:
        """Euros, whole cents."""
        return self.payments.cents / 100

    @property
    def category(self) -> Int8s:
        return self.population.merchant_category[self.payments.merchant]

    @property
    def country(self) -> Int8s:
        return self.population.merchant_country[self.payments.merchant]

    def event_ids(self) -> list[str]:
        return numbered_texts(self.id_prefix, self.number)

    def scenario_names(self) -> list[str | None]:
        """None for an honest payment."""
        return texts((*SCENARIO_NAMES, None), self.payments.scenario)

    def rows(self, chosen: slice) -> "SimulatedTransactions":
        return SimulatedTransactions(self.population, self.payments.take(chosen), self.number[chosen], self.id_prefix)

    def columns(self) -> dict[str, Any]:
        """The contract's fields; numbers as arrays (occurred_at in epoch milliseconds), texts as lists."""
        payments, people = self.payments, self.population
        return {
            "event_id": self.event_ids(),
            "occurred_at": payments.occurred_at,
            "account_id": texts(people.account_ids, payments.account),
            "merchant_id": texts(people.merchant_ids, payments.merchant),
            "amount": self.amount,
            "currency": [CURRENCY] * len(self),
            "channel": texts(CHANNELS, payments.channel),
            "country": texts(COUNTRIES, self.country),
            "category": texts(CATEGORY_NAMES, self.category),
            "memo": texts((*MEMOS, None), payments.memo),
        }


def simulate(config: SimulationConfig, progress: Progress | None = None) -> SimulatedTransactions:
    """Raises BadSimulation. round(events * fraud_share) of the payments are frauds, shared evenly by the scenarios,
    and at least one of each scenario; none with fraud_share 0 or without scenarios."""
    check(config)
    tell = progress or (lambda stage, share: None)
    tell("simulate", 0.0)
    population = build_population(config.accounts, config.merchants, config.seed)
    generator = np.random.default_rng([config.seed, 2, stable_number(config.run)])
    count = number_of_payments(config, population, generator)
    quotas = fraud_quotas(config, count)
    parts = [
        frauds_within(scenario, population, generator, config.start, config.end, quota, config.time_scale)
        for scenario, quota in zip(chosen_scenarios(config.scenarios), quotas, strict=True)
    ]
    honest = count - sum(quotas)
    tell("simulate", 0.2)
    parts.append(honest_payments(population, Habits(population), generator, config.start, config.end, honest))
    tell("simulate", 0.7)
    payments = Payments.concatenate(parts).in_time_order()
    tell("simulate", 1.0)
    return SimulatedTransactions(population, payments, np.arange(count), id_prefix(config.seed, config.run))


def check(config: SimulationConfig) -> None:
    check_population(config.accounts, config.merchants, config.seed, config.run)
    check_frauds(config.fraud_share, config.scenarios, config.time_scale)
    if config.end <= config.start:
        raise BadSimulation("the end must be later than the start")
    if config.start < 0 or config.end > MAX_EPOCH_MILLISECONDS:
        raise BadSimulation("the start must not be before 1970, nor the end after the year 9999")
    if config.events is not None and not 0 <= config.events <= MOST_PAYMENTS:
        raise BadSimulation(f"events must be between 0 and {MOST_PAYMENTS}, not {config.events}")


def check_population(accounts: int, merchants: int, seed: int, run: str) -> None:
    if not 1 <= accounts <= MOST_ACCOUNTS:
        raise BadSimulation(f"accounts must be between 1 and {MOST_ACCOUNTS}, not {accounts}")
    if not len(CATEGORIES) <= merchants <= MOST_MERCHANTS:
        least = f"{len(CATEGORIES)}, one per category,"
        raise BadSimulation(f"merchants must be between {least} and {MOST_MERCHANTS}, not {merchants}")
    if seed < 0:
        raise BadSimulation(f"the seed must not be negative, not {seed}")
    if not RUN_NAME.fullmatch(run):
        raise BadSimulation(f"the run's name must be 1 to 60 letters, digits, dots, dashes or underscores, not {run!r}")


def check_frauds(share: float, scenarios: tuple[str, ...], time_scale: float) -> None:
    unknown = [name for name in scenarios if name not in SCENARIO_NAMES]
    if unknown:
        raise BadSimulation(f"no scenario is called {', '.join(unknown)}; there are {', '.join(SCENARIO_NAMES)}")
    if not 0 <= share <= 0.5:
        raise BadSimulation(f"the share of frauds must be between 0 and 0.5, not {share}")
    if not 0 < time_scale < float("inf"):
        raise BadSimulation(f"the time scale must be above 0, not {time_scale}")


def number_of_payments(config: SimulationConfig, population: Population, generator: np.random.Generator) -> int:
    if config.events is not None:
        return config.events
    expected = population.payments_a_day * (config.end - config.start) / DAY
    if expected > MOST_PAYMENTS:
        raise BadSimulation(f"{expected:.3g} events are too many; take fewer accounts or days, or give events")
    return int(generator.poisson(expected))


def fraud_quotas(config: SimulationConfig, count: int) -> list[int]:
    """How many payments each chosen scenario makes."""
    scenarios = len(chosen_scenarios(config.scenarios))
    if config.fraud_share == 0 or scenarios == 0:
        return [0] * scenarios
    frauds = min(max(round(count * config.fraud_share), scenarios), count)
    return [frauds // scenarios + (place < frauds % scenarios) for place in range(scenarios)]


def id_prefix(seed: int, run: str) -> str:
    return f"sim-{seed}-{run}-"


def texts(names: tuple[str | None, ...], codes: npt.NDArray[Any]) -> list[Any]:
    """names[code] of each; -1 is the last name."""
    found: list[Any] = np.array(names, object)[codes].tolist()
    return found
