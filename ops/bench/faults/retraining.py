"""A thread that runs `headgate retrain --once` again and again while faults come and go, as a scheduled job would.

What it registers and promotes is taken over by the workers like any other model; a pass that fails because a service is
away, or is refused because there is too little to learn from, is followed by the next.
"""

import subprocess
import sys

from ops.bench.faults.beside import Beside
from ops.bench.faults.deployment import Deployment

#: Events older than some seconds count as matured: in a run of an hour nothing gets a week old.
ARGUMENTS = ("retrain", "--once", "--model", "fraud", "--label-horizon-days", "0.0005", "--epochs", "1")


class Retraining(Beside):
    """A pass begins `seconds` after the one before it ended."""

    def __init__(self, deployment: Deployment, seconds: float) -> None:
        super().__init__("retraining", seconds)
        self._deployment = deployment

    def _act(self) -> None:
        log = self._deployment.folder / "retrain.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ops", *ARGUMENTS],
                env=self._deployment.environment(),
                cwd=self._deployment.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            while process.poll() is None:
                if self._stopping.wait(0.2):
                    process.kill()
                    process.wait()
