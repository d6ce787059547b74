"""`headgate bench scaling`: how the cost of an event and the throughput change with accounts, a hot key, memos,
partitions, workers.

entities and hot_key: the thread that scores, in process (event_cost.py). partitions and workers: the whole durable path
on services of its own (scaling_service.py). memos: both. Here is what they
are asked, and what is made of their answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.event_cost import Cost, Costs, Load, Progress, in_a_process_of_its_own, median_cost
from ops.bench.measure import BenchmarkFailed
from ops.bench.scaling_service import ServiceLoad, by_memos, by_partitions, by_workers, runs_summary
from ops.bench.throughput import Run, ending_on_sigterm, machine
from ops.progress import progress_bar

#: Of the events, those of the hot account; what its events may cost, times evenly spread ones.
HOT_SHARE = 0.4
MOST_HOT_RATIO = 2.0
PARTS = ("entities", "hot_key", "memos", "partitions", "workers")
#: What memos may take of the throughput.
LEAST_MEMO_RATIO = 0.85

Named = Callable[[str, float], None]
Measure = Callable[[Load, Progress], Costs]


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """accounts: numbers of them for `entities`; hot_accounts: how many there are where one is hot, and for
    memos; memo_share: of events with a memo; memo_rounds: of runs without and with memos in turn; partitions and
    workers: numbers of them; load: of each run with services."""

    accounts: Sequence[int] = (10_000, 100_000, 1_000_000)
    hot_accounts: int = 100_000
    stretches: int = 7
    batches: int = 12
    partitions: Sequence[int] = (1, 4, 16, 64)
    workers: Sequence[int] = (1, 2)
    memo_share: float = 0.5
    memo_rounds: int = 3
    load: ServiceLoad = field(default_factory=ServiceLoad)


def run_scaling(
    parts: Sequence[str], config: ScalingConfig, *, quiet: bool, measure: Measure = in_a_process_of_its_own
) -> dict[str, Any]:
    """The result as `--json` prints it, in microseconds and events a second; shown as tables unless quiet. Raises
    BenchmarkFailed, ServiceUnavailable."""
    if unknown := set(parts) - set(PARTS):
        raise BenchmarkFailed(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    with ending_on_sigterm(), progress_bar(quiet) as progress:
        found = {part: measured(part, config, progress, measure) for part in PARTS if part in parts}
    result = {**found, "machine": machine()}
    if not quiet:
        show(result, Console())
    failed = [problem for part in ("partitions", "workers") for problem in problems_of(found.get(part, {}))]
    failed += found.get("memos", {}).get("problems", [])
    if failed:
        raise BenchmarkFailed(f"the figures do not count: {'; '.join(failed)}")
    return result


def measured(part: str, config: ScalingConfig, progress: Named, measure: Measure) -> dict[str, Any]:
    match part:
        case "entities":
            costs = {}
            for number in config.accounts:
                load = Load(number, stretches=config.stretches, batches=config.batches, hidden=config.load.hidden)
                (costs[number],) = measure(load, partial(progress, f"{number:,} accounts"))
            return entities_summary(costs)
        case "hot_key":
            shares = (0.0, HOT_SHARE)
            load = Load(config.hot_accounts, shares, config.stretches, config.batches, config.load.hidden)
            evenly, hot = measure(load, partial(progress, "hot key"))
            return {"accounts": config.hot_accounts, "hot_share": HOT_SHARE, **hot_key_summary(evenly, hot)}
        case "memos":
            load = Load(config.hot_accounts, (0.0,), config.stretches, config.batches, config.load.hidden)
            load = replace(load, memo_shares=(0.0, config.memo_share))
            without, with_memos = measure(load, partial(progress, "memos"))
            runs = by_memos(config.memo_share, config.memo_rounds, config.load, progress)
            return {"share": config.memo_share, **memos_summary(without, with_memos, runs)}
        case "partitions":
            return runs_summary(by_partitions(config.partitions, config.load, progress), lambda number: 1)
        case _:
            return runs_summary(by_workers(config.workers, config.load, progress), lambda number: number)


def entities_summary(costs: Mapping[int, Sequence[Cost]]) -> dict[str, Any]:
    """By number of accounts: medians, and how many times that of the smallest number an event costs in CPU time."""
    smallest = median_cost(costs[min(costs)]).cpu
    return {
        str(number): {
            **asdict(median_cost(stretches)),
            "ratio": median_cost(stretches).cpu / smallest,
            "stretches": [asdict(cost) for cost in stretches],
        }
        for number, stretches in costs.items()
    }


def hot_key_summary(evenly: Sequence[Cost], hot: Sequence[Cost]) -> dict[str, Any]:
    """ratio: of CPU time, the median of the neighbouring stretches' own ratios, since the machine's mood changes."""
    ratio = median(one.cpu / other.cpu for one, other in zip(hot, evenly, strict=True))
    found = {
        name: {**asdict(median_cost(stretches)), "stretches": [asdict(cost) for cost in stretches]}
        for name, stretches in (("evenly", evenly), ("hot", hot))
    }
    return {**found, "ratio": ratio, "most_ratio": MOST_HOT_RATIO}


def memos_summary(
    without: Sequence[Cost], with_memos: Sequence[Cost], runs: Sequence[tuple[Run, Run]]
) -> dict[str, Any]:
    """cost_ratio: of CPU time in the thread that scores; ratio: of the whole path's events a second. Both are medians
    of neighbours' own ratios."""
    paces = [(one.pace.events_per_second, other.pace.events_per_second) for one, other in runs]
    return {
        "cost": {"without": asdict(median_cost(without)), "with": asdict(median_cost(with_memos))},
        "cost_ratio": median(other.cpu / one.cpu for one, other in zip(without, with_memos, strict=True)),
        "events_per_second": {"without": median(one for one, _ in paces), "with": median(other for _, other in paces)},
        "ratio": median(other / one for one, other in paces),
        "least_ratio": LEAST_MEMO_RATIO,
        "rounds": [{"without": one, "with": other} for one, other in paces],
        "problems": [problem for pair in runs for run in pair for problem in run.problems],
    }


def problems_of(runs: Mapping[str, Any]) -> list[str]:
    return [problem for run in runs.values() for problem in run["problems"]]


def show(result: Mapping[str, Any], console: Console) -> None:
    """For a person; fits 80 columns."""
    if said := result.get("entities"):
        rows = [[f"{int(number):,}", *_cost(cost), f"{cost['ratio']:.2f} times"] for number, cost in said.items()]
        console.print(_table("What an event costs", ("accounts", "us of CPU", "us", "the smallest's CPU"), rows))
    if said := result.get("hot_key"):
        rows = [
            ["evenly spread", *_cost(said["evenly"]), ""],
            [f"one has {said['hot_share']:.0%}", *_cost(said["hot"]), f"{said['ratio']:.2f} times"],
        ]
        title = f"What an event of {said['accounts']:,} accounts costs (wanted: at most {said['most_ratio']:g} times)"
        console.print(_table(title, ("events", "us of CPU", "us", "evenly's CPU"), rows))
    if said := result.get("memos"):
        rows = [
            [name, *_cost(said["cost"][name]), f"{said['events_per_second'][name]:,.0f}"]
            for name in ("without", "with")
        ]
        title = (
            f"Memos on {said['share']:.0%} of events: {said['ratio']:.2f} times the events/s (wanted: at least "
            f"{said['least_ratio']:g})"
        )
        console.print(_table(title, ("memos", "us of CPU", "us", "events/s, whole path"), rows))
    for part in ("partitions", "workers"):
        if said := result.get(part):
            rows = [
                [
                    number,
                    f"{run['events_per_second']:,.0f}",
                    f"{run['ratio']:.2f} times",
                    "no" if run["problems"] else "yes",
                ]
                for number, run in said.items()
            ]
            heading = (part, "events/s", "the first's", "every event once")
            console.print(_table(f"Whole durable path by {part}", heading, rows))
    on = result["machine"]
    console.print(f"{on['cores']} cores, Python {on['python']}")


def _cost(cost: Mapping[str, float]) -> list[str]:
    return [f"{cost['cpu']:.2f}", f"{cost['wall']:.2f}"]


def _table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in heading:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
