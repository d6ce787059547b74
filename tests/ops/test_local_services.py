"""The processes behind the tests: they answer, they come back after a crash, and none outlives its owner."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient, NewTopic
from sqlalchemy import create_engine, text

from ops import local_services
from ops.local_services import start_redis
from ops.service import ServerCommand, Service, ServiceUnavailable, free_port, start_service

REPOSITORY = Path(__file__).parents[2]


def process_is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second where it goes between the opening and the reading
        return False


def test_kafka_is_apache_kafka_and_keeps_its_topics(kafka_servers: str, topic_prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    name = f"{topic_prefix}transactions"
    admin.create_topics([NewTopic(name, 3, 1)])[name].result(10)

    assert len(admin.list_topics(name, timeout=10).topics[name].partitions) == 3


def test_postgres_gives_each_test_an_empty_database(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        tables = connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one()
        connection.execute(text("CREATE TABLE left_behind (id int)"))
    engine.dispose()

    assert tables == 0


def test_postgres_gives_the_next_test_an_empty_database_too(postgres_url: str) -> None:
    test_postgres_gives_each_test_an_empty_database(postgres_url)


def test_postgres_syncs_to_disk_unless_told_otherwise(service_folder: Path, postgres_server: Service) -> None:
    with local_services.start_postgres(service_folder / "postgres") as service:
        url = service.url.replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            answer = connection.execute("SHOW fsync").fetchone()

    assert answer == ("on",)


def test_redis_starts_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left_behind", "1")


def test_redis_starts_empty_after_another_test_wrote(redis_url: str) -> None:
    test_redis_starts_empty(redis_url)


def test_a_killed_server_can_be_started_again_on_its_port(service_folder: Path, redis_server: Service) -> None:
    with start_redis(service_folder) as service:
        first = service.pid
        service.kill()
        assert not process_is_alive(first)
        assert not service.running

        service.start()

        assert service.pid != first
        with redis.Redis.from_url(service.url) as client:
            assert client.ping()


def test_stopping_twice_does_no_harm(service_folder: Path, redis_server: Service) -> None:
    service = start_redis(service_folder)
    service.stop()
    service.stop()

    assert not process_is_alive(service.pid)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_its_owner_however_that_ends(
    service_folder: Path, redis_server: Service, end: signal.Signals
) -> None:
    script = """
        import sys
        from pathlib import Path
        from ops.local_services import start_redis
        service = start_redis(Path(sys.argv[1]))
        print(service.pid, flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(service_folder)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        server = os.pidfd_open(pid)
        owner.send_signal(end)
        owner.wait()

    wait_for_the_end_of(server)
    assert not process_is_alive(pid)


def test_a_server_ends_when_its_supervisor_is_killed(service_folder: Path, redis_server: Service) -> None:
    with start_redis(service_folder) as service:
        server = os.pidfd_open(service.pid)
        assert service._supervisor is not None
        service._supervisor.kill()

        wait_for_the_end_of(server)
        assert not process_is_alive(service.pid)


def test_a_server_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    def never_ready() -> None:
        raise ConnectionError("nobody there")

    command = ServerCommand(
        "broken",
        ["/bin/sh", "-c", "echo cannot read its settings; exit 3"],
        tmp_path,
        free_port(),
        "",
        never_ready,
    )
    with pytest.raises(ServiceUnavailable, match=r"(?s)broken ended while starting.*cannot read its settings"):
        start_service(command)


def test_a_missing_program_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ServiceUnavailable, match=r"redis-server, which is not installed. Do: apt-get install redis"):
        start_redis(tmp_path)


def wait_for_the_end_of(server: int) -> None:
    """`server` is a process file descriptor; it becomes readable when the process has ended."""
    readable, _, _ = select.select([server], [], [], 20)
    os.close(server)
    assert readable, "the server was still running after 20 s"
