"""A part of a benchmark as a process of its own: how it is started and followed, and what it does to be followed.

On its standard output are JSON lines: {"stage", "done"} as it goes, then {"result"}, or {"failed"} with what is wrong
in one line. Anything else that it prints goes to standard error. Knows no benchmark.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from ops.bench.contestants import CHECKOUT
from ops.bench.measure import BenchmarkFailed

Progress = Callable[[str, float], None]
LOG_CHARACTERS = 500


def run_module(python: Path, module: str, arguments: Sequence[str], name: str, progress: Progress) -> Any:
    """The result of `python -m module` with these arguments; name: for messages. Raises BenchmarkFailed."""
    command = [str(python), "-m", module, *arguments]
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


def followed(work: Callable[[Progress], Any]) -> int:
    """The exit code of such a process whose result `work` makes."""
    out = sys.stdout

    def progress(stage: str, done: float) -> None:
        _tell(out, {"stage": stage, "done": done})

    with contextlib.redirect_stdout(sys.stderr):
        try:
            result = work(progress)
        except BenchmarkFailed as error:
            _tell(out, {"failed": str(error)})
            return 1
    _tell(out, {"result": result})
    return 0


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


def _tell(out: TextIO, what: Mapping[str, object]) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()
