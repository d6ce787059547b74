"""A part in another process: its progress and result arrive, and what is wrong with it is told in one line."""

import sys
from pathlib import Path

import pytest

from ops.bench.measure import BenchmarkFailed
from ops.bench.recommendation import processes
from ops.bench.recommendation.processes import prepare_environment, run_part

PART = """#!{python}
import sys
{lines}
"""


def python_that(folder: Path, *lines: str) -> Path:
    """Stands in for the benchmark environment's Python."""
    script = folder / "python"
    script.write_text(PART.format(python=sys.executable, lines="\n".join(lines)))
    script.chmod(0o755)
    return script


def test_progress_and_the_result_arrive_and_arguments_are_passed(tmp_path: Path) -> None:
    python = python_that(
        tmp_path,
        """print('{"stage": "training", "done": 0.5}')""",
        """print("a package's own words", file=sys.stderr)""",
        """print('{"result": {"arguments": %s}}' % sys.argv[-1])""",
    )
    told: list[tuple[str, float]] = []
    result = run_part(python, "recogym", {"worlds": [42]}, lambda stage, done: told.append((stage, done)))
    assert result == {"arguments": {"worlds": [42]}}
    assert told == [("training", 0.5)]


def test_a_known_failure_is_told_in_its_own_words(tmp_path: Path) -> None:
    python = python_that(tmp_path, """print('{"failed": "vowpalwabbit is not installed"}')""", "sys.exit(1)")
    with pytest.raises(BenchmarkFailed, match=r"^recogym: vowpalwabbit is not installed$"):
        run_part(python, "recogym", {}, lambda stage, done: None)


@pytest.mark.parametrize(("line", "said"), [("raise SystemExit('broken')", "broken"), ("pass", "exit code 0")])
def test_a_part_that_ends_without_a_result_is_told_with_the_end_of_its_log(
    tmp_path: Path, line: str, said: str
) -> None:
    with pytest.raises(BenchmarkFailed, match=said):
        run_part(python_that(tmp_path, line), "gate", {}, lambda stage, done: None)


def test_without_a_checkout_the_benchmark_says_that_it_needs_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "CHECKOUT", tmp_path)
    with pytest.raises(BenchmarkFailed, match="needs a checkout of Headgate"):
        prepare_environment()
