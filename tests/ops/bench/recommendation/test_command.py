"""The command's wiring with parts whose figures are known: which run, what the result's keys are, what is shown."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ops.bench.measure import BenchmarkFailed
from ops.bench.recommendation import command
from ops.bench.recommendation.command import PARTS, Part, chosen_parts, result_of, run_recommendation
from ops.bench.recommendation.part import FUNCTIONS
from ops.bench.recommendation.tables import tables

REWARD = {"reward": 250.0, "low": 240.0, "high": 260.0}
CLICKS = {"ctr": 0.021, "low": 0.02, "high": 0.022}
WORLD = {**CLICKS, "baselines": {"vw_squarecb": {"ctr": 0.0162, "low": 0.015, "high": 0.017}}}
DIRECTION = {
    **{"ips": 0.0046, "low": 0.003, "high": 0.006, "effective_sample_size": 1640.0, "largest_weight": 19.6},
    **{"obp": {"ipw": 0.0046}, "verdict": "refuse"},
}
RATES = {"false_promotion_rate": 0.01, "true_promotion_rate": 0.9}
FOUND = {
    "recsim_interest": {"recommender": REWARD, "random": {"reward": 160.8, "low": 160.0, "high": 161.6}},
    "recsim_satisfaction": {"0.01": {**REWARD, "best_constant": 255.0}},
    "recogym": {**WORLD, "worlds": {"42": WORLD, "0": WORLD}},
    "open_bandit": {"all": {"random_to_bts": DIRECTION}},
    "gate": {"logs": 200, "not_better": 100, "headgate": RATES, "obp_ipw": RATES},
    "speed": {"decisions_per_second": {"1000": {"2048": 12_345.0}}},
    "latency": {"rate": 500.0, "p50": 0.005, "p99": 0.015, "max": 0.03},
}


def made_up(name: str) -> Part:
    def run(seed: int, progress: Callable[[str, float], None]) -> Any:
        progress("work", 1.0)
        return FOUND[name]

    return Part(name, lambda seed: {"seed": seed}, run)


def test_the_result_has_the_stable_keys() -> None:
    result = run_recommendation([], 0, quiet=True, parts=[made_up(name) for name in FOUND])
    assert json.loads(json.dumps(result)) == result
    assert result["recsim_interest"] == {**REWARD, "baselines": {"random": FOUND["recsim_interest"]["random"]}}
    assert {"reward", "best_constant"} <= set(result["recsim_satisfaction"]["0.01"])
    assert {"ctr", "low", "high"} <= set(result["recogym"])
    assert "vw_squarecb" in result["recogym"]["baselines"]
    assert result["gate"] == FOUND["gate"]
    assert result["speed"] == {**FOUND["speed"], "latency": FOUND["latency"]}


def test_parts_that_are_not_named_do_not_run() -> None:
    parts = [made_up("gate"), Part("recogym", lambda seed: {}, lambda **_: pytest.fail("was not asked for"))]
    assert run_recommendation(["gate"], 0, quiet=True, parts=parts) == {"gate": FOUND["gate"]}


def test_parts_run_in_the_benchmarks_order_and_unknown_ones_are_named() -> None:
    assert [part.name for part in chosen_parts(["gate", "recogym"], PARTS)] == ["recogym", "gate"]
    assert chosen_parts([], PARTS) == list(PARTS)
    with pytest.raises(BenchmarkFailed, match=r"no 'nothing'; there are recsim_interest, .*latency"):
        chosen_parts(["gate", "nothing"], PARTS)


def test_every_part_without_a_function_here_has_one_in_the_benchmark_environment() -> None:
    assert {part.name for part in PARTS if part.here is None} == set(FUNCTIONS)


def test_only_parts_that_need_it_prepare_the_benchmark_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Path] = []

    def prepare() -> Path:
        prepared.append(Path("python"))
        return prepared[-1]

    monkeypatch.setattr(command, "prepare_environment", prepare)
    run_recommendation(["gate"], 0, quiet=True, parts=[made_up("gate")])
    assert prepared == []
    monkeypatch.setattr(command, "run_part", lambda python, name, arguments, progress: arguments)
    there = Part("recogym", lambda seed: {"worlds": [seed]})
    assert run_recommendation([], 3, quiet=True, parts=[there]) == {"recogym": {"worlds": [3]}}
    assert prepared == [Path("python")]


def test_every_part_has_a_table_that_shows_its_figures() -> None:
    shown = StringIO()
    console = Console(width=100, file=shown)
    for table in tables(result_of(FOUND)):
        console.print(table)
    for figure in ("250.0", "98.0%", "2.10", "1.62", "0.0046", "90.0%", "12,345", "15.0 ms"):
        assert figure in shown.getvalue()
