"""The card transactions of the Fraud Detection Handbook, generated from its published description with any seed.

Le Borgne, Siblini, Lebichot and Bontempi: Reproducible Machine Learning for Credit Card Fraud Detection - Practical
Handbook (2022), chapter 3. Customers and terminals lie on a map; a customer pays at terminals near by, amounts and
times follow his means. Fraud: every large amount; every payment at a compromised terminal; some payments of a
compromised customer, with multiplied amounts.

The order of events within an account carries no information here: payments are independent given the account.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ops.simulate.ids import numbered_texts
from ops.simulate.output import TIME, check_path, write_table

DAY = 86_400_000
#: 2018-04-01, UTC, in epoch milliseconds: the first day.
FIRST_DAY = 1_522_540_800_000
MAP_SIZE, RADIUS = 100.0, 5.0
MIDDAY_SECONDS, TIME_DEVIATION = 43_200.0, 20_000.0
LARGE_AMOUNT = 220.0
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14
MULTIPLIED_SHARE, MULTIPLIER = 1 / 3, 5.0
#: Customers whose distances to all terminals are computed at once.
CUSTOMERS_AT_ONCE = 500

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HandbookConfig:
    """The sizes of the published data unless told otherwise."""

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HandbookTransactions:
    """n transactions in the order of their time. day: whole days since the first; scenario: 0 legitimate, 1 large
    amount, 2 compromised terminal, 3 compromised customer."""

    seconds: Ints
    customer: Ints
    terminal: Ints
    amount: npt.NDArray[np.float64]
    scenario: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def day(self) -> Ints:
        return self.seconds // 86_400

    @property
    def occurred_at(self) -> Ints:
        """Epoch milliseconds."""
        return FIRST_DAY + self.seconds * 1000

    @property
    def fraud(self) -> npt.NDArray[np.bool_]:
        frauds: npt.NDArray[np.bool_] = self.scenario > 0
        return frauds

    @property
    def event_ids(self) -> list[str]:
        return numbered_texts("handbook-", np.arange(len(self)))

    def until_day(self, day: int) -> "HandbookTransactions":
        """Those of the days before."""
        count = int(np.searchsorted(self.day, day))
        return HandbookTransactions(**{field.name: getattr(self, field.name)[:count] for field in fields(self)})

    def columns(self) -> dict[str, Any]:
        """The contract's fields."""
        return {
            "event_id": self.event_ids,
            "occurred_at": self.occurred_at,
            "account_id": numbered_texts("customer-", self.customer),
            "merchant_id": numbered_texts("terminal-", self.terminal),
            "amount": self.amount,
        }


def handbook_transactions(config: HandbookConfig) -> HandbookTransactions:
    draw = np.random.default_rng([config.seed, 5])
    mean_amount = draw.uniform(5, 100, config.customers)
    daily = draw.uniform(0, 4, config.customers)
    near, first = terminals_near(config, draw)
    available = np.diff(first)
    counts = draw.poisson(daily[:, None], (config.customers, config.days)) * (available > 0)[:, None]
    place = np.repeat(np.arange(counts.size), counts.ravel())
    customer, day = np.divmod(place, config.days)
    time = draw.normal(MIDDAY_SECONDS, TIME_DEVIATION, len(place)).astype(np.int64)
    same_day = (time > 0) & (time < 86_400)
    customer, day, time = customer[same_day], day[same_day], time[same_day]
    amount = draw.normal(mean_amount[customer], mean_amount[customer] / 2)
    amount = np.where(amount < 0, draw.uniform(0, 2 * mean_amount[customer]), amount).round(2)
    terminal = near[first[customer] + (draw.random(len(customer)) * available[customer]).astype(np.int64)]
    seconds = day * 86_400 + time
    order = np.argsort(seconds, kind="stable")
    return with_frauds(seconds[order], customer[order], terminal[order], amount[order], config, draw)


def write_handbook(transactions: Path, labels: Path, config: HandbookConfig) -> HandbookTransactions:
    """Both files in the contract's columns, CSV or Parquet by suffix; the labels are the frauds. Raises BadSimulation,
    OSError."""
    for path in (transactions, labels):
        check_path(path)
    data = handbook_transactions(config)
    columns = data.columns()
    times = pa.array(columns.pop("occurred_at"), pa.timestamp("ms")).cast(TIME)
    write_table(transactions, pa.table({**columns, "occurred_at": times}))
    frauds = np.flatnonzero(data.fraud)
    event_ids = data.event_ids
    write_table(labels, pa.table({"event_id": [event_ids[row] for row in frauds], "label": ["fraud"] * len(frauds)}))
    return data


def terminals_near(config: HandbookConfig, draw: np.random.Generator) -> tuple[Ints, Ints]:
    """near[first[c]:first[c + 1]]: the terminals within the radius of customer c, which may be none."""
    customers, terminals = (draw.uniform(0, MAP_SIZE, (count, 2)) for count in (config.customers, config.terminals))
    near, counts = [], []
    for start in range(0, config.customers, CUSTOMERS_AT_ONCE):
        some = customers[start : start + CUSTOMERS_AT_ONCE]
        inside = ((some[:, None, :] - terminals[None]) ** 2).sum(2) < RADIUS**2
        near.append(np.nonzero(inside)[1])
        counts.append(inside.sum(1))
    return np.concatenate(near), np.concatenate([[0], np.cumsum(np.concatenate(counts))])


def with_frauds(
    seconds: Ints,
    customer: Ints,
    terminal: Ints,
    amount: npt.NDArray[np.float64],
    config: HandbookConfig,
    draw: np.random.Generator,
) -> HandbookTransactions:
    """Marks the frauds; a compromised customer's amounts are multiplied, again where he is compromised twice."""
    day = seconds // 86_400
    scenario = np.where(amount > LARGE_AMOUNT, 1, 0).astype(np.int8)
    amount = amount.copy()
    day_start = np.searchsorted(day, np.arange(config.days + max(TERMINAL_DAYS, CUSTOMER_DAYS) + 1))
    for today in range(config.days):
        compromised = draw.choice(config.terminals, TERMINALS_A_DAY, replace=False)
        window = slice(day_start[today], day_start[today + TERMINAL_DAYS])
        scenario[window][np.isin(terminal[window], compromised)] = 2
    for today in range(config.days):
        compromised = draw.choice(config.customers, CUSTOMERS_A_DAY, replace=False)
        window = slice(day_start[today], day_start[today + CUSTOMER_DAYS])
        own = window.start + np.flatnonzero(np.isin(customer[window], compromised))
        chosen = draw.choice(own, int(len(own) * MULTIPLIED_SHARE), replace=False)
        amount[chosen] *= MULTIPLIER
        scenario[chosen] = 3
    return HandbookTransactions(seconds, customer, terminal, amount.round(2), scenario)
