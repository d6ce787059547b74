"""One detector that is trained for all tests of this folder."""

import pytest

from models.sequences import TrainingConfig
from models.train_detector import TrainingResult, train
from tests.models.synthetic import history


@pytest.fixture(scope="package")
def trained() -> TrainingResult:
    """Trained with the labels of about 12,000 events, of which a few hundred are frauds."""
    past = history(12_000, accounts=300, days=30, seed=2, frauds=0.03)
    config = TrainingConfig(hidden=16, epochs=5, alerts_per_day=10)
    return train(past.labelled, config, lambda stage, share: None)
