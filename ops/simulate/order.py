"""Card payments whose frauds show in nothing but the order of an account's payments.

In a burst of minutes an account makes some small payments and some large ones, the last of them large. In a fraud the
small ones come together right before that last one: they try whether the card works, the large one takes the money
and is what is labelled. In an honest burst large ones come first or between the small ones. Whether a burst is a fraud
is drawn first, then its sizes, times, amounts and merchants, which know nothing of it, and only then the order; so at
the last payment everything that only counts and adds up what came before is distributed alike.

The order decides a little about what decays: within a burst a day's decayed amounts lose 2 % at most. Ordinary
payments around the bursts are independent of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.simulate.cards import DEFAULT_START
from ops.simulate.ids import numbered_texts

MINUTE, DAY = 60_000, 86_400_000
#: Payments of a burst before its last one, from..to inclusive.
SMALL_PAYMENTS, LARGE_PAYMENTS = (3, 4), (2, 4)
#: In an honest burst at most so many small payments follow one another.
HONEST_RUN = 2
BURST_MINUTES = (6.0, 30.0)
SMALL_AMOUNTS = (0.5, 3.0)
#: A large payment is so many times an ordinary one of its account.
LARGE_FACTORS = (1.0, 5.0)
ORDINARY_SPREAD = 0.5

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OrderConfig:
    """bursts: of each account, on average; fraud_share: of the bursts; ordinary_a_day: payments of an account."""

    accounts: int = 4_000
    merchants: int = 500
    days: int = 60
    bursts: float = 3.0
    fraud_share: float = 0.2
    ordinary_a_day: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class OrderTransactions:
    """n payments in the order of time. occurred_at in epoch milliseconds; burst: its number, -1 for an ordinary
    payment; small: whether it is one of the small payments of a burst; fraud: the last payment of a fraud."""

    occurred_at: Ints
    account: Ints
    merchant: Ints
    amount: Floats
    burst: Ints
    small: Flags
    fraud: Flags

    def __len__(self) -> int:
        return len(self.occurred_at)

    def columns(self) -> dict[str, Any]:
        """The contract's fields."""
        return {
            "event_id": numbered_texts("order-", np.arange(len(self))),
            "occurred_at": self.occurred_at,
            "account_id": numbered_texts("account-", self.account),
            "merchant_id": numbered_texts("merchant-", self.merchant),
            "amount": self.amount,
        }


def order_transactions(config: OrderConfig) -> OrderTransactions:
    draw = np.random.default_rng([config.seed, 7])
    usual = np.exp(draw.normal(3.5, 0.6, config.accounts))
    bursts = burst_payments(config, usual, draw)
    ordinary = ordinary_payments(config, usual, draw)
    columns = [np.concatenate(parts) for parts in zip(ordinary, bursts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    occurred_at, account, amount, burst, small, fraud = (column[order] for column in columns)
    merchant = draw.integers(0, config.merchants, len(order))
    return OrderTransactions(occurred_at, account, merchant, amount.round(2), burst, small, fraud)


def burst_payments(config: OrderConfig, usual: Floats, draw: np.random.Generator) -> tuple[npt.NDArray[Any], ...]:
    """Time, account, amount, burst, small and fraud of each payment of a burst."""
    count = draw.poisson(config.bursts * config.accounts)
    is_fraud = draw.random(count) < config.fraud_share
    smalls = draw.integers(SMALL_PAYMENTS[0], SMALL_PAYMENTS[1] + 1, count)
    larges = draw.integers(LARGE_PAYMENTS[0], LARGE_PAYMENTS[1] + 1, count)
    account = draw.integers(0, config.accounts, count)
    duration = draw.uniform(*BURST_MINUTES, count) * MINUTE
    begin = DEFAULT_START + draw.random(count) * (config.days * DAY - duration)
    small = np.concatenate([arrangement(*sizes, draw) for sizes in zip(smalls, larges, is_fraud, strict=True)])
    burst = np.repeat(np.arange(count), smalls + larges + 1)
    last = np.append(np.diff(burst) > 0, True)
    within = np.where(last, 1.0, draw.random(len(burst)))
    within = within[np.lexsort((within, burst))]
    amount = np.where(
        small,
        draw.uniform(*SMALL_AMOUNTS, len(burst)),
        ordinary_amounts(usual[account[burst]], draw) * draw.uniform(*LARGE_FACTORS, len(burst)),
    )
    time = np.floor(begin[burst] + within * duration[burst]).astype(np.int64)
    return time, account[burst], amount, burst, small, last & is_fraud[burst]


def arrangement(smalls: int, larges: int, fraud: bool, draw: np.random.Generator) -> Flags:
    """Which payments of a burst are small, in their order; the last one is large."""
    small = np.concatenate([np.zeros(larges, bool), np.ones(smalls, bool)])
    while not fraud and longest_run(small) > HONEST_RUN:
        small = draw.permutation(small)
    return np.append(small, False)


def longest_run(flags: Flags) -> int:
    """How many true ones follow one another at most."""
    breaks = np.flatnonzero(~np.concatenate([[False], flags, [False]]))
    return int(np.diff(breaks).max()) - 1


def ordinary_payments(config: OrderConfig, usual: Floats, draw: np.random.Generator) -> tuple[npt.NDArray[Any], ...]:
    """As burst_payments."""
    count = draw.poisson(config.ordinary_a_day * config.accounts * config.days)
    account = draw.integers(0, config.accounts, count)
    time = DEFAULT_START + draw.integers(0, config.days * DAY, count)
    nothing = np.zeros(count, bool)
    return time, account, ordinary_amounts(usual[account], draw), np.full(count, -1), nothing, nothing


def ordinary_amounts(usual: Floats, draw: np.random.Generator) -> Floats:
    return usual * np.exp(draw.normal(0, ORDINARY_SPREAD, len(usual)))
