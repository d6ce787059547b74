"""The comparison at a small scale: the detector sees the order, the trees do not, and both see the same features."""

import json

import numpy as np
import pytest

from models.events import Events
from models.feature_schema import FEATURES
from models.sequences import TrainingConfig
from ops.bench.order import NEVER, last_of_bursts, run_order
from ops.bench.own_features import own_features
from ops.simulate.order import OrderConfig, order_transactions

SMALL = OrderConfig(accounts=300, merchants=60, days=20, bursts=8.0, fraud_share=0.4, ordinary_a_day=0.3)


@pytest.mark.slow
def test_the_detector_finds_what_boosted_trees_cannot() -> None:
    result = run_order([1], quiet=True, data=SMALL, training=TrainingConfig(hidden=24, epochs=6))
    assert json.loads(json.dumps(result)) == result
    assert result["ratio"] == pytest.approx(result["ap"] / result["trees_ap"])
    assert result["ratio"] > 1.3
    figures = result["seeds"]["1"]
    assert figures["last_payments_share"] == pytest.approx(SMALL.fraud_share, abs=0.05)
    assert figures["last_payments_trees_auc"] == pytest.approx(0.5, abs=0.1)
    assert figures["last_payments_auc"] > 0.7


def test_every_burst_has_one_last_payment_and_every_fraud_is_one() -> None:
    payments = order_transactions(SMALL)
    last = last_of_bursts(payments)
    assert last.sum() == len(np.unique(payments.burst)) - 1
    assert last[payments.fraud].all()
    assert not payments.small[last].any()


def test_labels_tell_neither_anything_of_merchants() -> None:
    payments = order_transactions(SMALL)
    events = Events.from_columns(payments.columns())
    features = own_features(events, payments.fraud, NEVER, lambda stage, share: None)
    assert (features[:, len(FEATURES) :] == features[0, len(FEATURES) :]).all()
