"""`headgate demo` as a user runs it: a process, from nothing to alerts, and nothing left afterwards."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from sqlalchemy.engine import make_url

from tests.deployment import Deployment, wait_until

pytestmark = [pytest.mark.timeout(300), pytest.mark.service]
MARK = "HEADGATE_TEST_MARK"


@contextmanager
def demo(folder: Path, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """A demo whose temporary files lie in `folder`, and whose processes carry its name in their environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "demo", *arguments],
        env={**kept, "TMPDIR": str(folder), MARK: str(folder), "PYTHONFAULTHANDLER": "1", **variables},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGABRT)
            process.wait()
            os.killpg(process.pid, signal.SIGKILL)
            print("it hangs here:", process.stderr and process.stderr.read())
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def marked_processes(folder: Path) -> list[str]:
    """Command lines of the processes that the demo of this folder started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{MARK}={folder}".encode() in environment.split(b"\0"):
                found.append(command.replace(b"\0", b" ").decode())
    return found


def wait_for_its_worker(folder: Path) -> None:
    """It trains before, for twenty seconds of a quiet machine."""
    begun = "the worker of the demo runs"
    wait_until(begun, lambda: any("ops worker" in command for command in marked_processes(folder)), 120)


def assert_nothing_is_left(folder: Path) -> None:
    wait_until("every process of the demo has ended", lambda: not marked_processes(folder), 10)
    assert list(folder.iterdir()) == []


def test_the_demo_raises_alerts_by_itself_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path, "--for", "30", "--json") as process:
        output, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    summary = json.loads(output.splitlines()[-1])
    assert summary["alerts"] > 0, said
    assert summary["events"] > 1000
    assert summary["all_scored"]
    assert summary["labelled_alerts"] > 0
    # One payment in a hundred is fraud. On a busy machine the first detector sees little of its history in its time.
    assert summary["precision"] > 0.05
    assert summary["first_alert_seconds"] > 0
    assert summary["engagements"] > 500
    assert summary["recommendations"] > 100
    assert {"popular", "random"} <= set(summary["reward_per_slate"])
    assert "export HEADGATE_KAFKA=" in said
    assert_nothing_is_left(tmp_path)


def test_services_of_ones_own_take_the_place_of_the_embedded_ones_and_are_left_clean(
    tmp_path: Path, kafka_servers: str, postgres_url: str, redis_url: str
) -> None:
    given = {"HEADGATE_KAFKA": kafka_servers, "HEADGATE_REDIS": redis_url, "HEADGATE_DATABASE": postgres_url}
    with demo(tmp_path, "--for", "10", "--rate", "50", "--json", **given) as process:
        output, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert json.loads(output.splitlines()[-1])["events"] > 100
    topics = AdminClient({"bootstrap.servers": kafka_servers}).list_topics(timeout=10).topics
    assert not [name for name in topics if name.startswith("demo-")]
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM v_predictions").fetchone()
        assert row is not None
        assert row[0] > 10_000
    with redis.Redis.from_url(redis_url) as client:
        keys = [key.decode() for key in client.scan_iter("*")]
        assert all(key.startswith("headgate:demo-") and client.ttl(key) > 0 for key in keys)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_while_it_prepares_the_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, "--rate", "50") as process:
        wait_for_its_worker(tmp_path)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "Traceback" not in said
    assert_nothing_is_left(tmp_path)


def test_a_killed_demo_takes_its_services_with_it(tmp_path: Path) -> None:
    with demo(tmp_path, "--rate", "50") as process:
        wait_for_its_worker(tmp_path)
        process.kill()
        process.wait()
    wait_until("every process of the demo has ended", lambda: not marked_processes(tmp_path), 40)


def test_the_demo_does_not_replace_a_real_model(tmp_path: Path, deployment: Deployment) -> None:
    given = {"HEADGATE_DATABASE": deployment.database_url, "HEADGATE_MODELS": str(deployment.models)}
    with demo(tmp_path, "--json", **given) as process:
        output, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert "serves fraud:1, which the demo would replace" in said
    assert "Traceback" not in said


def test_an_absent_broker_is_one_clear_line(tmp_path: Path) -> None:
    with demo(tmp_path, HEADGATE_KAFKA="127.0.0.1:9") as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line for line in said.splitlines() if line] == [
        line for line in said.splitlines() if line.startswith("headgate: no Kafka broker answers at 127.0.0.1:9")
    ]
    assert_nothing_is_left(tmp_path)
