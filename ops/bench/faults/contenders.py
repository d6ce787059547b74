"""The models that take turns as champion while faults are injected: small detectors and untrained policies.

They need not be good, only different: what is checked is that each event was scored by the one that was in use.
"""

from collections.abc import Callable

import msgspec
import numpy as np
import torch

from models.events import Events
from models.labels import LabelledHistory
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from models.sequences import TrainingConfig
from models.train_detector import train
from ops.bench.faults.traffic import FRAUD, Traffic

EVENTS, DAYS, FRAUDS = 6_000, 30, 0.03
MILLISECONDS_A_DAY = 86_400_000
Progress = Callable[[str, float], None]


def trained_detector(seed: int, end: int, progress: Progress) -> bytes:
    """A detector's file, learnt from traffic like the load's. end: of its history, epoch milliseconds."""
    events = past_events(end)
    frauds = (events.amount == FRAUD).astype(np.int8)
    config = TrainingConfig(hidden=16, epochs=2, alerts_per_day=5, seed=seed)
    return train(LabelledHistory.matured(events, frauds), config, progress).model.to_bytes()


def past_events(end: int) -> Events:
    """The load's kind of traffic, evenly over the days before `end`."""
    step = DAYS * MILLISECONDS_A_DAY // EVENTS
    fields = [msgspec.json.decode(value) for _, value in Traffic(seed=1, frauds=FRAUDS).batch(EVENTS, 0)]
    columns = {name: [row[name] for row in fields] for name in ("event_id", "account_id", "merchant_id", "amount")}
    times = end - step * np.arange(EVENTS, 0, -1)
    return Events.from_columns(columns | {"occurred_at": times.tolist()})


def untrained_policy(seed: int = 0) -> bytes:
    """Nobody trained it; it prefers some items to others."""
    torch.manual_seed(seed)
    network = PolicyNetwork(PolicyConfig(hidden=8, vector=9))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return TrainedPolicy(network.eval()).to_bytes()
