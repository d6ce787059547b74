"""`headgate backtest` on files, as a user has them."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from ops.cli import cli
from ops.errors import KNOWN_ERRORS
from ops.jobs.backtest import BacktestRefused
from ops.jobs.backtest_command import in_words, options_of, prepare_folder
from ops.jobs.retrain_command import BadSchedule
from tests.models.synthetic import DAY, history

PAST = history(2_000, accounts=120, days=28, seed=5, frauds=0.06)
FRAUD = PAST.labels == 1
QUICK = ("--label-delay", "3d", "--retrain-every", "9d", "--retrain-from", "15d", "--hidden", "8", "--epochs", "1")


VARYING = ("seconds", "output")


def write_files(folder: Path, suffix: str, *, frauds_only: bool) -> tuple[str, str]:
    """In no order."""
    events, shuffled = PAST.events, np.random.default_rng(0).permutation(len(FRAUD))
    times = pa.array(events.occurred_at, pa.timestamp("ms", "UTC"))
    table = pa.table(
        {
            **{name: list(getattr(events, name)) for name in ("event_id", "account_id", "merchant_id", "memo")},
            "occurred_at": times,
            "amount": events.amount,
        }
    )
    chosen = np.flatnonzero(FRAUD) if frauds_only else np.arange(len(FRAUD))
    names = ["fraud" if fraud else "legitimate" for fraud in FRAUD[chosen].tolist()]
    labels = pa.table({"event_id": [events.event_id[row] for row in chosen], "label": names})
    paths = folder / f"transactions{suffix}", folder / f"labels{suffix}"
    for path, content in zip(paths, (table.take(pa.array(shuffled)), labels), strict=True):
        if suffix == ".csv":
            pa.csv.write_csv(content, path)
        else:
            pa.parquet.write_table(content, path)
    return str(paths[0]), str(paths[1])


@pytest.mark.slow
def test_predictions_and_report_come_from_csv_or_parquet_with_all_labels_or_frauds_alone(tmp_path: Path) -> None:
    found = []
    for suffix, frauds_only in ((".csv", True), (".parquet", False)):
        transactions, labels = write_files(tmp_path, suffix, frauds_only=frauds_only)
        output = tmp_path / f"out{suffix}"
        arguments = ("backtest", "--transactions", transactions, "--labels", labels, "--output", str(output), *QUICK)
        result = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
        found.append(json.loads(result.stdout.splitlines()[-1]))
        table = pa.parquet.read_table(output / "predictions.parquet")
        assert table.column_names == ["event_id", "score", "flagged", "model"]
        assert table["event_id"].to_pylist() == list(PAST.events.event_id)
        unscored = (int(PAST.events.occurred_at[0]) // DAY + 15) * DAY > PAST.events.occurred_at
        assert table["score"].null_count == table["model"].null_count == unscored.sum()
        assert table["flagged"].to_numpy().sum() > 0
        assert sorted(path.name for path in output.iterdir()) == sorted(found[-1]["files"])
        assert table["score"].null_count + found[-1]["scored"] == found[-1]["events"] == len(FRAUD)
    one, other = ({name: value for name, value in each.items() if name not in VARYING} for each in found)
    assert one == other
    assert 0 < one["average_precision"] < 1
    assert one["versions"][0]["model"] == "fraud:1"
    assert in_words(found[0]).count("\n") >= 5


@pytest.mark.slow
def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").touch()
    arguments = ("backtest", "--transactions", "none.csv", "--output", str(full))
    ended = subprocess.run(
        [sys.executable, "-m", "ops", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == f"headgate: {full} is not empty; give --output a new or empty folder\n"


def test_a_labels_file_without_a_fraud_of_these_transactions_is_refused(tmp_path: Path) -> None:
    transactions, _ = write_files(tmp_path, ".csv", frauds_only=True)
    labels = tmp_path / "others.csv"
    labels.write_text("event_id,label\nunknown,fraud\n")
    arguments = ["backtest", "--transactions", transactions, "--labels", str(labels), "--output", str(tmp_path / "out")]
    refusal = CliRunner().invoke(cli, arguments).exception
    assert isinstance(refusal, BacktestRefused)
    assert isinstance(refusal, KNOWN_ERRORS)
    assert str(refusal) == "no transaction is labelled as fraud; without a labels file the backtest needs none"


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BacktestRefused, match=r"cannot use .*file as the output folder: "):
        prepare_folder(tmp_path / "file")


def test_spans_are_read_and_a_wrong_one_names_its_option() -> None:
    options = options_of("12h", "7d", "30d", alerts_per_day=5, hidden=8)
    assert options.rules.label_horizon == timedelta(hours=12)
    assert (options.retrain_every, options.retrain_from) == (timedelta(days=7), timedelta(days=30))
    assert (options.alerts_per_day, options.rules.hidden) == (5, 8)
    with pytest.raises(BadSchedule, match="--retrain-from must be like 7d"):
        options_of("7d", "7d", "soon", alerts_per_day=5)
