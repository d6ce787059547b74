"""The detector on a GPU: it scores and learns as on the CPU. Skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.distributed import Processes
from models.scoring import Scorer
from models.sequences import TrainingConfig
from models.train_detector import train
from tests.models.logs import busy_log, cut, untrained
from tests.models.synthetic import history
from tests.models.test_distributed import TRAINING, run_with_torchrun

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
CUDA = torch.device("cuda")
#: TF32 stays off; the kernels' order of sums alone tells the devices apart.
TOLERANCE = 1e-4


def test_scores_on_the_gpu_are_those_of_the_cpu() -> None:
    events = busy_log()
    on_cpu, on_gpu = Scorer(untrained()), Scorer(untrained(), device="cuda")
    for batch in cut(events, [5, 40, 200]):
        expected, found = on_cpu.score(batch), on_gpu.score(batch)
        np.testing.assert_allclose(found.score, expected.score, rtol=0, atol=TOLERANCE)
        rows = np.arange(min(5, len(found.score)))
        for told, reasons in zip(on_gpu.explain(found, rows), on_cpu.explain(expected, rows), strict=True):
            assert [reason.feature for reason in told] == [reason.feature for reason in reasons]


def test_training_on_the_gpu_learns_as_much_as_on_the_cpu() -> None:
    past = history(6_000, accounts=150, days=30, seed=2, frauds=0.03).labelled
    config = TrainingConfig(hidden=16, epochs=4, patience=9, events_per_batch=256)
    on_gpu = train(past, config, lambda stage, share: None, processes=Processes(device=CUDA))
    on_cpu = train(past, config, lambda stage, share: None)
    found, expected = (result.metrics["average_precision"] for result in (on_gpu, on_cpu))
    assert found == pytest.approx(expected, abs=0.05)
    assert on_gpu.model.network.device.type == "cpu"  # a registered model is free of the device that made it


def test_torchrun_trains_over_nccl(tmp_path: Path) -> None:
    on_gpu = TRAINING.replace("training_processes()", 'training_processes("cuda")')
    run_with_torchrun(on_gpu, tmp_path, torch.cuda.device_count())
    assert float((tmp_path / "average_precision").read_text()) > 0.3
