"""A server process that Headgate runs itself: start, probe, stop, kill, restart. Knows no particular server.

ops/local_services.py (Kafka, PostgreSQL, Redis) and ops/embedded.py (Tansu, Redis) say which command to run
and how to probe it. The process never outlives its owner: see ops/supervisor.py.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections: a client that retries a stopped
# server's port in that range can end up connected to itself and block the port for the restart.
PORTS = range(15_000, 32_000)
POLL_SECONDS = 0.05


class ServiceUnavailable(RuntimeError):
    """A service can't be had. The message says which, why, and what to do."""


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    for _ in range(200):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ServiceUnavailable(f"no free port between {PORTS.start} and {PORTS.stop} on {LOOPBACK}")


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How to run one server.

    `probe` speaks the server's own protocol and raises while it is not ready. `user` is set when the server
    must not run as root. `environment` is added to the owner's, and never shows on a command line.
    """

    name: str
    arguments: Sequence[str | Path]
    folder: Path
    port: int
    url: str
    probe: Callable[[], None]
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    start_seconds: float = 60.0
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"


@dataclass(slots=True)
class Service:
    """One server process, running from construction by `start_service` until `stop` or `kill`."""

    command: ServerCommand
    pid: int = 0
    _supervisor: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def url(self) -> str:
        """What clients connect with: a URL, or host:port for Kafka."""
        return self.command.url

    @property
    def port(self) -> int:
        return self.command.port

    @property
    def folder(self) -> Path:
        return self.command.folder

    @property
    def running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> None:
        """Start the server, or start it again after `stop` or `kill` (same port, same folder).

        Returns when it answers its own protocol. Raises ServiceUnavailable.
        """
        if self.running:
            raise ServiceUnavailable(f"{self.name} is already running as process {self.pid}")
        supervisor = subprocess.Popen(
            supervised(self.command),
            env={**os.environ, **self.command.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._supervisor = supervisor
        assert supervisor.stdout is not None
        try:
            with supervisor.stdout as first_line:
                self.pid = int(first_line.readline() or 0)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.command.start_seconds
        while True:
            problem = "it does not answer"
            try:
                self.command.probe()
                return
            except Exception as error:  # each protocol has its own kinds; the last one is reported
                problem = str(error) or repr(error)
            if not self.running:
                raise ServiceUnavailable(f"{self.name} ended while starting. {self.end_of_log()}")
            if time.monotonic() > deadline:
                seconds = self.command.start_seconds
                raise ServiceUnavailable(
                    f"{self.name} was not ready in {seconds:.0f} s: {problem}. {self.end_of_log()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ask the server to end, kill it after a bound, and return when it is gone. Twice does no harm."""
        supervisor = self._supervisor
        if supervisor is None:
            return
        assert supervisor.stdin is not None
        try:
            # A byte, not only the closed pipe: a forked child of the owner may hold the pipe open too.
            supervisor.stdin.write(b"s")
            supervisor.stdin.close()
        except BrokenPipeError:
            pass  # the server ended by itself, and the supervisor with it
        try:
            supervisor.wait(self.command.stop_seconds + 5)
        except subprocess.TimeoutExpired:
            supervisor.kill()  # the kernel then kills the server
            supervisor.wait()
        self._supervisor = None

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def end_of_log(self, lines: int = 8) -> str:
        if not self.command.log.exists():
            return ""
        text = self.command.log.read_text(errors="replace").strip().splitlines()
        return f"Last lines of its log ({self.command.log}):\n" + "\n".join(text[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def start_service(command: ServerCommand) -> Service:
    """Start a server; returns when it is ready."""
    service = Service(command)
    service.start()
    return service


def this_program() -> list[str]:
    """The beginning of a command line that runs `headgate` as a process of its own, with this very Python."""
    return [sys.executable, "-m", "ops"]


def supervised(command: ServerCommand) -> list[str]:
    """The command line that runs a server under ops/supervisor.py."""
    script = Path(__file__).with_name("supervisor.py")
    line = [
        sys.executable,
        "-I",
        "-S",
        str(script),
        "--log",
        str(command.log),
        "--folder",
        str(command.folder),
    ]
    line += ["--stop-signal", str(int(command.stop_signal)), "--grace", str(command.stop_seconds)]
    if command.user:
        line += ["--user", command.user]
    return [*line, "--", *map(str, command.arguments)]
