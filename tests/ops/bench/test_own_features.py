"""The matrix that boosted trees learn from is what the detector sees, when it sees it."""

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pytest

from models.events import MILLISECONDS_A_DAY, Events
from models.feature_schema import FEATURES
from models.labels import LabelledHistory
from models.sequences import TrainingConfig, prepare
from ops.bench.own_features import own_features
from ops.simulate.handbook import HandbookConfig, HandbookTransactions, handbook_transactions

WEEK = timedelta(days=7)


@pytest.fixture(scope="module")
def data() -> HandbookTransactions:
    return handbook_transactions(HandbookConfig(customers=60, terminals=300, days=20, seed=4))


def features_of(data: HandbookTransactions, fraud: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    return own_features(Events.from_columns(data.columns()), fraud, WEEK, lambda stage, share: None)


def test_features_are_those_that_training_reads(data: HandbookTransactions) -> None:
    events = Events.from_columns(data.columns())
    end = int(events.occurred_at[-1])
    history = LabelledHistory.of(events, data.fraud.astype(np.int8), now=end, horizon=WEEK)
    sequences = prepare(history, TrainingConfig(), lambda stage, share: None)
    own = features_of(data, data.fraud)
    # Training sorts by account, so compare the rows as sets.
    read = np.concatenate([sequences.features.numpy(), sequences.known.numpy()], axis=1)
    assert np.array(sorted(own.tolist())) == pytest.approx(np.array(sorted(read.tolist())), abs=1e-5)


def test_a_label_says_nothing_before_a_week_has_passed_and_something_after(data: HandbookTransactions) -> None:
    changed = np.where(data.day == 6, ~data.fraud, data.fraud)
    own, other = features_of(data, data.fraud), features_of(data, changed)
    unknown = data.occurred_at < data.occurred_at[data.day == 6][0] + 7 * MILLISECONDS_A_DAY
    assert (own[unknown] == other[unknown]).all()
    assert (own[:, : len(FEATURES)] == other[:, : len(FEATURES)]).all()
    assert (own[~unknown] != other[~unknown]).any()
