"""What the load of the fault benchmark consists of: transactions, engagements and items, all seeded.

Messages only; ops/bench/faults/load.py sends them.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from models.item_content import Item

#: Accounts of the history that detectors for it learn from.
ACCOUNTS = 300
#: Far above what anyone pays otherwise.
FRAUD = 9_900.0
ITEMS = [
    Item(
        f"item-{number}", f"thing {number % 17} of kind {number % 5}", category=f"kind-{number % 5}", price=1.0 + number
    )
    for number in range(120)
]
ACTIONS = ("impression", "impression", "click", "like", "dislike", "skip", "dwell", "purchase")


@dataclass(slots=True)
class Traffic:
    """Seeded transactions as a user sends them: (key, value) pairs; about `frauds` of them far above the usual."""

    seed: int = 0
    frauds: float = 0.01
    accounts: int = ACCOUNTS
    prefix: str = "e"
    sent: int = 0

    def batch(self, count: int, now_milliseconds: int) -> list[tuple[bytes, bytes]]:
        draw = np.random.default_rng([self.seed, self.sent])
        account = draw.integers(0, self.accounts, count)
        usual = np.exp(np.random.default_rng(1).normal(3.5, 0.8, self.accounts))
        amount = usual[account] * np.exp(draw.normal(0, 0.3, count))
        amount = np.where(draw.random(count) < self.frauds, FRAUD, np.minimum(amount, 400.0)).round(2)
        merchant = draw.integers(0, 200, count)
        rows = zip(account.tolist(), amount.tolist(), merchant.tolist(), strict=True)
        messages = [
            transaction(f"{self.prefix}{self.sent + row}", f"a{who}", now_milliseconds, value, merchant_id=f"m{where}")
            for row, (who, value, where) in enumerate(rows)
        ]
        self.sent += count
        return messages


def transaction(event_id: str, account_id: str, occurred_at: Any, amount: float, **more: Any) -> tuple[bytes, bytes]:
    """The key and value of one good record."""
    fields = {"event_id": event_id, "occurred_at": occurred_at, "account_id": account_id, "amount": amount}
    return account_id.encode(), msgspec.json.encode(fields | {"merchant_id": "m1"} | more)


@dataclass(slots=True)
class Engagers:
    """Seeded engagements of random users with random items, each event once."""

    users: int = 120
    seed: int = 0
    sent: int = 0
    draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def engagement(self, at: int) -> dict[str, Any]:
        self.sent += 1
        return {
            "event_id": f"engagement-{self.seed}-{self.sent}",
            "occurred_at": at,
            "user_id": f"user-{self.draw.integers(self.users)}",
            "item_id": ITEMS[self.draw.integers(len(ITEMS))].item_id,
            "action": ACTIONS[self.draw.integers(len(ACTIONS))],
        }


def item_message(item: Item) -> tuple[bytes, bytes]:
    """The key and value of an item's record."""
    fields = {name: getattr(item, name) for name in ("item_id", "title", "category", "price", "available")}
    return item.item_id.encode(), msgspec.json.encode(fields)
