"""A small detector trained once per session, and traffic with frauds that it is sure to see."""

from models.compress import Pupils
from models.sequences import TrainingConfig
from models.train_detector import train, untaught
from ops.bench.faults.traffic import ACCOUNTS, Traffic, transaction
from tests.models.synthetic import history

__all__ = ["Traffic", "small_detector", "transaction"]


def small_detector(hidden: int = 16, seed: int = 0, pupil: Pupils = untaught) -> bytes:
    past = history(6_000, accounts=ACCOUNTS, days=30, seed=1, frauds=0.03)
    config = TrainingConfig(hidden=hidden, epochs=2, alerts_per_day=5, seed=seed)
    return train(past.labelled, config, lambda stage, done: None, pupil=pupil).model.to_bytes()
