"""Files: CSV and Parquet hold the columns, training reads them, and a failed write leaves nothing behind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ops.jobs.history import history_from_files
from ops.jobs.history_files import UnreadableHistory
from ops.simulate import output
from ops.simulate.cards import BadSimulation, SimulationConfig, simulate
from ops.simulate.labels import LabelDelay, labels_of
from ops.simulate.output import write_labels, write_transactions
from ops.simulate.scenarios import DAY

HISTORY = simulate(SimulationConfig(accounts=100, merchants=40, events=2_500, fraud_share=0.1))
LABELS = labels_of(HISTORY, LabelDelay(0, 9 * DAY))
TEXTS = ["event_id", "account_id", "merchant_id", "currency", "channel", "country", "category", "memo"]
formats = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


@pytest.fixture(autouse=True)
def _several_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ROWS_A_SLICE", 700)


def read(path: Path) -> dict[str, list[Any]]:
    """By the suffix, as a stranger would; times as datetimes."""
    if path.suffix == ".parquet":
        table = pa.parquet.read_table(path)
    else:
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys([*TEXTS, "label", "scenario"], pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        table = pa.csv.read_csv(path, convert_options=convert)
    return {name: table[name].to_pylist() for name in table.column_names}


def times(epoch_milliseconds: Any) -> list[datetime]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return [epoch + timedelta(milliseconds=each) for each in epoch_milliseconds.tolist()]


@formats
def test_transactions_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    write_transactions(tmp_path / f"cards{suffix}", HISTORY)

    expected = {name: list(values) for name, values in HISTORY.columns().items()}
    expected["occurred_at"] = times(HISTORY.occurred_at)
    assert read(tmp_path / f"cards{suffix}") == expected


@formats
def test_labels_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    write_labels(tmp_path / f"labels{suffix}", LABELS)

    assert read(tmp_path / f"labels{suffix}") == {
        "event_id": LABELS.event_ids(),
        "label": LABELS.label_names(),
        "scenario": LABELS.scenario_names(),
        "given_at": times(LABELS.given_at),
    }


@formats
def test_training_reads_what_was_simulated(tmp_path: Path, suffix: str) -> None:
    write_transactions(tmp_path / f"cards{suffix}", HISTORY)
    write_labels(tmp_path / f"labels{suffix}", LABELS)

    history = history_from_files(
        tmp_path / f"cards{suffix}", tmp_path / f"labels{suffix}", {}, label_horizon=timedelta(days=7)
    )

    columns = HISTORY.columns()
    for name in ("event_id", "account_id", "merchant_id", "channel", "country", "category", "memo"):
        assert getattr(history.events, name) == columns[name], name
    assert history.events.occurred_at.tolist() == HISTORY.occurred_at.tolist()
    assert history.events.amount.tolist() == HISTORY.amount.tolist()
    assert ((history.labels == 1) <= HISTORY.fraud).all()
    assert (history.labels == 1).sum() > 0.5 * HISTORY.fraud.sum()


@formats
def test_no_transactions_are_a_file_with_columns_and_no_rows(tmp_path: Path, suffix: str) -> None:
    write_transactions(tmp_path / f"cards{suffix}", HISTORY.rows(slice(0, 0)))
    write_labels(tmp_path / f"labels{suffix}", LABELS.take(slice(0, 0)))

    assert {name: [] for name in HISTORY.columns()} == read(tmp_path / f"cards{suffix}")
    assert list(read(tmp_path / f"labels{suffix}")) == ["event_id", "label", "scenario", "given_at"]


def test_csv_is_plain_text_with_rfc_3339_times(tmp_path: Path) -> None:
    write_transactions(tmp_path / "cards.csv", HISTORY)

    header, first, *_ = (tmp_path / "cards.csv").read_text().splitlines()
    assert header.replace('"', "").startswith("event_id,occurred_at,account_id,merchant_id,amount,currency,channel")
    assert first.split(",")[0] == "sim-0-1-0000000000"
    assert datetime.fromisoformat(first.split(",")[1]) == times(HISTORY.occurred_at[:1])[0]


@formats
def test_a_failed_write_leaves_no_file_and_keeps_the_old_one(tmp_path: Path, suffix: str) -> None:
    new, old = tmp_path / f"new{suffix}", tmp_path / f"old{suffix}"
    old.write_text("precious")

    def fail(stage: str, done: float) -> None:
        assert stage == "write"
        if done > 0.5:
            raise RuntimeError("interrupted")

    for path in (new, old):
        with pytest.raises(RuntimeError, match="interrupted"):
            write_transactions(path, HISTORY, fail)

    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_text() == "precious"


@formats
def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"cards{suffix}.part").mkdir()  # in the way of the unfinished file
    with pytest.raises(BadSimulation, match=rf"cannot write .*cards\{suffix}: "):
        write_transactions(tmp_path / f"cards{suffix}", HISTORY)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cards.json", r"cards.json must end in .csv or .parquet"),
        ("cards", r"cards must end in .csv or .parquet"),
        ("missing/cards.csv", r"the folder of .*cards.csv does not exist"),
        ("folder.csv", r"folder.csv is a folder"),
    ],
)
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadSimulation, match=message):
        write_transactions(tmp_path / name, HISTORY)


def test_progress_ends_at_one(tmp_path: Path) -> None:
    seen: list[float] = []
    write_transactions(tmp_path / "cards.parquet", HISTORY, lambda stage, done: seen.append(done))
    assert seen == pytest.approx(np.array([700, 1400, 2100, 2500]) / 2500)


def test_ids_that_look_like_numbers_or_nothing_stay_texts_for_training(tmp_path: Path) -> None:
    path = tmp_path / "cards.csv"
    rows = ["007,2026-01-01T00:00:00Z,0012,NA,1.5,nan", "008,2026-01-02T00:00:00Z,0013,null,2,"]
    path.write_text("\n".join(["event_id,occurred_at,account_id,merchant_id,amount,memo", *rows]))

    events = history_from_files(path, None, {}, label_horizon=timedelta(days=7)).events

    assert (events.event_id, events.account_id, events.merchant_id) == (
        ["007", "008"],
        ["0012", "0013"],
        ["NA", "null"],
    )
    assert events.memo == ["nan", None]


def test_a_row_without_an_account_is_refused_for_training(tmp_path: Path) -> None:
    path = tmp_path / "cards.csv"
    path.write_text("event_id,occurred_at,account_id,merchant_id,amount\ne1,2026-01-01T00:00:00Z,,m,\n")

    with pytest.raises(UnreadableHistory, match=r"cards.csv has rows without account_id, amount"):
        history_from_files(path, None, {}, label_horizon=timedelta(days=7))
