"""`headgate simulate` as its users run it: files, Kafka, live, and their mistakes."""

import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops import cli
from ops.commands_simulate import cards
from ops.errors import KNOWN_ERRORS
from ops.jobs.history import history_from_files
from ops.service import free_port
from ops.simulate.cards import BadSimulation, SimulationConfig, simulate
from ops.simulate.command import in_order_of_time, send_live
from ops.simulate.kafka import KafkaOutput
from ops.simulate.labels import LabelDelay, labels_of
from ops.simulate.live import LiveConfig, LiveTraffic
from ops.simulate.options import Options
from ops.simulate.scenarios import DAY
from streams.kafka import KafkaSettings
from tests.deployment import wait_until
from tests.ops.simulate.topics import Topics

CHECKOUT = Path(__file__).parents[3]
SMALL = ("--accounts", "200", "--merchants", "60")


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
    return kept | {f"HEADGATE_{name}": value for name, value in settings.items()} | {"PYTHONPATH": str(CHECKOUT)}


def headgate(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ops", "simulate", *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=90,
    )


def result(run: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert list(found) == ["events", "frauds", "labels", "seconds", "events_per_second"]
    assert found["events_per_second"] == pytest.approx(found["events"] / found["seconds"], rel=0.01)
    return found


@pytest.mark.slow
def test_files_for_training_from_one_command(tmp_path: Path) -> None:
    files = ("--output", "cards.parquet", "--labels", "labels.csv", "--labels-for", "frauds", "--label-delay", "0s-2d")
    found = result(headgate(tmp_path, *files, *SMALL, "--events", "4000", "--fraud-share", "0.05", "--json"))

    assert (found["events"], found["frauds"], found["labels"]) == (4_000, 200, 200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cards.parquet", "labels.csv"]
    history = history_from_files(
        tmp_path / "cards.parquet", tmp_path / "labels.csv", {}, label_horizon=timedelta(days=7)
    )
    expected = simulate(SimulationConfig(accounts=200, merchants=60, events=4_000, fraud_share=0.05))
    assert history.events.event_id == expected.event_ids()
    assert history.events.amount.tolist() == expected.amount.tolist()


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    def write(name: str, seed: str) -> bytes:
        run = headgate(tmp_path, "--output", name, *SMALL, "--days", "2", "--seed", seed)
        assert run.returncode == 0
        assert "frauds" in run.stdout
        return (tmp_path / name).read_bytes()

    first = write("first.csv", "1")
    assert write("again.csv", "1") == first
    assert write("other.csv", "2") != first


@pytest.mark.slow
def test_an_absent_broker_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    run = headgate(tmp_path, "--kafka", "--rate", "10", "--for", "1", KAFKA=f"127.0.0.1:{port}")

    assert run.returncode == 1
    (line,) = run.stderr.strip().splitlines()
    assert line.startswith(f"headgate: no Kafka broker answers at 127.0.0.1:{port}")
    assert run.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "say where to: --output FILE or --kafka"),
        ("--output x.csv --scenarios theft", "no scenario is called theft; there are"),
        ("--output missing/x.csv", "the folder of missing/x.csv does not exist"),
        ("--output x.csv --accounts 0", "accounts must be between 1 and"),
        ("--kafka --start 2999-01-01", "--start and --days reach into the future"),
        ("--kafka --rate 0", "the rate must be above 0"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["headgate", "simulate", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    printed = capsys.readouterr()
    assert ended.value.code == 1
    (line,) = printed.err.strip().splitlines()
    assert line.startswith(f"headgate: {message}")
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_the_simulation_is_a_known_error() -> None:
    assert BadSimulation in KNOWN_ERRORS


def test_the_commands_defaults_are_those_of_its_options() -> None:
    defaults = {name: each.default for name, each in inspect.signature(cards).parameters.items() if name != "context"}
    assert defaults.pop("as_json") is False
    assert Options(**defaults) == Options()


def test_a_history_goes_into_kafka_as_far_as_it_is_known_now(
    tmp_path: Path, kafka_servers: str, topic_prefix: str
) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    began = time.time_ns() // 1_000_000
    run = headgate(
        *(tmp_path, "--kafka", *SMALL, "--days", "10", "--events", "45000", "--json"),
        KAFKA=kafka_servers,
        TOPIC_PREFIX=topic_prefix,
    )
    found = result(run)

    assert found["events"] == 45_000
    transactions, feedback = topics.transactions(), topics.feedback()
    assert [part.dead for part in (*transactions, *feedback)] == [[]] * 4
    times = np.concatenate([part.occurred_at for part in transactions])
    assert len(times) == 45_000
    assert began - 10 * DAY < times.min() < times.max() < began + 60_000
    given = np.concatenate([part.given_at for part in feedback])
    assert len(given) == found["labels"]
    assert given.max() < began + 60_000
    assert 0.2 < len(given) / 45_000 < 0.4  # 3 of 10 days are older than a week


def test_live_traffic_goes_into_kafka_at_its_rate_for_its_time(
    tmp_path: Path, kafka_servers: str, topic_prefix: str
) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    run = headgate(
        *(tmp_path, "--kafka", *SMALL, "--rate", "500", "--for", "2", "--label-delay", "0s-1s", "--json"),
        KAFKA=kafka_servers,
        TOPIC_PREFIX=topic_prefix,
    )
    found = result(run)

    assert found["events"] == pytest.approx(1_000, abs=6 * np.sqrt(1_000))
    transactions, feedback = topics.transactions(), topics.feedback()
    assert [part.dead for part in (*transactions, *feedback)] == [[]] * 4
    assert sum(map(len, transactions)) == found["events"]
    assert sum(map(len, feedback)) == found["labels"] > 400
    times = np.concatenate([part.occurred_at for part in transactions])
    assert times.max() - times.min() <= 2_000


def test_ctrl_c_ends_live_traffic_with_its_summary(tmp_path: Path, kafka_servers: str, topic_prefix: str) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    with subprocess.Popen(
        [sys.executable, "-m", "ops", "simulate", "--kafka", *SMALL, "--rate", "200", "--json"],
        cwd=tmp_path,
        env=environment(KAFKA=kafka_servers, TOPIC_PREFIX=topic_prefix),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until("live traffic arrives", lambda: any(topics.records("transactions")))
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["events"] == sum(map(len, topics.records("transactions")))


def test_each_part_of_a_history_is_followed_by_the_labels_known_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.simulate.command.ROWS_A_BATCH", 300)
    history = simulate(SimulationConfig(accounts=100, merchants=40, events=1_000))
    labels = labels_of(history, LabelDelay(DAY, 3 * DAY))
    now = int(history.occurred_at[-1]) + DAY

    parts = list(in_order_of_time(history, labels, now))

    assert [len(part) for part, _ in parts] == [300, 300, 300, 100]
    assert [event for part, _ in parts for event in part.event_ids()] == history.event_ids()
    for part, known in parts[:-1]:
        assert known.given_at.max() <= part.occurred_at[-1]
    given = [number for _, known in parts for number in known.number.tolist()]
    assert given == labels.number[labels.given_at <= now].tolist()
    assert 0 < len(given) < 1_000


def test_live_traffic_gives_exactly_what_was_due_by_its_end(kafka_servers: str, topic_prefix: str) -> None:
    """However seldom the clock lets it send."""
    Topics.created(kafka_servers, topic_prefix)
    start = time.time_ns() // 1_000_000 - 60_000
    config = LiveConfig(start=start, accounts=100, merchants=40, rate=50.0)
    looks = iter(np.arange(0.0, 100.0, 0.7) + start / 1000)
    seen: list[float] = []
    with KafkaOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix) as output:
        counts = send_live(
            LiveTraffic(config),
            output,
            10.0,
            lambda stage, done: seen.append(done),
            clock=lambda: float(next(looks)),
            stopping=threading.Event(),
        )

    expected = LiveTraffic(config).until(start + 10_000)
    assert (counts.events, counts.labels) == (len(expected.transactions), len(expected.labels))
    assert counts.frauds == expected.transactions.fraud.sum()
    assert seen == sorted(seen)
    assert seen[-1] <= 1.0
