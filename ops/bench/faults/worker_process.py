"""One `headgate worker` as a process of its own, driven as its users do: signals, its log, metrics and health.

`wait_until` is how everything here waits: for a condition, with a bound.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

POLL_SECONDS = 0.05
READY_LINE = re.compile(r"metrics=(http://\S+)")

Found = TypeVar("Found")


class NeverHappened(AssertionError):
    """What a test waited for did not come within its bound."""


def wait_until(what: str, condition: Callable[[], Found], seconds: float = 60.0) -> Found:
    """The first truthy result of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NeverHappened(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return found


@dataclass(slots=True)
class WorkerProcess:
    """One `headgate worker` in a process group of its own."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def last_line(self) -> str:
        return (self.output().strip().splitlines() or ["it said nothing"])[-1]

    def ready(self) -> bool:
        """Whether /ready says so; raises when the process has ended."""
        if self.process.poll() is not None:
            raise NeverHappened(f"worker {self.name} ended with {self.process.returncode}:\n{self.output()[-4000:]}")
        found = READY_LINE.search(self.output())
        if found is None:
            return False
        try:
            with urllib.request.urlopen(f"{found[1]}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def wait_ready(self, seconds: float = 90.0) -> "WorkerProcess":
        try:
            wait_until(f"worker {self.name} is ready", self.ready, seconds)
        except NeverHappened as error:
            raise NeverHappened(f"{error}\n{self.output()[-4000:]}") from None
        return self

    def health(self) -> dict[str, Any]:
        found = READY_LINE.search(self.output())
        assert found is not None
        try:
            with urllib.request.urlopen(f"{found[1]}/health", timeout=5) as answer:
                return json.loads(answer.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:  # not ready; the details are there all the same
            with error:
                return json.loads(error.read())  # type: ignore[no-any-return]

    def metrics(self) -> dict[str, float]:
        """Sample with its labels, as in `/metrics` -> its value."""
        found = READY_LINE.search(self.output())
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    def owned(self, topic: str) -> set[int]:
        """The partitions of a topic that the worker says it owns; none while it is not ready."""
        if not self.ready():
            return set()
        health = self.health()
        return {entry["partition"] for entry in health["partitions"] if health["ready"] and entry["topic"] == topic}

    def is_stopped(self) -> bool:
        """Whether it was stopped by SIGSTOP."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def resident_bytes(self) -> int:
        """Of its memory; 0 where it has ended."""
        try:
            status = Path(f"/proc/{self.process.pid}/statm").read_text()
        except FileNotFoundError:
            return 0
        return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole group, as a machine that vanishes."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(seconds)
