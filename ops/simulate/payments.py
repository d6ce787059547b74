"""Payments as columns of codes: what honest accounts and fraudsters both produce, before anything has an id.

Codes refer to the population's accounts and merchants and to the vocabularies in this file, so a million payments are
a few arrays; texts appear at the edge only (cards.py, output.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Int8s = npt.NDArray[np.int8]
Int16s = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

CHANNELS = ("card_present", "online", "atm", "transfer")
CARD_PRESENT, ONLINE, ATM, TRANSFER = range(4)

#: What people write on transfers. Structuring uses some of the same words: a memo alone proves nothing.
MEMOS = (
    *("rent", "rent and heating", "electricity", "insurance", "school fees", "birthday", "holiday", "car repair"),
    *("dinner last week", "tickets", "savings", "pocket money", "deposit", "club membership", "donation", "garden"),
    *("loan repayment", "consulting", "commission", "advance payment", "goods", "services"),
    *(f"invoice {number}" for number in range(1001, 1101)),
)
#: The first of the memos that business uses, and structuring too.
BUSINESS_MEMOS = MEMOS.index("loan repayment")
NO_MEMO = -1

#: scenario code of an honest payment; frauds have their place in scenarios.SCENARIO_NAMES.
HONEST = -1


@dataclass(frozen=True, slots=True)
class Payments:
    """n payments. occurred_at in epoch milliseconds; account and merchant are places in the population; amounts in
    cents; memo a place in MEMOS or NO_MEMO; scenario a place in SCENARIO_NAMES or HONEST."""

    occurred_at: Int64s
    account: Int32s
    merchant: Int32s
    cents: Int64s
    channel: Int8s
    memo: Int16s
    scenario: Int8s

    def __len__(self) -> int:
        return len(self.occurred_at)

    def take(self, rows: Int64s | npt.NDArray[np.bool_] | slice) -> "Payments":
        return Payments(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def in_time_order(self) -> "Payments":
        return self.take(np.argsort(self.occurred_at, kind="stable"))

    @staticmethod
    def none() -> "Payments":
        kinds: tuple[type[Any], ...] = (np.int64, np.int32, np.int32, np.int64, np.int8, np.int16, np.int8)
        return Payments(*(np.empty(0, kind) for kind in kinds))

    @staticmethod
    def concatenate(parts: Sequence["Payments"]) -> "Payments":
        """At least one part."""
        names = [field.name for field in fields(Payments)]
        return Payments(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
