"""What the benchmark makes of samples and counts, and which disk it takes; without services."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ops.bench import stage
from ops.bench.contestants import Alerts, contestant
from ops.bench.measure import BenchmarkFailed, Limits, Sample, Stored, follow, pace
from ops.bench.stage import deepest_mount, disk_folder
from ops.bench.throughput import Run, show, summary
from ops.service import ServiceUnavailable

RIGHT = Stored(counted=10, transactions=10, predictions=10, distinct_events=10, flagged=1, unbalanced=0)


class Progress:
    """Events in SQL by second of a clock that sleeping moves on."""

    def __init__(self, *events: int) -> None:
        self.events, self.moment = events, 0.0

    def clock(self) -> float:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += seconds

    def in_sql(self) -> int:
        return self.events[min(int(self.moment), len(self.events) - 1)]

    def follow(self, target: int, limits: Limits, failure: str | None = None) -> list[Sample]:
        return follow(self.in_sql, lambda: failure, target, limits, started=0.0, clock=self.clock, sleep=self.sleep)


def test_the_pace_counts_from_the_first_commit_to_the_last() -> None:
    samples = Progress(0, 0, 100, 100, 400, 700).follow(700, Limits())

    found = pace(samples, started=0.0)

    assert [sample.events for sample in samples] == [100, 400, 700]
    assert found.events == 700
    assert found.events_per_second == pytest.approx(600 / 3, rel=0.05)
    assert found.first_commit == pytest.approx(2, abs=0.1)
    assert found.total == pytest.approx(5, abs=0.1)


def test_one_commit_of_everything_is_measured_from_the_start() -> None:
    assert pace([Sample(4.0, 100)], started=2.0).events_per_second == 50


def test_a_slow_contestant_is_stopped_after_the_measured_time() -> None:
    samples = Progress(*range(1000)).follow(1000, Limits(measured=10))

    assert samples[-1].events == 11
    assert pace(samples, started=0.0).events_per_second == pytest.approx(1.0, rel=0.05)


def test_a_contestant_that_never_commits_fails() -> None:
    with pytest.raises(BenchmarkFailed, match="no commit in 5 s"):
        Progress(0).follow(10, Limits(first_commit=5))


def test_a_contestant_that_stalls_fails() -> None:
    with pytest.raises(BenchmarkFailed, match="no progress in 5 s, at 3 of 10 events"):
        Progress(0, 3).follow(10, Limits(stall=5))


def test_a_contestant_whose_process_ends_fails_with_its_words() -> None:
    with pytest.raises(BenchmarkFailed, match="out of memory"):
        Progress(0).follow(10, Limits(), failure="out of memory")


def test_a_contestant_that_ended_after_its_last_commit_has_done_its_work() -> None:
    assert Progress(10).follow(10, Limits(), failure="it ended")[-1].events == 10


def test_what_is_stored_must_agree_with_itself_and_with_the_topic() -> None:
    assert RIGHT.problems(10) == []
    assert RIGHT.problems(None) == []
    assert RIGHT.problems(11) == ["10 predictions of 11 events"]
    for name in ("counted", "transactions", "predictions", "distinct_events"):
        assert replace(RIGHT, **{name: 9}).problems(None), name
    assert replace(RIGHT, unbalanced=1).problems(10) == ["1 partitions do not add up"]


def test_alerts_must_be_in_all_three_places_and_there_must_be_some() -> None:
    assert Alerts(sql=3, kafka=3, redis=3).problems() == []
    assert Alerts(sql=3, kafka=2, redis=3).problems()
    assert Alerts(sql=3, kafka=3, redis=4).problems()
    assert Alerts(sql=0, kafka=0, redis=0).problems()


def run(number: int, name: str, events_per_second: float, problem: str | None = None) -> Run:
    speed = pace([Sample(0.0, 0), Sample(1.0, int(events_per_second))], started=-1.0)
    return Run(number, name, speed, True, RIGHT, None, 1, [problem] if problem else [])


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    runs = [run(0, "headgate", 100), run(0, "faust", 10), run(1, "headgate", 60), run(1, "faust", 3)]
    runs += [run(2, "faust", 20, "wrong"), run(2, "headgate", 80)]

    result = summary(runs, ["headgate", "faust"])

    assert result["events_per_second"] == 80
    assert result["peers"] == {"faust": 10}
    assert result["ratios"] == {"faust": 10}
    assert result["spread"] == {"headgate": [60, 100], "faust": [3, 20]}
    assert result["checks"] == {"headgate": True, "faust": False}


def test_a_person_sees_each_contestant_on_one_line_of_80_columns() -> None:
    runs = [run(0, "headgate", 54_321), run(0, "faust", 10_000), run(0, "quix", 20_000, "wrong")]
    result = summary(runs, ["headgate", "faust", "quix"]) | {
        "events": 600_000,
        "accounts": 100_000,
        "partitions": 4,
        "hidden": 64,
        "disk": {"file_system": "ext4"},
        "machine": {"cores": 2, "python": "3.11.7"},
    }
    console = Console(file=io.StringIO(), width=80)

    show(result, console)

    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    wanted = {"Headgate": ("54,321", "yes"), "Faust": ("10,000", "5.4 times"), "Quix": ("20,000", "2.7 times", "NO")}
    for name, parts in wanted.items():
        (line,) = [line for line in lines if line.startswith(f"\N{BOX DRAWINGS LIGHT VERTICAL} {name}")]
        assert all(part in line for part in parts), line


def test_a_peer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BenchmarkFailed, match="'flink'; choose from faust, quix, bytewax"):
        contestant("flink")


MOUNTS = [
    "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    "23 22 0:21 / /tmp rw,nosuid shared:3 - tmpfs tmpfs rw",
    "24 23 254:1 / /tmp/disk rw - xfs /dev/vdb rw",
]


@pytest.mark.parametrize(
    ("folder", "kind"), [("/var/tmp", "ext4"), ("/tmp", "tmpfs"), ("/tmp/disk/a", "xfs"), ("/tmpx", "ext4")]
)
def test_the_file_system_is_that_of_the_deepest_mount(folder: str, kind: str) -> None:
    assert deepest_mount(Path(folder), MOUNTS) == kind


def test_of_two_mounts_at_one_point_the_later_one_counts() -> None:
    assert deepest_mount(Path("/tmp"), [*MOUNTS, "25 22 254:2 / /tmp rw - btrfs /dev/vdc rw"]) == "btrfs"


def test_a_machine_without_a_real_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "file_system_of", lambda folder: "tmpfs")

    with pytest.raises(ServiceUnavailable, match="real disk"), disk_folder():
        pass


def test_the_folder_is_gone_after_a_failure() -> None:
    kept: list[Path] = []

    def fail_inside() -> None:
        with disk_folder() as (folder, _):
            kept.append(folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_inside()

    assert not kept[0].exists()
