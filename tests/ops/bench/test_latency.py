"""The benchmark of latency: its arithmetic, and all of it at a tiny scale. How fast anything is, is not asserted."""

import json
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ops.bench.latency import LEAST_BEYOND, Arrivals, LatencyConfig, due_times, latencies, run_latency
from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had


def test_payments_are_due_at_the_moments_of_a_poisson_process() -> None:
    due = due_times(rate=200.0, count=40_000, seed=1)
    gaps = np.diff(due)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.02), "as wide as its mean: exponential"
    assert due_times(200.0, 40_000, seed=1).tolist() == due.tolist()


def test_a_quantile_is_told_only_where_enough_samples_lie_beyond_it() -> None:
    told = latencies(np.arange(1, 1_001) / 1000)
    assert told["p50"] == pytest.approx(0.5, abs=0.001)
    assert told["p99"] == pytest.approx(0.99, abs=0.001)
    assert told["p999"] is None, "one sample says nothing of it"
    assert told["max"] == 1.0
    assert latencies(np.ones(LEAST_BEYOND * 1000))["p999"] == 1.0
    assert set(latencies(np.zeros(0)).values()) == {None}


def test_a_payment_has_arrived_with_the_first_alert_that_names_it() -> None:
    arrivals = Arrivals()
    arrivals.heard(msgspec.json.encode({"event_ids": ["a"], "revision": 1}), 1.0)
    arrivals.heard(msgspec.json.encode({"event_ids": ["a", "b"], "revision": 2}), 2.0)
    assert arrivals.at == {"a": 1.0, "b": 2.0}


@pytest.mark.service
@pytest.mark.timeout(300)
def test_every_alert_is_timed_in_kafka_and_in_redis(service_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(service_folder))
    config = LatencyConfig(rate=300.0, seconds=3.0, accounts=500, partitions=2, hidden=8, warm_seconds=1.0)
    try:
        result = run_latency(config, quiet=True)
    except ServiceUnavailable as error:
        cannot_be_had(str(error))
    assert json.loads(json.dumps(result)) == result
    assert result["rate"] == 300.0
    assert result["alerts"] > 0
    for place in ("kafka", "redis"):
        assert 0 < result[place]["p50"] <= result[place]["max"]
    assert result["max"] in (result["kafka"]["max"], result["redis"]["max"])
    assert list(service_folder.glob("headgate-bench-*")) == []
