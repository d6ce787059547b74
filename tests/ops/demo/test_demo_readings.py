"""What the demo makes of metrics."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import generate_latest

from ops.demo.readings import AlertFigures, WorkerSample, latest_revisions, parse_sample, quantile
from streams.contract import Alert
from streams.health import FlowMetrics


def sample(**counts: float) -> WorkerSample:
    return WorkerSample(latency={float(bound[1:].replace("_", ".")): count for bound, count in counts.items()})


def test_a_sample_holds_one_topics_figures() -> None:
    metrics = FlowMetrics()
    for topic in ("transactions", "feedback"):
        metrics._records.labels(topic, "applied").inc(7 if topic == "transactions" else 100)
        metrics._records.labels(topic, "duplicates").inc(3)
        metrics._latency.labels(topic).observe(0.004)
        metrics.lag(topic, 0, 5)
        metrics.lag(topic, 1, 6)
    read = parse_sample(generate_latest(metrics.registry).decode(), "transactions")
    assert (read.applied, read.lag) == (7, 11)
    assert read.latency[0.002] == 0
    assert read.latency[0.005] == read.latency[math.inf] == 1


def test_a_quantile_is_linear_within_its_bucket() -> None:
    after = sample(_0_1=50, _0_2=100, _inf=100)
    assert quantile(WorkerSample(), after, 0.5) == pytest.approx(0.1)
    assert quantile(WorkerSample(), after, 0.75) == pytest.approx(0.15)


def test_a_quantile_counts_only_what_came_between_two_samples() -> None:
    before, after = sample(_0_1=1000, _0_2=1000, _inf=1000), sample(_0_1=1000, _0_2=1010, _inf=1010)
    assert quantile(before, after, 0.5) == pytest.approx(0.15)
    assert quantile(after, after, 0.5) is None


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile(WorkerSample(), sample(_0_1=1, _inf=10), 0.99) == pytest.approx(0.1)


def test_without_labels_there_is_no_precision() -> None:
    assert AlertFigures(alerts=3).precision is None
    assert AlertFigures(alerts=3, labelled=2, frauds=1).precision == 0.5


def test_an_alert_is_listed_once_at_its_newest_revision_and_only_this_runs() -> None:
    start = datetime(2026, 11, 26, tzinfo=UTC)

    def revision(alert_id: str, number: int, seconds: int) -> Alert:
        moment = start + timedelta(seconds=seconds)
        return Alert(
            alert_id, number, "open", [], "a", moment, moment, 0.9, "probability", 0.5, "low", "fraud:1", [], []
        )  # fmt: skip

    entries = [revision("b", 1, 5), revision("a", 2, 4), revision("a", 1, 2), revision("before", 1, -1)]
    listed = latest_revisions(entries, start)
    assert [(alert.alert_id, alert.revision) for alert in listed] == [("b", 1), ("a", 2)]
