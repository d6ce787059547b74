"""`headgate retrain` as a process: killed, interrupted, twice at once, and its output."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.feature_schema import FEATURE_SCHEMA
from models.gate import Comparison, Verdict
from ops.clock import utc_now
from ops.jobs.challenge import RetrainingRules
from ops.jobs.retrain import Outcome, Workplace, retrain_once
from ops.jobs.retrain_command import outcome_table
from storage.database import Database
from storage.exclusive import AlreadyRunning, exclusively
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from tests.deployment import CHECKOUT, wait_until
from tests.models.logs import untrained
from tests.models.synthetic import history
from tests.ops.retrain.stored_history import store

pytestmark = pytest.mark.slow

#: A pass in this script says where it is and waits there to be killed.
PASS = """
import sys
from ops.clock import utc_now
from ops.jobs import retrain
from ops.jobs.challenge import RetrainingRules
from ops.jobs.train import train_on_one_thread
from storage.database import open_database
from storage.registry import ModelRegistry

url, models, where = sys.argv[1:]
def wait_there(place, wrapped):
    def at(*arguments, **options):
        found = wrapped(*arguments, **options)
        if place == where:
            print("there", flush=True)
            sys.stdin.read()
        return found
    return at

retrain.promote_unless_changed = wait_there("promoted", retrain.promote_unless_changed)
database = open_database(url)
trainer = wait_there("trained", train_on_one_thread)
work = retrain.Workplace(database, ModelRegistry(database, models), {}, utc_now, lambda stage, done: None, trainer)
retrain.retrain_once(work, RetrainingRules(hidden=8, epochs=1, seed=1))
"""
#: So many units that no pass ends by itself while a test looks.
ENDLESS = ("--hidden", "1024", "--epochs", "100")
QUICK = ("--hidden", "8", "--epochs", "1")


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def start(database: Database, folder: Path, *arguments: str, stdin: Any = None) -> "subprocess.Popen[str]":
    environment = os.environ | {"HEADGATE_DATABASE": url_of(database), "HEADGATE_MODELS": str(folder / "models")}
    environment |= {"PYTHONPATH": str(CHECKOUT), "HEADGATE_RETRAIN_METRICS_PORT": "0"}
    pipes: Mapping[str, Any] = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=folder, text=True, **pipes)


def headgate_retrain(database: Database, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return start(database, folder, "-m", "ops", "retrain", *arguments)


def runs(database: Database) -> list[tuple[str, str | None]]:
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT status, message FROM training_runs ORDER BY started_at")
        return [(row[0], row[1]) for row in found]


def champion(database: Database, folder: Path) -> int | None:
    """Its version, once its file was found whole."""
    registry = ModelRegistry(database, str(folder / "models"))
    record = registry.champion(MODEL_NAME)
    if record is None:
        return None
    registry.load(record)
    return record.version


def is_free(database: Database, what: str) -> bool:
    try:
        with exclusively(database, what):
            return True
    except AlreadyRunning:
        return False


@pytest.fixture
def database_with_history(database: Database) -> Database:
    past = history(4_000, accounts=200, days=40, seed=4, frauds=0.06)
    store(database, past.events, past.labels)
    return database


def test_a_process_killed_at_any_step_leaves_a_usable_registry_and_the_next_pass_goes_on(
    database_with_history: Database, tmp_path: Path
) -> None:
    database = database_with_history
    url, models = url_of(database), str(tmp_path / "models")
    registry = ModelRegistry(database, models)
    bad: dict[str, Any] = {"feature_schema": FEATURE_SCHEMA, "metrics": {"trained_until": "2020-01-01T00:00:00+00:00"}}
    registry.register(MODEL_NAME, "detector", untrained().to_bytes(), **bad, clock=utc_now, alias="champion")
    for where, version in (("trained", 1), ("promoted", 2)):
        with start(database, tmp_path, "-c", PASS, url, models, where, stdin=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            process.kill()
        wait_until("the server ends the killed process's session", lambda: is_free(database, "retraining"))
        assert runs(database)[-1] == ("running", None)
        assert champion(database, tmp_path) == version
    work = Workplace(database, registry, {}, utc_now, lambda stage, done: None)
    assert retrain_once(work, RetrainingRules(epochs=1)).champion == "fraud:2"
    (*dead, last) = runs(database)
    assert dead == [("failed", "the process ended before the run did")] * 2
    assert last[0] in ("succeeded", "refused")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_second_one_and_one_that_is_told_to_stop_end_with_one_line_each(
    database_with_history: Database, tmp_path: Path
) -> None:
    database = database_with_history
    with exclusively(database, "retraining"), headgate_retrain(database, tmp_path, "--once") as second:
        output, errors = second.communicate(timeout=60)
        assert (second.returncode, output) == (1, "")
        assert errors.startswith("headgate: another retraining is running on the database at sqlite:///")
        assert len(errors.splitlines()) == 1
    with headgate_retrain(database, tmp_path, "--once", *ENDLESS) as interrupted:
        wait_until("a run begins", lambda: [status for status, _ in runs(database)] == ["running"])
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=60)
        assert interrupted.returncode == 1
        assert errors.splitlines()[-1].startswith("headgate: stopped by a signal")
        assert [status for status, _ in runs(database)] == ["failed"]
    with headgate_retrain(database, tmp_path, "--every", "24h", "--json", *QUICK) as loop:
        assert loop.stdout is not None
        assert loop.stderr is not None
        url = next(found[1] for line in loop.stderr if (found := re.search(r"metrics=(http://\S+)", line)))
        assert json.loads(loop.stdout.readline())["decision"] == "first model"
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            assert b'headgate_retrain_champion_version{model="fraud"} ' in answer.read()
        loop.send_signal(signal.SIGTERM)
        output, errors = loop.communicate(timeout=60)
        assert (loop.returncode, output) == (0, "")
        assert "Traceback" not in errors
    assert champion(database, tmp_path) == 1


def test_the_table_shows_both_models_with_the_difference_and_what_they_were_judged_on() -> None:
    better = Comparison(0.61, 0.66, 0.02, 0.08)
    verdict = Verdict("promote", "refresh", 12_345, 67, 45, "better", better, Comparison(0.3, 0.25, -0.1, 0.01))
    table = outcome_table(Outcome("promote", "better", "fraud:1", "fraud:2", verdict))
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert rows[0][:3] == ("model", "fraud:1", "fraud:2")
    assert rows[1] == ("average precision", "0.610", "0.660", "+0.050", "+0.020 to +0.080")
    assert rows[2] == ("precision at the alert budget", "0.300", "0.250", "-0.050", "-0.100 to +0.010")
    assert table.caption == "judged on 12,345 matured events, 67 frauds in 45 accounts"


def by_torchrun(database: Database, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    return start(database, folder, *two, "-m", "ops", "retrain", *arguments)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_two_processes_of_torchrun_make_one_pass_and_register_one_model(database: Database, tmp_path: Path) -> None:
    past = history(3_000, accounts=100, days=20, seed=6, frauds=0.03)
    store(database, past.events, past.labels)
    output, errors = by_torchrun(database, tmp_path, "--once", "--json", *QUICK).communicate(timeout=120)
    assert json.loads(output.splitlines()[-1])["decision"] == "first model", errors[-3_000:]
    assert [status for status, _ in runs(database)] == ["succeeded"]
    assert [record.version for record in ModelRegistry(database, str(tmp_path / "models")).list()] == [1]
    again, errors = by_torchrun(database, tmp_path, "--once", "--json", *QUICK).communicate(timeout=120)
    assert json.loads(again.splitlines()[-1])["decision"] == "not enough evidence", errors[-3_000:]
