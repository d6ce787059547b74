"""Apache Kafka, PostgreSQL and Redis as processes on this machine, for tests, benchmarks and the demo.

Kafka runs from the jars that ops/kafka/pom.xml names (Maven puts them into the user's cache folder, Java runs
them); PostgreSQL and Redis come from the system's packages. Everything listens on loopback only, on a free
port, and ends with the process that started it. No real deployment uses this module.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import redis
from confluent_kafka.admin import AdminClient

from ops.service import LOOPBACK, ServerCommand, Service, ServiceUnavailable, free_port, start_service

KAFKA_POM = Path(__file__).with_name("kafka") / "pom.xml"
KAFKA_PROPERTIES = Path(__file__).with_name("kafka") / "server.properties"
PROBE_SECONDS = 2


# Kafka


def start_kafka(
    folder: Path,
    *,
    port: int | None = None,
    heap: str = "768m",
    properties: Mapping[str, str] | None = None,
    java_options: Sequence[str] = (),
) -> Service:
    """One Kafka node (broker and controller, KRaft) with its log in `folder`; an existing log goes on. properties: of
    the server, besides or in place of ours; the listener without TLS at `port` has to stay."""
    java = needed_program("java", "Kafka", "apt-get install openjdk-17-jre-headless")
    classpath = f"{kafka_jars()}/*"
    port = port or free_port()
    file = write_kafka_properties(folder, port, properties or {})
    if not (folder / "log" / "meta.properties").exists():
        format_command = [
            java,
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            classpath,
            "kafka.tools.StorageTool",
        ]
        # "k" in front, because an id that begins with "-" would be taken for an option: one in 64 does.
        cluster_id = "k" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("=")
        run_to_its_end("Kafka", [*format_command, "format", "-t", cluster_id, "-c", str(file)])
    memory = [*java_options, "-Xms256m", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]
    url = f"{LOOPBACK}:{port}"
    arguments = [java, *memory, "-cp", classpath, "kafka.Kafka", str(file)]
    return start_service(ServerCommand("kafka", arguments, folder, port, url, probe=lambda: probe_kafka(url)))


def write_kafka_properties(folder: Path, port: int, more: Mapping[str, str]) -> Path:
    """more: replaces ours of the same name, as Java takes the last of a name; @controller_port@ stands in it, too."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"@port@": str(port), "@controller_port@": str(free_port()), "@log@": str(folder / "log")}
    text = KAFKA_PROPERTIES.read_text() + "".join(f"{name}={value}\n" for name, value in more.items())
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    properties = folder / "server.properties"
    properties.write_text(text)
    return properties


def kafka_jars() -> Path:
    """The folder of Kafka's jars, fetched once per content of the pom; with the user's Maven settings."""
    digest = hashlib.sha256(KAFKA_POM.read_bytes()).hexdigest()[:16]
    cache = user_cache_folder() / "kafka"
    jars = cache / digest
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            fetch_kafka_jars(jars)
    return jars


def fetch_kafka_jars(jars: Path) -> None:
    maven = needed_program("mvn", "Kafka's jars", "apt-get install maven")
    partial = jars.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    run_to_its_end("Maven", [maven, "--batch-mode", "--quiet", "--file", str(KAFKA_POM), *goal], seconds=600)
    partial.rename(jars)


def probe_kafka(servers: str) -> None:
    """Raises unless a broker answers a metadata request and knows itself as a member of its cluster."""
    # log_level 0: while the port is still closed librdkafka would write to standard error on every try.
    client = AdminClient({"bootstrap.servers": servers, "log_level": 0, "socket.timeout.ms": PROBE_SECONDS * 1000})
    if not client.list_topics(timeout=PROBE_SECONDS).brokers:
        raise ConnectionError("no broker has registered yet")


# PostgreSQL


def start_postgres(
    folder: Path, *, port: int | None = None, fsync: bool = True, options: Mapping[str, str] | None = None
) -> Service:
    """A PostgreSQL server with its data in `folder`; existing data is continued. No password for `postgres`. options:
    of the server's configuration, besides or in place of ours.

    PostgreSQL refuses to run as root, so root runs it as the user `postgres`, who must be able to enter
    `folder`.
    """
    programs = postgres_programs()
    folder.mkdir(parents=True, exist_ok=True)
    user = postgres_user(folder)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        initdb = [
            str(programs / "initdb"),
            "--pgdata",
            str(data),
            "--username",
            "postgres",
            "--auth",
            "trust",
        ]
        run_to_its_end("initdb", [*initdb, "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"], user=user)
    port = port or free_port()
    configuration = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "on" if fsync else "off",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        **(options or {}),
    }
    settings = [part for name, value in configuration.items() for part in ("-c", f"{name}={value}")]
    url = f"postgresql+psycopg://postgres@{LOOPBACK}:{port}/postgres"
    command = ServerCommand(
        "postgres",
        [programs / "postgres", "-D", data, *settings],
        folder,
        port,
        url,
        probe=lambda: probe_postgres(port),
        stop_signal=signal.SIGINT,  # "fast": ends sessions; SIGTERM would wait for clients to leave
        user=user,
    )
    return start_service(command)


def postgres_programs() -> Path:
    """The folder with `initdb` and `postgres`; Debian keeps it off the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise ServiceUnavailable("PostgreSQL is not installed: no initdb found. Do: apt-get install postgresql")
    return max(versions, key=lambda programs: int(programs.parent.name))


def postgres_user(folder: Path) -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise ServiceUnavailable(
            "PostgreSQL refuses to run as root and there is no user postgres. Do: apt-get install postgresql"
        ) from None
    os.chown(folder, account.pw_uid, account.pw_gid)
    return account.pw_name


def probe_postgres(port: int) -> None:
    with psycopg.connect(
        host=LOOPBACK, port=port, user="postgres", dbname="postgres", connect_timeout=PROBE_SECONDS
    ) as connection:
        connection.execute("SELECT 1")


# Redis


def start_redis(
    folder: Path,
    *,
    port: int | None = None,
    program: str | Path | None = None,
    persistent: bool = False,
    more: Sequence[str] = (),
) -> Service:
    """A Redis server; what it confirmed outlives a crash where it is `persistent`, else it starts empty each time.
    `program` is another redis-server than the system's, `more` are further arguments of it."""
    program = program or needed_program("redis-server", "Redis", "apt-get install redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    options = [
        "--port",
        str(port),
        "--bind",
        LOOPBACK,
        "--save",
        "",
        "--appendonly",
        "yes" if persistent else "no",
        "--appendfsync",
        "always",
        "--dir",
        str(folder),
        *more,
    ]
    url = f"redis://{LOOPBACK}:{port}/0"
    return start_service(ServerCommand("redis", [program, *options], folder, port, url, probe=lambda: probe_redis(url)))


def probe_redis(url: str) -> None:
    with redis.Redis.from_url(url, socket_timeout=PROBE_SECONDS) as client:
        client.ping()


# Shared


def user_cache_folder() -> Path:
    """The same folder that ops/environment.py uses."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate"


def needed_program(name: str, purpose: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServiceUnavailable(f"{purpose} needs the program {name}, which is not installed. Do: {remedy}")
    return path


def run_to_its_end(name: str, command: list[str], *, user: str | None = None, seconds: float = 120) -> None:
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    if result.returncode != 0:
        said = (result.stdout + result.stderr).strip()[-1000:]
        raise ServiceUnavailable(f"{name} failed ({' '.join(command[:2])}): {said}")
