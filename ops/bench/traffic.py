"""Records of numbered accounts for benchmarks without Kafka: evenly spread, or with one account that has a large share.

Pure: the same numbers give the same records. Knows neither what is done with them nor how long that takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from ops.bench.payment_memos import payment_memos
from ops.bench.state import BATCH, PARTITIONS, events_of
from ops.simulate.messages import TransactionMessage
from streams.reading import FetchedRecord

#: The account that has the large share.
HOT_ACCOUNT = 0
#: One batch: records by partition, each partition's in offset order.
Batch = Mapping[int, Sequence[FetchedRecord]]

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Traffic:
    """Batches of at most 8,192 records over 4 partitions; each event is later than the one before it."""

    accounts: int
    _sent: int = 0
    _draw: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def first_events(self) -> Iterator[Batch]:
        """One event of each account."""
        for first in range(0, self.accounts, BATCH):
            yield self._next(np.arange(first, min(first + BATCH, self.accounts)))

    def batches(self, count: int, hot_share: float, memo_share: float = 0.0) -> list[Batch]:
        """So many full batches."""
        accounts = (drawn_accounts(self._draw, self.accounts, BATCH, hot_share) for _ in range(count))
        return [self._next(account, memo_share) for account in accounts]

    def _next(self, account: npt.NDArray[np.int64], memo_share: float = 0.0) -> Batch:
        batch = records_of(self._sent, account, memo_share)
        self._sent += len(account)
        return batch


def drawn_accounts(draw: np.random.Generator, accounts: int, count: int, hot_share: float) -> npt.NDArray[np.int64]:
    """int64[count]: numbers of accounts, the hot one with this share beside its even one."""
    evenly = draw.integers(0, accounts, count)
    return np.where(draw.random(count) < hot_share, HOT_ACCOUNT, evenly)


def records_of(first: int, account: npt.NDArray[np.int64], memo_share: float = 0.0) -> Batch:
    """Of accounts by their numbers; first: the number of the first event, all partitions counting together;
    memo_share: of events with a memo."""
    events = events_of(first, account)
    records: dict[int, list[FetchedRecord]] = {partition: [] for partition in range(PARTITIONS)}
    rows = zip(
        events.partition.tolist(),
        events.offset.tolist(),
        events.event_id,
        events.occurred_at.tolist(),
        events.account_id,
        events.merchant_id,
        events.amount.tolist(),
        events.channel,
        events.country,
        events.category,
        payment_memos(np.random.default_rng([first, 1]), len(account), memo_share),
        strict=True,
    )
    for partition, offset, event_id, at, account_id, merchant_id, amount, channel, country, category, memo in rows:
        message = TransactionMessage(
            event_id, at, account_id, merchant_id, amount, "EUR", channel, country, category, memo
        )
        records[partition].append(FetchedRecord(offset, at, account_id.encode(), _encode(message)))
    return {partition: own for partition, own in records.items() if own}
