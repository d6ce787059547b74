"""A small detector trained once per session, and traffic with frauds that it is sure to see."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from models.sequences import TrainingConfig
from models.train_detector import train
from tests.models.synthetic import history

ACCOUNTS = 300


def small_detector(hidden: int = 16, seed: int = 0) -> bytes:
    past = history(6_000, accounts=ACCOUNTS, days=30, seed=1, frauds=0.03)
    config = TrainingConfig(hidden=hidden, epochs=2, alerts_per_day=5, seed=seed)
    return train(past.labelled, config, lambda stage, done: None).model.to_bytes()


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
        amount = np.where(draw.random(count) < self.frauds, 9_900.0, np.minimum(amount, 400.0)).round(2)
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
