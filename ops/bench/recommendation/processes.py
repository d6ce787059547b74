"""Parts in the benchmark environment, which has packages that this process does not: each is a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.bench.contestants import CHECKOUT
from ops.bench.measure import BenchmarkFailed

Progress = Callable[[str, float], None]
PYTHON = CHECKOUT / ".venv-benchmarks" / "bin" / "python"
LOG_CHARACTERS = 500


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
    command = [str(python), "-m", "ops.bench.recommendation.part", name, json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        try:
            told = _follow(process, progress)
        except BaseException:
            process.kill()
            raise
        if process.wait() == 0 and "result" in told:
            return told["result"]
        log.seek(0)
        last = " ".join(log.read()[-LOG_CHARACTERS:].split())
        raise BenchmarkFailed(f"{name}: {told.get('failed') or f'exit code {process.returncode}: {last}'}")


def _follow(process: "subprocess.Popen[str]", progress: Progress) -> dict[str, Any]:
    """The last line that is not progress; empty where there was none."""
    last: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)
        if "stage" in told:
            progress(told["stage"], told["done"])
        else:
            last = told
    return last
