"""What a process of a benchmark tells the one that started it."""

import json

import pytest

from ops.bench.measure import BenchmarkFailed
from ops.bench.processes import Progress, followed


def test_it_tells_how_far_it_is_and_its_result_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    def work(progress: Progress) -> list[int]:
        progress("half", 0.5)
        print("a package's own words")
        return [1, 2]

    assert followed(work) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines == [{"stage": "half", "done": 0.5}, {"result": [1, 2]}]
    assert said.err == "a package's own words\n"


def test_a_known_failure_is_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def work(progress: Progress) -> None:
        raise BenchmarkFailed("a score is no number")

    assert followed(work) == 1
    assert json.loads(capsys.readouterr().out) == {"failed": "a score is no number"}
