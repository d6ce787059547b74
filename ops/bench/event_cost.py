"""What an event costs the thread that scores: decoded, scored and encoded in batches, without services.

Time is read around stretches of batches whose records were made beforehand; all accounts have had an event by then. A
measurement is a process of its own, so that memory and what earlier ones left there play no part. Every event must
come out as one row of `transactions` and one of `predictions`.
"""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import torch

from models.scoring import Scorer
from ops.bench.measure import BenchmarkFailed
from ops.bench.processes import followed, run_module
from ops.bench.record_scoring import RecordScoring, ScoredRecords
from ops.bench.state import TOPIC, untrained
from ops.bench.traffic import Batch, Traffic

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured: accounts in memory, and in turn a stretch of each of `hot_shares` (of events that one account
    has) with each of `memo_shares` (of events with a memo), so many times each. batches: of 8,192 events, in a
    stretch."""

    accounts: int
    hot_shares: Sequence[float] = (0.0,)
    stretches: int = 7
    batches: int = 12
    hidden: int = 64
    memo_shares: Sequence[float] = (0.0,)

    @property
    def kinds(self) -> list[tuple[float, float]]:
        return list(product(self.hot_shares, self.memo_shares))


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds an event takes in one stretch: of the process's CPU, and by the clock."""

    cpu: float
    wall: float


#: The stretches of each kind, in the order in which they were.
Costs = list[list[Cost]]


def median_cost(stretches: Sequence[Cost]) -> Cost:
    return Cost(median(cost.cpu for cost in stretches), median(cost.wall for cost in stretches))


def in_a_process_of_its_own(load: Load, progress: Progress) -> Costs:
    """event_costs of a process that ends with it. Raises BenchmarkFailed."""
    name = f"{load.accounts:,} accounts"
    arguments = [msgspec.json.encode(load).decode()]
    found = run_module(Path(sys.executable), "ops.bench.event_cost", arguments, name, lambda _, done: progress(done))
    return msgspec.convert(found, Costs)


def event_costs(load: Load, progress: Progress) -> Costs:
    """Raises BenchmarkFailed where an event did not come out as it must."""
    torch.set_num_threads(1)
    scorer = Scorer(untrained(load.hidden))
    scoring, traffic = RecordScoring(scorer, TOPIC, "postgresql"), Traffic(load.accounts)
    for batch in traffic.first_events():
        check(_size(batch), scoring.score(batch, _latest(batch)))
        progress(min(0.5, scorer.resident_accounts / load.accounts / 2))
    if scorer.resident_accounts != load.accounts:
        raise BenchmarkFailed(f"{scorer.resident_accounts} accounts are in memory, not {load.accounts}")
    costs: Costs = [[] for _ in load.kinds]
    stretch(scoring, traffic.batches(load.batches, *load.kinds[0]))  # the first one finds caches cold
    for number in range(load.stretches):
        for kind, found in zip(load.kinds, costs, strict=True):
            found.append(stretch(scoring, traffic.batches(load.batches, *kind)))
        progress(0.5 + (number + 1) / load.stretches / 2)
    return costs


def stretch(scoring: RecordScoring, batches: Sequence[Batch]) -> Cost:
    """What the batches cost, one after the other."""
    events, scored_at = sum(map(_size, batches)), [_latest(batch) for batch in batches]
    wall, cpu = time.perf_counter(), time.process_time()
    for batch, at in zip(batches, scored_at, strict=True):
        check(_size(batch), scoring.score(batch, at))  # checked at once, so that its memory is free for the next
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(1e6 * cpu / events, 1e6 * wall / events)


def check(records: int, scored: ScoredRecords) -> None:
    """Raises BenchmarkFailed where not every record has become a row of both tables, with a score."""
    for table in ("transactions", "predictions"):
        rows = sum(part.rows for part in scored.rows if part.table.name == table)
        if rows != records:
            raise BenchmarkFailed(f"{records} records became {rows} rows of {table}")
    if not np.isfinite(scored.scored.score).all():
        raise BenchmarkFailed("a score is no number")


def _size(batch: Batch) -> int:
    return sum(map(len, batch.values()))


def _latest(batch: Batch) -> int:
    """Epoch milliseconds: when the batch's last record was made."""
    return max(part[-1].timestamp for part in batch.values())


def main() -> int:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    gc.freeze()  # as a worker does once it is built
    return followed(
        lambda progress: [[asdict(cost) for cost in part] for part in event_costs(load, partial(progress, ""))]
    )


if __name__ == "__main__":
    sys.exit(main())
