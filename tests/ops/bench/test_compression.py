"""The benchmark at a small scale, with steps whose time is made up."""

import json
from collections.abc import Sequence

import pytest
import torch

from models.artifact import TrainedDetector
from models.detector import INPUTS
from ops.bench.compression import CompressionBench, run_compression
from ops.bench.products import gru_kinds
from ops.jobs.step_time import StepSeconds
from ops.simulate.order import OrderConfig

pytestmark = pytest.mark.slow

SMALL = OrderConfig(accounts=120, merchants=60, days=20, bursts=8.0, fraud_share=0.4, ordinary_a_day=0.3)


def paced(models: Sequence[TrainedDetector]) -> list[StepSeconds]:
    return [{256: float(model.network.config.hidden), 1024: 1.0} for model in models]


def test_the_proof_says_what_each_method_cost_and_gained() -> None:
    config = CompressionBench(hidden=16, kept=8, epochs=2, data=SMALL, products=(8,), product_rounds=1)
    result = run_compression([1], config, quiet=True, measure=paced)
    assert json.loads(json.dumps(result)) == result
    assert (result["speedup"], result["methods"]["prune"]["speedup"]) == (1.0, {"256": 2.0, "1024": 1.0})
    assert result["ap_lost"] == result["methods"]["prune"]["ap_lost"]
    of_seed = result["seeds"]["1"]
    for method, units in (("prune", 8), ("distil", 8), ("quantise", 16)):
        found = of_seed[method]
        assert found["hidden"] == units
        assert found["ap"] == pytest.approx(of_seed["champion_ap"] - found["ap_lost"])
        assert found["ap_lost_low"] <= found["ap_lost"] <= found["ap_lost_high"]
        assert found["file_bytes"] < of_seed["champion_bytes"]
    assert set(result["product_microseconds"]["8"]) == {"float32", "bfloat16", "int8"}


def test_products_of_every_kind_are_those_of_the_same_step() -> None:
    torch.manual_seed(0)
    steps = gru_kinds(torch.nn.GRUCell(INPUTS, 32))
    x, h = torch.randn(50, INPUTS), torch.tanh(torch.randn(50, 32))
    with torch.inference_mode():
        exact = steps["float32"](x, h)
        for kind in ("bfloat16", "int8"):
            difference = float((steps[kind](x, h) - exact).abs().max())
            assert 1e-5 < difference < 0.03  # they are other numbers, but of the same step
