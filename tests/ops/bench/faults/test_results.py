"""What rounds came to: kept in a file, read again where a run goes on, and summed up."""

from pathlib import Path

import pytest

from ops.bench.faults.bugs import BUGS
from ops.bench.faults.command import chosen_faults, described, not_finished, table
from ops.bench.faults.injections import FAULTS
from ops.bench.faults.rounds import Result, append_result, read_results, summary
from ops.bench.faults.schedule import schedule
from ops.bench.measure import BenchmarkFailed
from tests.deployment import CHECKOUT


def result(seed: int, number: int, fault: str = "freeze", stall: float = 1.0, lost: int = 0) -> Result:
    return Result(seed, number, fault, 10.0, stall, records=100, lost=lost, violations=["lost: x"] * lost)


def test_a_run_goes_on_behind_the_finished_rounds_of_its_seed(tmp_path: Path) -> None:
    file = tmp_path / "rounds.jsonl"
    assert read_results(file) == []
    finished = [result(1, 0), result(2, 1), result(1, 3, lost=2)]
    for one in finished:
        append_result(file, one)
    assert read_results(file) == finished
    rounds = schedule(1, 5, ["freeze"])
    assert [one.number for one in not_finished(rounds, 1, finished)] == [1, 2, 4]
    assert [one.number for one in not_finished(rounds, 2, finished)] == [0, 2, 3, 4]


def test_the_summary_counts_by_fault_and_over_all() -> None:
    found = summary([result(1, 0), result(1, 1, stall=4.0), result(1, 2, "leave", stall=3.0, lost=2)])
    assert (found["rounds"], found["lost"], found["doubled"], found["state_errors"]) == (3, 2, 0, 0)
    assert found["max_stall_seconds"] == 4.0
    assert found["by_fault"]["freeze"]["rounds"] == 2
    assert found["by_fault"]["leave"]["lost"] == 2
    assert table(found).row_count == 3


def test_without_rounds_there_is_nothing_to_sum_up() -> None:
    assert summary([])["max_stall_seconds"] == 0.0


def test_an_unknown_fault_is_refused_by_name() -> None:
    with pytest.raises(BenchmarkFailed, match="no fault 'meteor'"):
        chosen_faults(["freeze", "meteor"])
    assert chosen_faults([]) == list(FAULTS)


def test_every_fault_and_every_bug_is_described_on_the_page_of_reliability() -> None:
    page = (CHECKOUT / "docs" / "reliability.md").read_text()
    for name, text in described().items():
        assert f"| `{name}` | {text} |" in page
    assert [bug for bug in BUGS if f"| `{bug}` |" not in page] == []
