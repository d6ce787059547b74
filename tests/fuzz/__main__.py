"""`make fuzz`: the fuzz targets for as long as is asked for each, steered by coverage (atheris), with a table of what
came of it and a file for each input that broke a law. Needs the environment that the Makefile prepares.

    python -m tests.fuzz --for SECONDS [--json]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

INSTRUMENTED = ["streams", "models.pictures", "ops.dashboard", "storage", "PIL", "fastapi", "starlette"]
SEEDS, SEED_BYTES, MOST_BYTES = 64, 1_500, 8_192
NAMES = ("transactions", "engagements", "items", "feedback", "pictures", "api")
#: How often a target's counts are written, so that they outlive however it ends.
WRITTEN_EVERY = 50
#: Beside its own time, for imports.
PATIENCE_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--for", dest="seconds", type=int, default=60, help="seconds for each target")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--target", choices=NAMES, help="(one target, in this process)")
    parser.add_argument("--output", type=Path, default=Path("fuzz-findings"), help="folder for inputs that broke a law")
    given = parser.parse_args()
    given.output.mkdir(exist_ok=True)
    if given.target is not None:
        run_target(given.target, given.seconds, given.output)
        return 0
    found = {name: in_process(name, given.seconds, given.output) for name in NAMES}
    for name, result in found.items():
        outcomes = ", ".join(f"{outcome} {count:,}" for outcome, count in sorted(result["outcomes"].items()))
        print(f"{name:13} {result['inputs']:>9,} inputs  {len(result['broken'])} broken laws  {outcomes}")
    if given.json:
        print(json.dumps(found))
    return 1 if any(result["broken"] for result in found.values()) else 0


def in_process(name: str, seconds: int, output: Path) -> dict[str, Any]:
    """A process for each: the fuzzer ends its own."""
    command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--for", str(seconds), "--output", str(output)]
    report = output / f"{name}.json"
    for earlier in (report, *output.glob(f"{name}-*.bytes")):
        earlier.unlink(missing_ok=True)
    with (output / f"{name}.log").open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, timeout=seconds + PATIENCE_SECONDS, check=False)
    if not report.exists():
        raise SystemExit(f"the target {name} ended with {ended.returncode} before it began; see {log.name}")
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def run_target(name: str, seconds: int, output: Path) -> None:
    """Returns for the API alone: else the fuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED), ExitStack() as opened:
        target, outcomes = made(name, opened)
        kept = opened.pop_all()  # until the fuzzer ends the process
    run = Run(name, output, outcomes, kept)
    if name == "api":  # answered on another thread, of which the fuzzer sees nothing
        run.blindly(target, seconds)
        kept.close()
        return
    with tempfile.TemporaryDirectory() as corpus:
        generator = random.Random(0)
        for number in range(SEEDS):
            (Path(corpus) / str(number)).write_bytes(generator.randbytes(SEED_BYTES))
        options = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES}", "-len_control=0", "-timeout=30", corpus]
        atheris.Setup([sys.argv[0], *options], lambda data: run.once(target, data))
        atheris.Fuzz()


def made(name: str, opened: ExitStack) -> tuple[Any, "Counter[str]"]:
    """A function of bytes, and the counts of its outcomes."""
    from hypothesis import settings

    settings.register_profile("fuzz", deadline=None)
    settings.load_profile("fuzz")
    if name == "api":
        from tests.fuzz.api import api_target, console

        counts: Counter[str] = Counter()
        folder = Path(tempfile.mkdtemp())
        return api_target(opened.enter_context(console(folder)), counts).hypothesis.fuzz_one_input, counts  # type: ignore[attr-defined]
    from tests.fuzz.targets import OUTCOMES, TARGETS

    return TARGETS[name].hypothesis.fuzz_one_input, OUTCOMES[name]  # type: ignore[attr-defined]


class Run:
    """Goes on after a broken law, and keeps one input of each kind."""

    def __init__(self, name: str, output: Path, outcomes: "Counter[str]", kept: ExitStack) -> None:
        self._name, self._output, self._outcomes, self._kept = name, output, outcomes, kept
        self._broken: dict[str, str] = {}
        self._failures = 0
        self._calls = 0
        self._began = time.monotonic()
        self._write()

    def once(self, target: Any, data: bytes) -> None:
        self._calls += 1
        try:
            target(data)
        except BaseException as error:
            self._found(error, data)
        if self._calls % WRITTEN_EVERY == 0:
            self._write()

    def blindly(self, target: Any, seconds: float) -> None:
        generator = random.Random(0)
        while time.monotonic() - self._began < seconds:
            self.once(target, generator.randbytes(SEED_BYTES))
        self._write()

    def _found(self, error: BaseException, data: bytes) -> None:
        self._failures += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        if kind not in self._broken:
            self._broken[kind] = repr(error)[:300]
            (self._output / f"{self._name}-{len(self._broken)}.bytes").write_bytes(data)
            traceback.print_exception(error)
            self._write()

    def _write(self) -> None:
        report = {
            "inputs": self._outcomes.total() + self._failures,
            "outcomes": dict(self._outcomes),
            "broken": self._broken,
            "seconds": round(time.monotonic() - self._began, 1),
        }
        unfinished = self._output / f"{self._name}.unfinished"
        unfinished.write_text(json.dumps(report))
        os.replace(unfinished, self._output / f"{self._name}.json")


if __name__ == "__main__":
    sys.exit(main())
