"""`headgate data check` and `headgate train` on files: what is shown, what is refused, what the page holds."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from models.data_quality import Finding
from models.sequences import TrainingRefused
from ops.cli import cli
from ops.jobs.data_check import check_files
from ops.jobs.data_report import UnwritableReport, page, write_report
from ops.simulate.command import run_simulation
from ops.simulate.options import Options
from storage import tables
from storage.database import open_database, upgrade
from tests.ops.test_history import DAY


def options(folder: Path, **values: Any) -> Options:
    defaults: dict[str, Any] = {name: None for name in ("start", "events", "rate", "for_seconds", "label_delay")}
    defaults |= {"kafka": False, "merchants": 200, "scenarios": SCENARIOS, "seed": 3, "labels_for": "frauds"}
    files = {"output": folder / "history.parquet", "labels": folder / "frauds.csv"}
    return Options(**defaults | files | {"accounts": 150, "days": 40.0, "fraud_share": 0.02} | values)


SCENARIOS = "large_amounts,compromised_merchants,stolen_credentials,structuring,card_testing"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    run_simulation(options(folder), lambda: pytest.fail("files need no settings"), lambda stage, share: None)
    return folder


@pytest.fixture
def leaking(simulated: Path, tmp_path: Path) -> Path:
    """The same with a category that says what was found out."""
    table = pa.parquet.read_table(simulated / "history.parquet")
    frauds = set(pa.csv.read_csv(simulated / "frauds.csv")["event_id"].to_pylist())
    category = ["<b>case</b>" if event in frauds else "shop" for event in table["event_id"].to_pylist()]
    place = table.column_names.index("category")
    pa.parquet.write_table(table.set_column(place, "category", pa.array(category)), tmp_path / "history.parquet")
    (tmp_path / "frauds.csv").write_bytes((simulated / "frauds.csv").read_bytes())
    return tmp_path


def run(folder: Path, *arguments: str, command: tuple[str, ...] = ("data", "check")) -> Result:
    files = ("--transactions", str(folder / "history.parquet"), "--labels", str(folder / "frauds.csv"))
    return CliRunner().invoke(cli, [*command, *files, *arguments])


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"seed": 2, "labels_for": "all"},
        {"seed": 3, "fraud_share": 0.005, "accounts": 600},
        {"seed": 4, "scenarios": "large_amounts", "fraud_share": 0.05},
        {"seed": 5, "scenarios": "card_testing", "fraud_share": 0.05, "label_delay": "1d-9d"},
    ],
)
def test_a_simulated_history_passes_without_suspicion(tmp_path: Path, values: dict[str, Any]) -> None:
    run_simulation(options(tmp_path, **values), lambda: pytest.fail("no settings"), lambda stage, share: None)
    quality = check_files(tmp_path / "history.parquet", tmp_path / "frauds.csv", {}, 7 * DAY, lambda stage, share: None)
    assert quality.of("refused") == []
    assert [finding for finding in quality.findings if "frauds" in finding.text] == []


def test_a_healthy_history_is_shown_with_its_figures(simulated: Path) -> None:
    result = run(simulated)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "ok: Fit to train on."
    assert any(re.match(r" +days without events +0 of 40", line) for line in lines)
    assert any(re.match(r" +label delay in days +half within 7.0", line) for line in lines)


def test_json_is_one_object_on_the_last_line_with_the_same_verdict(simulated: Path, leaking: Path) -> None:
    healthy, broken = run(simulated, "--json"), run(leaking, "--json")
    found = json.loads(healthy.output.splitlines()[-1])
    assert (found["verdict"], found["empty_days"], len(found["days"])) == ("ok", 0, 40)
    assert found["labels"]["given"] == pa.csv.read_csv(simulated / "frauds.csv").num_rows
    refused = json.loads(broken.output.splitlines()[-1])
    assert (refused["verdict"], broken.exit_code) == ("refused", 1)
    assert refused["separations"][0] | {"column": "category", "auc": 1.0} == refused["separations"][0]


def test_the_page_holds_its_pictures_and_no_script_and_shows_markup_of_data_as_text(leaking: Path) -> None:
    report = leaking / "report.html"
    result = run(leaking, "--report", str(report))
    assert result.output.splitlines()[-1] == f"report: {report}"
    text = report.read_text()
    assert "<script" not in text
    assert 'src="http' not in text
    assert "<b>case</b>" not in text
    assert "&lt;b&gt;case&lt;/b&gt;" in text
    pictures = re.findall(r'alt="([^"]+)" src="data:image/png;base64,([^"]+)"', text)
    assert [name for name, _ in pictures] == [
        "events by day",
        "labels by day",
        "label delay",
        "amounts",
        "separation",
        "drift",
    ]
    assert all(b64decode(picture).startswith(b"\x89PNG") for _, picture in pictures)
    assert "category alone tells frauds" in text


def test_a_page_of_unlabelled_events_leaves_out_what_needs_labels(simulated: Path) -> None:
    quality = check_files(simulated / "history.parquet", None, {}, 7 * DAY, lambda stage, share: None)
    text = page(replace(quality, findings=(Finding("note", "x", "no <i>label</i>"),)))
    assert re.findall(r'alt="([^"]+)"', text) == ["events by day", "amounts", "drift"]
    assert "no &lt;i&gt;label&lt;/i&gt;" in text
    with pytest.raises(UnwritableReport, match="cannot write the report"):
        write_report(simulated / "nowhere" / "report.html", quality)


def test_training_refuses_a_leak_with_the_reason_and_the_command_to_see_more(
    leaking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{leaking / 'headgate.sqlite'}"
    monkeypatch.setenv("HEADGATE_DATABASE", url)
    monkeypatch.setenv("HEADGATE_MODELS", str(leaking / "models"))
    upgrade(url)
    result = run(leaking, "--epochs", "1", "--hidden", "8", command=("train",))
    assert isinstance(result.exception, TrainingRefused)
    assert "category alone tells frauds" in str(result.exception)
    assert "`headgate data check` shows more" in str(result.exception)
    database = open_database(url)
    with database.reading() as connection:
        assert connection.execute(select(tables.TrainingRun.status)).scalars().all() == ["refused"]
    database.engine.dispose()


def test_labels_of_unknown_events_are_refused(simulated: Path, tmp_path: Path) -> None:
    (tmp_path / "history.parquet").write_bytes((simulated / "history.parquet").read_bytes())
    (tmp_path / "frauds.csv").write_text("event_id,label\nPAY-1,fraud\nPAY-2,fraud\n")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "none of 2 labels is of a known event: do event_ids agree?" in result.output
