"""The service as a contestant of `headgate bench detection`: its scores out of `headgate backtest`'s replay."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from models.events import Events
from ops.bench.handbook_protocol import DELAY_DAYS, FOLDS, TEST_DAYS
from ops.jobs.backtest import BacktestOptions, backtest
from ops.jobs.challenge import RetrainingRules
from ops.simulate.handbook import HandbookTransactions

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]


def service_scores(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """Everything that happened is replayed, and what was known by a fold's first test day trains and proves the model
    that scores the fold. The published features play no part."""
    return replayed(data, options(), progress)


def unlabelled_service_scores(data: HandbookTransactions, features: Floats, progress: Progress) -> Floats:
    """The same where no label ever comes."""
    return replayed(data, options(), progress, labelled=False)


def replayed(
    data: HandbookTransactions, options: BacktestOptions, progress: Progress, *, labelled: bool = True
) -> Floats:
    """float64[n], NaN before the first model."""
    fraud = data.fraud if labelled else None
    return backtest(Events.from_columns(data.columns()), fraud, options, progress).score


def options() -> BacktestOptions:
    """A training at the beginning of each fold's test days."""
    return BacktestOptions(
        retrain_every=timedelta(days=TEST_DAYS),
        retrain_from=timedelta(days=FOLDS[0].test_day),
        rules=RetrainingRules(label_horizon=timedelta(days=DELAY_DAYS)),
    )
