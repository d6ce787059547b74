"""The comparison at a small scale: the detector that reads memos finds what the other cannot."""

import json

import pytest

from models.sequences import TrainingConfig
from ops.bench.memos import run_memos
from ops.simulate.memo_payments import MemoConfig

SMALL = MemoConfig(accounts=300, days=40, frauds=0.8)


@pytest.mark.slow
def test_memos_find_frauds_that_show_in_nothing_else() -> None:
    result = run_memos(
        [1],
        quiet=True,
        data=SMALL,
        training=TrainingConfig(hidden=16, epochs=8, events_per_batch=128, learning_rate=1e-2),
    )
    assert json.loads(json.dumps(result)) == result
    assert result["ratio"] == pytest.approx(result["ap_with"] / result["ap_without"])
    assert result["ratio"] > 1.5
    figures = result["seeds"]["1"]
    assert figures["early_ap_without"] < 3 * figures["share"]
    assert figures["early_ap_with"] > 3 * figures["early_ap_without"]
