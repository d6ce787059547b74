"""The benchmark of endurance: its arithmetic, and all of it at a tiny scale. How much memory is not asserted."""

import json
import os
import tempfile
from pathlib import Path

import msgspec
import pytest

from ops.bench.endurance import EnduranceConfig, Reading, payments, resident_mebibytes, run_endurance, summary
from ops.bench.measure import BenchmarkFailed
from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had


def test_memory_that_grows_once_it_has_settled_shows_as_growth_an_hour() -> None:
    filling = [Reading(60.0 * n, 100.0 + 200.0 * n, 0) for n in range(10)]
    growing = [Reading(60.0 * n, 2_000.0 + n, n) for n in range(10, 31)]
    told = summary([*filling, *growing])
    assert told["growth_mebibytes_an_hour"] == pytest.approx(60.0)
    assert told["spread_mebibytes"] == pytest.approx(20.0)
    assert told["most_behind"] == 30
    assert (told["behind"]["9"], told["behind"]["30"]) == (0, 30)
    assert told["resident_mebibytes"]["2"] == 500.0


def test_memory_that_fills_at_first_and_then_stays_is_flat() -> None:
    told = summary([Reading(5.0 * n, min(100.0 + 20.0 * n, 800.0), 0) for n in range(360)])
    assert told["growth_mebibytes_an_hour"] == pytest.approx(0.0, abs=1e-6)
    assert told["settled_mebibytes"] == pytest.approx(800.0)


def test_each_payment_has_an_id_of_its_own_and_the_key_of_its_account() -> None:
    times = iter(range(1_000, 1_010))
    messages = [message for piece in payments(50, 20, 10, lambda: next(times)) for message in piece]
    decoded = [msgspec.json.decode(value) for _, value in messages]
    assert len({event["event_id"] for event in decoded}) == 200
    assert [key for key, _ in messages] == [event["account_id"] for event in decoded]
    assert sorted({event["occurred_at"] for event in decoded}) == list(range(1_000, 1_010))


def test_resident_memory_is_that_of_the_process() -> None:
    assert 10 < resident_mebibytes(os.getpid()) < 100_000


def test_a_rate_that_does_not_come_in_equal_pieces_is_refused_before_anything_starts() -> None:
    with pytest.raises(BenchmarkFailed, match="multiple of 20"):
        run_endurance(EnduranceConfig(30, 0.1, accounts=50, partitions=2, hidden=8), quiet=True)


@pytest.mark.service
@pytest.mark.timeout(300)
def test_every_payment_of_an_even_load_is_scored_once(service_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service_folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(service_folder))
    try:
        result = run_endurance(EnduranceConfig(200, 0.1, accounts=50, partitions=2, hidden=8), quiet=True)
    except ServiceUnavailable as error:
        cannot_be_had(str(error))
    assert json.loads(json.dumps(result)) == result
    assert result["events"] == 1_200
    assert result["settled_mebibytes"] > 0
    assert list(service_folder.glob("headgate-bench-*")) == []
