"""Transfers among which frauds show early in nothing but their memos.

All transfers are drawn alike first. Then some accounts' next transfers become a fraud: nothing of them changes but the
texts, which tell a mule what to do or name a shop that is nearly the real one. A fraud ends with a large transfer, as
honest accounts make them too, with an honest text. Whether a transfer has a memo depends on chance alone, and honest
texts are as many, in as many languages (memo_texts.py). In the last part of the time everybody writes in other words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.simulate.cards import DEFAULT_START
from ops.simulate.ids import numbered_texts
from ops.simulate.memo_texts import MemoWriter
from ops.simulate.order import DAY, ordinary_amounts

#: Transfers with a dishonest text that begin a fraud, from..to inclusive.
EARLY_TRANSFERS = (2, 4)
#: How many times an ordinary amount a large one is, and how many honest ones are large.
LARGE_FACTORS, HONEST_LARGE_SHARE = (3.0, 10.0), 0.02
MEMO_SHARE = 0.8

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MemoConfig:
    """transfers_a_day: of an account; frauds: of each account, on average; later_share: of the time, in which texts are
    worded otherwise."""

    accounts: int = 2_000
    payees: int = 300
    days: int = 60
    transfers_a_day: float = 0.4
    frauds: float = 0.2
    later_share: float = 0.3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MemoTransfers:
    """n transfers in the order of time. occurred_at in epoch milliseconds; early: of a fraud, and not yet its last,
    large one; later: of the part of the time in which texts are worded otherwise."""

    occurred_at: Ints
    account: Ints
    payee: Ints
    amount: npt.NDArray[np.float64]
    memo: list[str | None]
    fraud: Flags
    early: Flags
    later: Flags

    def __len__(self) -> int:
        return len(self.occurred_at)

    def without_memos(self) -> "MemoTransfers":
        return replace(self, memo=[None] * len(self))

    def columns(self) -> dict[str, Any]:
        """The contract's fields."""
        return {
            "event_id": numbered_texts("memo-", np.arange(len(self))),
            "occurred_at": self.occurred_at,
            "account_id": numbered_texts("account-", self.account),
            "merchant_id": numbered_texts("payee-", self.payee),
            "amount": self.amount,
            "channel": ["transfer"] * len(self),
            "memo": self.memo,
        }


def memo_transfers(config: MemoConfig) -> MemoTransfers:
    draw = np.random.default_rng([config.seed, 8])
    count = draw.poisson(config.transfers_a_day * config.accounts * config.days)
    account = np.sort(draw.integers(0, config.accounts, count))
    time = draw.integers(0, config.days * DAY, count)
    time = time[np.lexsort((time, account))]
    early, last = frauds(account, round(config.frauds * config.accounts), draw)
    large = last | (~early & (draw.random(count) < HONEST_LARGE_SHARE))
    amount = ordinary_amounts(np.exp(draw.normal(4.5, 0.6, config.accounts))[account], draw)
    amount *= np.where(large, draw.uniform(*LARGE_FACTORS, count), 1.0)
    order = np.argsort(time, kind="stable")
    time, early = time[order], early[order]
    later = time >= (1 - config.later_share) * config.days * DAY
    return MemoTransfers(
        occurred_at=DEFAULT_START + time,
        account=account[order],
        payee=draw.integers(0, config.payees, count),
        amount=amount[order].round(2),
        memo=list(texts(early, later, draw)),
        fraud=early | last[order],
        early=early,
        later=later,
    )


def frauds(account: Ints, count: int, draw: np.random.Generator) -> tuple[Flags, Flags]:
    """Early and last transfers of about so many frauds; the transfers are sorted by account, then time. A fraud that
    would run into another, or beyond its account's transfers, is left out."""
    early, last = np.zeros(len(account), np.bool_), np.zeros(len(account), np.bool_)
    sizes = draw.integers(EARLY_TRANSFERS[0], EARLY_TRANSFERS[1] + 1, count)
    for first, size in zip(draw.integers(0, len(account), count).tolist(), sizes.tolist(), strict=True):
        whole = slice(first, first + size + 1)
        if first + size >= len(account) or account[first + size] != account[first] or (early | last)[whole].any():
            continue
        early[first : first + size] = True
        last[first + size] = True
    return early, last


def texts(early: Flags, later: Flags, draw: np.random.Generator) -> Iterator[str | None]:
    writers = {is_later: MemoWriter(draw, is_later) for is_later in (False, True)}
    given = draw.random(len(early)) < MEMO_SHARE
    for has_memo, is_early, is_later in zip(given.tolist(), early.tolist(), later.tolist(), strict=True):
        writer = writers[is_later]
        yield (writer.dishonest() if is_early else writer.honest()) if has_memo else None
