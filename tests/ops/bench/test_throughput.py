"""The benchmark at a tiny scale, on services of its own: that it measures what it says and leaves nothing behind.

How fast anything is, is not asserted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ops.bench.throughput import run_throughput
from ops.service import ServiceUnavailable
from tests.conftest import cannot_be_had

CHECKOUT = Path(__file__).parents[3]
EVENTS = 6_000
PEERS = ["faust", "quix", "bytewax"]

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_every_contestant_stores_every_event_once_and_nothing_stays_behind(
    service_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(service_folder))
    monkeypatch.setenv("HEADGATE_GROUP", "someone-elses")  # the user's own settings play no part
    monkeypatch.setenv("HEADGATE_TOPIC_PREFIX", "wrong.")
    try:
        result = run_throughput(events=EVENTS, accounts=500, partitions=2, hidden=8, rounds=1, peers=PEERS, quiet=True)
    except ServiceUnavailable as error:
        cannot_be_had(str(error))

    assert json.loads(json.dumps(result)) == result
    assert result["events_per_second"] > 0
    assert set(result["peers"]) == set(result["ratios"]) == set(PEERS)
    assert result["checks"] == dict.fromkeys(["headgate", *PEERS], True)
    assert [run["contestant"] for run in result["rounds"]] == ["headgate", *PEERS]
    assert {"faust-streaming", "quixstreams", "bytewax"} <= set(result["machine"]["packages"])
    for run in result["rounds"]:
        assert run["complete"]
        assert run["problems"] == []
        assert run["stored"]["predictions"] == run["stored"]["distinct_events"] == EVENTS
    alerts = result["rounds"][0]["alerts"]
    assert alerts["sql"] == alerts["kafka"] == alerts["redis"] > 0
    flagged = [run["stored"]["flagged"] for run in result["rounds"]]
    assert max(flagged) - min(flagged) <= 2, "one model, the same events; batches of another shape move scores by 1e-6"
    assert result["disk"]["fsync"]
    assert {"events", "accounts", "partitions", "hidden", "machine"} <= set(result)
    assert list(service_folder.glob("headgate-*")) == []
    assert processes_of(service_folder) == []


def test_a_benchmark_that_is_told_to_end_leaves_no_process_and_no_folder(service_folder: Path) -> None:
    service_folder.chmod(0o755)
    command = [sys.executable, "-m", "ops", "bench", "throughput"]
    benchmark = subprocess.Popen(
        [*command, "--events", "2000", "--hidden", "8", "--partitions", "1", "--peers", "", "--json"],
        env={**os.environ, "TMPDIR": str(service_folder), "PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(service_folder.glob("headgate-bench-*/bench-headgate-*/*.log")):
            if benchmark.poll() is not None:
                said = benchmark.communicate()[1]
                assert "Traceback" not in said
                cannot_be_had(said)
            time.sleep(0.1)
        benchmark.send_signal(signal.SIGTERM)

        assert benchmark.wait(60) == 128 + signal.SIGTERM
    finally:
        benchmark.kill()
        benchmark.communicate()
    assert list(service_folder.glob("headgate-*")) == []
    assert processes_of(service_folder) == []
