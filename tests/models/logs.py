"""Small logs of any shape for property tests, ways to cut them into batches, and detectors that nobody trained."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st

from models.artifact import TrainedDetector
from models.calibration import Calibration
from models.detector import Detector, DetectorConfig
from models.engagements import Engagements
from models.events import Events
from models.feature_schema import FEATURES
from tests.models.synthetic import BEGIN, REPORTING_LIMIT

MINUTE = 60_000
Log = TypeVar("Log", Events, Engagements)
FIELDS = ("partition", "number", "account", "merchant", "minute", "amount", "country", "category", "memo")


def log_of(rows: Sequence[dict[str, Any]]) -> Events:
    """Events in log order from what matters of each; the rest is filled in. number: names the event."""
    count = len(rows)
    return Events.from_columns(
        {
            "partition": [row.get("partition", 0) for row in rows],
            "event_id": [f"event-{row.get('number', place)}" for place, row in enumerate(rows)],
            "occurred_at": np.array([BEGIN + row.get("minute", place) * MINUTE for place, row in enumerate(rows)]),
            "account_id": [f"account-{row.get('account', 0)}" for row in rows],
            "merchant_id": [f"merchant-{row.get('merchant', 0)}" for row in rows],
            "amount": [row.get("amount", 10.0) for row in rows],
            "channel": ["online"] * count,
            "country": [row.get("country") for row in rows],
            "category": [row.get("category") for row in rows],
            "memo": [row.get("memo") for row in rows],
        }
    )


def logs(*, most: int = 60, partitions: int = 1) -> st.SearchStrategy[Events]:
    """Logs of few accounts and merchants, with repeated ids, times out of order, and amounts of every size."""
    row = st.tuples(
        st.integers(0, partitions - 1),
        st.integers(0, 40),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(-1_000, 300_000),
        st.one_of(st.integers(0, 5), st.floats(0, 1e7), st.floats(0.7, 1.1).map(lambda share: share * REPORTING_LIMIT)),
        st.sampled_from([None, "DE", "FR"]),
        st.sampled_from([None, "travel"]),
        st.sampled_from([None, "invoice 12", "thank you"]),
    )
    return st.lists(row, max_size=most).map(lambda rows: log_of([dict(zip(FIELDS, r, strict=True)) for r in rows]))


def cut(events: Log, places: Sequence[int]) -> list[Log]:
    """The log in batches that end at the given places; equal and far places make empty batches and none."""
    ends = [*sorted(min(place, len(events)) for place in places), len(events)]
    return [events.take(np.arange(start, stop)) for start, stop in zip([0, *ends], ends, strict=False)]


def one_at_a_time(events: Log) -> list[Log]:
    return cut(events, range(1, len(events)))


def of_partition(events: Log, partition: int) -> Log:
    return events.take(np.flatnonzero(events.partition == partition))


def busy_log(accounts: int = 20, hot: int = 300) -> Events:
    """Some accounts with a few events each, and account-0 with hundreds between them: wide waves, then narrow ones."""
    draw = np.random.default_rng(5)
    account = np.concatenate([np.repeat(np.arange(accounts), 3), np.zeros(hot, int)])
    draw.shuffle(account)
    return log_of(
        [
            {"account": who, "merchant": int(draw.integers(9)), "minute": 7 * place, "amount": 20 * draw.random()}
            for place, who in enumerate(account.tolist())
        ]
    )


def untrained(
    hidden: int = 8, *, seed: int = 3, reporting_limit: float = REPORTING_LIMIT, **changes: Any
) -> TrainedDetector:
    """Random weights, the same in each call with the same seed, that answer differently to each event."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Detector(DetectorConfig(hidden=hidden, head=8, reporting_limit=reporting_limit))
    network.mean_F.copy_(torch.linspace(0, 2, len(FEATURES)))
    network.scale_F.fill_(2.0)
    fields = {
        "network": network.eval(),
        "calibration": Calibration("probability", 0.7, 0.1, ()),
        "threshold": 0.5,
        "surprise_weight": 0.5,
        "surprise_mean": 5.0,
        "surprise_scale": 4.0,
        "notes": {"seed": 3},
    }
    return TrainedDetector(**(fields | changes))


def random_hashes(count: int, seed: int) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def ends_of_head(network: Detector) -> tuple[Any, Any]:
    """The first and the last layer of the supervised head, whose middle passes the first units on from now on."""
    first, middle, last = network.head[0], network.head[2], network.head[4]
    with torch.no_grad():
        middle.weight.copy_(torch.eye(*middle.weight.shape))
        middle.bias.zero_()
    return first, last
