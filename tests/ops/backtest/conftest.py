"""Small histories are replayed in few batches."""

from collections.abc import Iterator

import pytest

import models.labels
from models.events import MILLISECONDS_A_DAY
from ops.jobs import backtest


@pytest.fixture(autouse=True, scope="module")
def few_batches() -> Iterator[None]:
    """Labels say something new once a day instead of every hour, which would make a batch of nearly every event of so
    small a history; the threshold twice a day."""
    with pytest.MonkeyPatch.context() as patch:
        for place in (models.labels, backtest):
            patch.setattr(place, "VERSION_INTERVAL", MILLISECONDS_A_DAY)
        patch.setattr(backtest, "THRESHOLD_INTERVAL", MILLISECONDS_A_DAY // 2)
        yield
