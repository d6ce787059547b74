"""Results of benchmarks become pictures; what no benchmark printed is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from ops.bench.measure import BenchmarkFailed
from ops.bench.plots import KINDS, plot_result

TAKEN = {"p50": 0.02, "p90": 0.04, "p99": 0.08, "p999": None, "max": 0.2}
RESULTS: dict[str, dict[str, Any]] = {
    "peers": {
        "events_per_second": 50_000.0,
        "peers": {"quix": 20_000.0},
        "spread": {"headgate": [48_000.0, 52_000.0], "quix": [19_000.0, 21_000.0]},
    },
    "sent_late": {"rate": 1_000.0, "kafka": TAKEN, "redis": TAKEN, "sent_late": TAKEN},
    "resident_mebibytes": {"rate": 20_000, "resident_mebibytes": {"0": 600.0, "1": 900.0}},
    "first_view": {
        "v_predictions": 1_000,
        "v_alerts": 50,
        "first_view": {"median": 0.7, "max": 0.9},
        "pages": {"live": {"median": 0.02, "max": 0.03}},
    },
    "entities": {"entities": {"10000": {"cpu": 12.6}, "100000": {"cpu": 12.3}}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_becomes_a_picture_that_is_not_blank(kind: str, tmp_path: Path) -> None:
    result, picture = tmp_path / "result.json", tmp_path / "plot.png"
    result.write_text(f"said before\n{json.dumps(RESULTS[kind])}\n")
    plot_result(result, picture)
    pixels = imread(picture)
    assert pixels.shape[0] > 100
    assert len({tuple(pixel) for pixel in pixels[::7, ::7, :3].reshape(-1, 3).tolist()}) > 5


@pytest.mark.parametrize("content", ["", "no JSON", "[1]", '{"other": 1}'])
def test_what_no_benchmark_printed_is_refused_and_nothing_is_written(content: str, tmp_path: Path) -> None:
    result, picture = tmp_path / "result.json", tmp_path / "plot.png"
    result.write_text(content)
    with pytest.raises(BenchmarkFailed, match=r"result\.json"):
        plot_result(result, picture)
    assert not picture.exists()
