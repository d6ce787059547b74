"""Histories from files, as users have them."""

from datetime import timedelta
from pathlib import Path

import pytest

from ops.jobs.history import history_from_files
from ops.jobs.history_files import UnreadableHistory

DAY = timedelta(days=1)
HEADER = "event_id,occurred_at,account_id,merchant_id,amount,currency\n"
ROWS = (
    "e1,2026-03-01T08:00:00Z,a1,m1,10.00,USD\n"
    "e3,2026-03-09T08:00:00Z,a1,m2,30.00,JPY\n"
    "e2,2026-03-05T08:00:00Z,a2,m1,20.00,EUR\n"
)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_events_come_in_the_order_of_their_time_with_amounts_in_the_base_currency(tmp_path: Path) -> None:
    file = written(tmp_path / "events.csv", HEADER + ROWS)
    events = history_from_files(file, None, {"USD": 0.5}, label_horizon=DAY).events
    assert events.event_id == ["e1", "e2", "e3"]
    assert events.amount.tolist() == [5.0, 20.0, 30.0]


def test_without_a_labels_file_nothing_is_known_of_any_event(tmp_path: Path) -> None:
    file = written(tmp_path / "events.csv", HEADER + ROWS)
    assert history_from_files(file, None, {}, label_horizon=DAY).labels.tolist() == [-1, -1, -1]


def test_with_frauds_only_the_other_matured_events_are_legitimate_and_young_ones_unknown(tmp_path: Path) -> None:
    file = written(tmp_path / "events.csv", HEADER + ROWS)
    labels = written(tmp_path / "labels.csv", "event_id,label\ne2,fraud\n")
    assert history_from_files(file, labels, {}, label_horizon=DAY).labels.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("event_id,occurred_at\n", "lacks the columns account_id, merchant_id, amount"),
        (HEADER + "e1,2026-03-01T08:00:00Z,a1,m1,,EUR\n", "rows without amount"),
        (HEADER + "e1,2026-03-01T08:00:00Z,a1,m1,-3,EUR\n", "amounts that are negative or no numbers"),
        (HEADER + "e1,2026-03-01T08:00:00Z,a1,m1,nan,EUR\n", "amounts that are negative or no numbers"),
        (HEADER + "e1,2026-03-01T08:00:00Z,a1,m1,many,EUR\n", "column amount that cannot be read"),
        (HEADER + "e1,yesterday,a1,m1,3,EUR\n", "column occurred_at that cannot be read"),
        ("", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, events: str, says: str) -> None:
    with pytest.raises(UnreadableHistory, match=says):
        history_from_files(written(tmp_path / "events.csv", events), None, {}, label_horizon=DAY)


def test_a_label_that_is_neither_fraud_nor_legitimate_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "events.csv", HEADER + ROWS)
    labels = written(tmp_path / "labels.csv", "event_id,label\ne2,suspicious\n")
    with pytest.raises(UnreadableHistory, match="other than fraud and legitimate: suspicious"):
        history_from_files(file, labels, {}, label_horizon=DAY)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableHistory, match="cannot read"):
        history_from_files(tmp_path / "none.parquet", None, {}, label_horizon=DAY)
