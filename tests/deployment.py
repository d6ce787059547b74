"""The deployment of the fault benchmark (ops/bench/faults), by the name under which tests know it."""

from ops.bench.faults.deployment import CHECKOUT, SESSION_TIMEOUT, Deployment, deployed
from ops.bench.faults.worker_process import NeverHappened, WorkerProcess, wait_until

__all__ = [
    "CHECKOUT",
    "SESSION_TIMEOUT",
    "Deployment",
    "NeverHappened",
    "WorkerProcess",
    "deployed",
    "wait_until",
]
