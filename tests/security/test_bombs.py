"""Files that would take more memory than there is are refused before they do (tests/security/bombs.py makes them)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.bombs import BOMBS, BOUNDS

CHECKOUT = Path(__file__).parents[2]
REFUSALS = {
    "detector": "BadModel",
    "policy": "BadModel",
    "segment": "BadArrayFile",
    "cold": "BadState",
}
OTHERWISE = {
    "checkpoint_of_a_long_header": "UnusableCheckpoint",
    "checkpoint_that_is_none": "ValueError",
    "segment_of_texts_that_overlap": "BadState",
    "segment_elsewhere": "SnapshotUnreadable",
    "huge_model": "CorruptModel",
    "huge_manifest": "SnapshotUnreadable",
    "huge_segment": "SnapshotUnreadable",
}


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does"),
]


def tried(folder: Path, *bounds: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.security.bombs", str(folder), *bounds]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each bomb did in a process that could take 768 MiB more than it had."""
    done = tried(tmp_path_factory.mktemp("bombs"))
    assert done.returncode == 0, done.stderr[-3_000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_exhaust_memory_is_refused(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == OTHERWISE.get(name, REFUSALS.get(name.partition("_")[0]))


@pytest.mark.parametrize("bound", BOUNDS)
def test_without_its_bound_a_file_exhausts_memory(tmp_path: Path, bound: str) -> None:
    done = tried(tmp_path, bound)
    if done.returncode == 0:
        assert json.loads(done.stdout.splitlines()[-1]) == {BOUNDS[bound]: "MemoryError"}
    else:  # what is not Python ends the process at once
        assert done.returncode < 0, done.stderr[-3_000:]
