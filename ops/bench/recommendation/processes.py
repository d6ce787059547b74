"""Parts in the benchmark environment, which has packages that this process does not: each is a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.bench.contestants import CHECKOUT
from ops.bench.measure import BenchmarkFailed
from ops.bench.processes import Progress, run_module

PYTHON = CHECKOUT / ".venv-benchmarks" / "bin" / "python"


def prepare_environment() -> Path:
    """The benchmark environment's Python; built where it is missing or old. Raises BenchmarkFailed."""
    script = CHECKOUT / "ops" / "environment.py"
    if not (CHECKOUT / "constraints-recommendation.txt").exists():
        raise BenchmarkFailed("this benchmark prepares packages of its own, which needs a checkout of Headgate")
    # Says on standard error what it builds, or why it cannot.
    if subprocess.call([sys.executable, "-I", str(script), "--benchmarks"], stdout=sys.stderr) != 0:
        raise BenchmarkFailed(
            "the benchmark environment could not be built; see above, then: make benchmark-environment"
        )
    return PYTHON


def run_part(python: Path, name: str, arguments: Mapping[str, Any], progress: Progress) -> Any:
    """The part's result. Raises BenchmarkFailed."""
    return run_module(python, "ops.bench.recommendation.part", [name, json.dumps(arguments)], name, progress)
