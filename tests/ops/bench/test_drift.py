"""The stream whose fraud changes, and what the two contestants differ in."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ops.bench.drift import DriftConfig, contestants, drifting_history, in_words, run_drift, summary
from ops.bench.measure import BenchmarkFailed
from ops.jobs.report_figures import Quality, Week
from tests.models.synthetic import DAY

SMALL = DriftConfig(
    accounts=80, merchants=40, days_before=21, days_after=14, first_training=14, fraud_share=0.05, hidden=8, epochs=1
)


def test_the_same_people_pay_on_while_other_frauds_begin() -> None:
    events, fraud = drifting_history(SMALL)
    after = events.occurred_at >= SMALL.changed_at
    assert (np.diff(events.occurred_at) >= 0).all()
    assert len(set(events.event_id)) == len(events)
    assert len(set(events.offset.tolist())) == len(events)
    people = [{events.account_id[row] for row in np.flatnonzero(part & ~fraud)} for part in (after, ~after)]
    assert len(people[0] & people[1]) > 0.9 * len(people[0] | people[1])
    for part in (after, ~after):
        assert fraud[part].mean() == pytest.approx(0.05, abs=0.005)
    transfers = np.array([channel == "transfer" for channel in events.channel]) & fraud
    assert transfers[after].any()  # of structuring
    assert not transfers[~after].any()


def test_both_contestants_differ_in_the_schedule_alone() -> None:
    retrained, frozen = contestants(SMALL)
    assert (retrained.retrain_every, retrained.retrain_from) == (timedelta(days=7), timedelta(days=14))
    assert frozen == replace(retrained, retrain_every=timedelta(days=35))


def test_weeks_before_and_after_the_change_are_told_apart() -> None:
    first = SMALL.changed_at // DAY - 7
    weeks = [
        Week(first + 7 * place, 7, 1.0, ("fraud:1",), Quality(10, 1, precision, 0.5, 0.5))
        for place, precision in enumerate([0.9, 0.1, 0.2, 0.3, 0.4])
    ]
    found = summary(weeks, SMALL)
    assert found["before"] == 0.9
    assert found["after"] == pytest.approx(0.25)
    assert found["last_four_weeks"] == pytest.approx(0.25)


@pytest.mark.slow
def test_both_go_through_the_backtest_and_the_plot_is_written(tmp_path: Path) -> None:
    found = run_drift(tmp_path / "drift.png", SMALL, lambda stage, done: None)
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    assert len(found["retrained"]["weeks"]) == len(found["frozen"]["weeks"]) == 3
    assert found["retrained"]["weeks"][0] == found["frozen"]["weeks"][0]  # of the same first model
    assert in_words(found).count("\n") == 2


@pytest.mark.parametrize("name", ["none/drift.png", "drift.jpg"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchmarkFailed, match=r"must be a \.png file in a folder that exists"):
        run_drift(tmp_path / name, SMALL, lambda stage, done: pytest.fail("work was begun"))
