"""The benchmark of the console's pages: its arithmetic, and all of it at a tiny scale. How long is not asserted."""

import json
import tempfile
from pathlib import Path

import pytest

from ops.bench.browser import chromium
from ops.bench.console import ConsoleConfig, browser_program, run_console, shortly
from ops.bench.measure import BenchmarkFailed
from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had


def test_of_a_page_s_times_the_median_and_the_longest_are_told() -> None:
    assert shortly([0.3, 0.1, 0.9]) == {"median": 0.3, "max": 0.9}


def test_without_a_browser_the_benchmark_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchmarkFailed, match="Debian's package is called chromium"):
        browser_program()


@pytest.mark.service
@pytest.mark.timeout(300)
def test_every_page_of_the_console_is_timed_on_what_a_worker_stored(
    service_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chromium() is None:
        cannot_be_had("no Chromium: install Debian's package chromium")
    service_folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(service_folder))
    try:
        result = run_console(ConsoleConfig(2_000, alert_share=0.05, accounts=200, loads=1), quiet=True)
    except ServiceUnavailable as error:
        cannot_be_had(str(error))
    assert json.loads(json.dumps(result)) == result
    assert result["v_predictions"] == 2_000
    assert result["v_alerts"] > 10
    assert all(0 < taken["median"] <= taken["max"] for taken in [result["first_view"], *result["pages"].values()])
    assert {"live", "alerts", "one alert", "models", "recommendations", "data"} <= result["pages"].keys()
    assert list(service_folder.glob("headgate-bench-*")) == []
