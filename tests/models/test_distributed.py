"""Several processes that train one detector together, as torchrun starts them (CPU, gloo)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from models.distributed import ALONE
from models.sequences import TrainingConfig
from models.train_detector import train
from tests.models.synthetic import history

pytestmark = pytest.mark.slow

HELPERS_END = 120
TRAINING = """
import sys
import safetensors.torch
import torch
from models.distributed import training_processes
from models.sequences import TrainingConfig
from models.train_detector import help_training, train
from tests.models.synthetic import history

torch.set_num_threads(1)
with training_processes() as processes:
    if processes.is_first:
        past = history(6_000, accounts=150, days=30, seed=2, frauds=0.03)
        config = TrainingConfig(hidden=16, epochs=4, patience=9, events_per_batch=256)
        result = train(past.labelled, config, lambda stage, share: None, processes=processes)
        processes.share({})
        detector = result.model.network
        open(sys.argv[1] + "/average_precision", "w").write(str(result.metrics["average_precision"]))
    else:
        detector = help_training(processes)
    safetensors.torch.save_file(detector.state_dict(), f"{sys.argv[1]}/{processes.rank}")
"""


def run_with_torchrun(script: str, folder: Path, processes: int) -> None:
    """The script in so many processes, with the folder as its argument and with this process's packages."""
    written = folder / "training.py"
    written.write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    packages = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = os.environ | {"PYTHONPATH": packages, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(written), str(folder)], env=environment, capture_output=True, text=True, timeout=HELPERS_END
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def test_two_processes_end_with_the_same_weights_as_good_as_those_of_one(tmp_path: Path) -> None:
    run_with_torchrun(TRAINING, tmp_path, 2)

    first, second = (safetensors.torch.load_file(tmp_path / rank) for rank in ("0", "1"))
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name

    past = history(6_000, accounts=150, days=30, seed=2, frauds=0.03)
    config = TrainingConfig(hidden=16, epochs=4, patience=9, events_per_batch=256)
    alone = train(past.labelled, config, lambda stage, share: None)
    together = float((tmp_path / "average_precision").read_text())
    assert together == pytest.approx(alone.metrics["average_precision"], abs=0.05)
    own = alone.model.network.state_dict()
    assert any(not torch.equal(own[name], first[name]) for name in own)  # they did share the batches


def test_a_process_alone_agrees_with_itself() -> None:
    assert ALONE.agreed(0.5) == 0.5
    assert ALONE.share({"a": torch.ones(2)})["a"].tolist() == [1.0, 1.0]
