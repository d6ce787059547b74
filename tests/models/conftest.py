"""One detector that is trained for all tests of this folder. Hypothesis without deadlines, and torch with one thread:
how long an example takes says nothing on a machine that others share, and threads that wait for each other are slow."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from models.train_detector import TrainingConfig, TrainingResult, train
from tests.models.synthetic import history

settings.register_profile("without-deadlines", deadline=None)
settings.load_profile("without-deadlines")


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def trained() -> TrainingResult:
    """Trained with the labels of about 12,000 events, of which a few hundred are frauds."""
    past = history(12_000, accounts=300, days=30, seed=2, frauds=0.03)
    config = TrainingConfig(hidden=16, epochs=5, alerts_per_day=10)
    return train(past.events, past.labels, config, lambda stage, share: None)
