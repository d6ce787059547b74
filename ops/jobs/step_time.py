"""How long a detector takes for a batch on this machine: what RunningModel.score does, on one thread as in a worker.

Several detectors take turns over the same batches, so that a machine whose pace changes treats all alike, and the
thread's CPU time counts, so that what else runs costs them less. Each event of a batch is another account's, which is
how a step is counted; what they are does not matter for the time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np
import torch

from models.artifact import TrainedDetector
from models.events import Events
from models.features import FeatureBatch, FeatureBuilder
from models.running import RunningModel

BATCHES = (256, 1_024, 8_192)
#: So many that their states do not stay in the processor's caches between two batches.
ACCOUNTS = 40_000
ROUNDS = 15
Clock = Callable[[], float]
#: Seconds for a batch, by its events.
StepSeconds = Mapping[int, float]


def step_seconds(
    models: Sequence[TrainedDetector],
    *,
    sizes: Sequence[int] = BATCHES,
    accounts: int = ACCOUNTS,
    rounds: int = ROUNDS,
    clock: Clock = time.thread_time,
) -> list[StepSeconds]:
    """Of each detector, medians of the rounds after a first one, which warms up. All have the same reporting limit;
    accounts: no fewer than the largest batch has events."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = FeatureBuilder(models[0].network.config.reporting_limit, accounts)
        features.build(events_of(np.arange(accounts), 0))
        running = [RunningModel(model, features, torch.device("cpu"), accounts) for model in models]
        return _timed(running, features, sizes, accounts, rounds, clock)
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _timed(
    running: Sequence[RunningModel],
    features: FeatureBuilder,
    sizes: Sequence[int],
    accounts: int,
    rounds: int,
    clock: Clock,
) -> list[StepSeconds]:
    found: list[dict[int, list[float]]] = [{size: [] for size in sizes} for _ in running]
    draw, first = np.random.default_rng(0), accounts
    for number in range(1 + rounds):
        for size in sizes:
            built = features.build(events_of(draw.permutation(accounts)[:size], first))
            first += size
            for place in np.roll(np.arange(len(running)), number).tolist():
                seconds = _seconds(running[place], built, clock)
                if number:
                    found[place][size].append(seconds)
    return [{size: median(seconds) for size, seconds in of_one.items()} for of_one in found]


def _seconds(running: RunningModel, built: FeatureBatch, clock: Clock) -> float:
    began = clock()
    running.score(built)
    return clock() - began


def events_of(account: np.ndarray[tuple[int], np.dtype[np.int64]], first: int) -> Events:
    """One event a millisecond; first: the number of the first one."""
    number = first + np.arange(len(account))
    return Events.from_columns(
        {
            "event_id": [f"event-{one}" for one in number.tolist()],
            "occurred_at": 1_700_000_000_000 + number,
            "account_id": [f"account-{one}" for one in account.tolist()],
            "merchant_id": [f"merchant-{one % 500}" for one in number.tolist()],
            "amount": 1.0 + number % 97,
            "country": ["DE"] * len(account),
            "category": ["food"] * len(account),
        }
    )
