"""`headgate bench recommendation`: every part with progress, then a table for each, and one result for `--json`.

What a part needs of other packages decides where it runs: RecSim, RecoGym and obp in a process of the benchmark
environment (processes.py), the rest right here. The keys that benchmarks' readers rely on are in `result_of`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from ops.bench.measure import BenchmarkFailed
from ops.bench.processes import Progress
from ops.bench.recommendation.processes import prepare_environment, run_part
from ops.bench.recommendation.tables import tables
from ops.progress import progress_bar

#: Slates of training in RecSim; the worlds of RecoGym, of which the first has the published figures.
STEPS, WORLDS = 300_000, (42, 0)
LATENCY_RATE, LATENCY_SECONDS = 500.0, 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """arguments(seed): of the part's function beside progress. here: runs it in this process; None where it needs the
    benchmark environment."""

    name: str
    arguments: Callable[[int], Mapping[str, Any]]
    here: Callable[..., Any] | None = None


def _gate(**arguments: Any) -> Any:
    from ops.bench.recommendation.gate import gate_benchmark

    return gate_benchmark(**arguments)


def _learning(**arguments: Any) -> Any:
    from ops.bench.recommendation.learning import learning_benchmark

    return learning_benchmark(**arguments)


def _speed(**arguments: Any) -> Any:
    from ops.bench.recommendation.speed import speed_benchmark

    return speed_benchmark(**arguments)


def _latency(**arguments: Any) -> Any:
    from ops.bench.recommendation.latency import latency_benchmark

    return latency_benchmark(**arguments)


PARTS = (
    Part("recsim_interest", lambda seed: {"seed": seed, "steps": STEPS}),
    Part("recsim_satisfaction", lambda seed: {"seed": seed}),
    Part("recogym", lambda seed: {"worlds": WORLDS}),
    Part("open_bandit", lambda seed: {}),
    Part("gate", lambda seed: {"seed": seed}, _gate),
    Part("learning", lambda seed: {"seed": seed}, _learning),
    Part("speed", lambda seed: {"seed": seed}, _speed),
    Part("latency", lambda seed: {"rate": LATENCY_RATE, "seconds": LATENCY_SECONDS}, _latency),
)


def run_recommendation(
    names: Sequence[str], seed: int, *, quiet: bool, parts: Sequence[Part] = PARTS
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as tables unless quiet. names: of parts, all if empty. Raises
    BenchmarkFailed, ServiceUnavailable."""
    chosen = chosen_parts(names, parts)
    python = None if all(part.here for part in chosen) else prepare_environment()
    found = {}
    with progress_bar(quiet) as progress:
        for part in chosen:
            named = _named(part.name, progress)
            if part.here is not None:
                found[part.name] = part.here(**part.arguments(seed), progress=named)
            elif python is not None:
                found[part.name] = run_part(python, part.name, part.arguments(seed), named)
    result = result_of(found)
    if not quiet:
        console = Console()
        for table in tables(result):
            console.print(table)
    return result


def chosen_parts(names: Sequence[str], parts: Sequence[Part]) -> list[Part]:
    """In the benchmark's own order. Raises BenchmarkFailed."""
    known = [part.name for part in parts]
    for name in names:
        if name not in known:
            raise BenchmarkFailed(f"--parts has no {name!r}; there are {', '.join(known)}")
    return [part for part in parts if part.name in names or not names]


def result_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The stable keys: recsim_interest {"reward", "low", "high", "baselines"}, recsim_satisfaction {sensitivity:
    {"reward", "best_constant"}}, recogym {"ctr", "low", "high", "baselines"}, gate, speed. Parts that did not run have
    none."""
    result = dict(found)
    if "recsim_interest" in found:
        baselines = dict(found["recsim_interest"])
        result["recsim_interest"] = {**baselines.pop("recommender"), "baselines": baselines}
    if "latency" in found:
        result["speed"] = {**result.get("speed", {}), "latency": result.pop("latency")}
    return result


def _named(part: str, progress: Progress) -> Progress:
    return lambda stage, done: progress(f"{part}: {stage}", done)
