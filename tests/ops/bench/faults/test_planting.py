"""What is planted in workers still finds its place in the product's code; in a process of its own, which it changes."""

import subprocess
import sys

import pytest

from ops.bench.faults.bugs import BUGS
from tests.deployment import CHECKOUT

pytestmark = pytest.mark.slow

PROGRAM = """
from pathlib import Path
import ops.worker
from ops.bench.faults import bugs, moments
for bug in bugs.BUGS:
    bugs.plant(bug, "localhost:9", "")
moments.plant(moments.Moments(Path("nowhere")))
print(len(bugs.BUGS))
"""


def test_moments_and_bugs_can_be_planted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=CHECKOUT, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == len(BUGS)
