"""`headgate bench faults`: a seeded run of faults against real workers and services, with a table as its result."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.faults.bugs import BUGS
from ops.bench.faults.injections import FAULTS
from ops.bench.faults.rounds import Result, append_result, read_results, run_rounds, summary
from ops.bench.faults.schedule import Round, schedule
from ops.bench.faults.worker_process import NeverHappened
from ops.bench.faults.world import world
from ops.bench.measure import BenchmarkFailed
from ops.bench.stage import disk_folder
from ops.bench.throughput import ending_on_sigterm
from ops.progress import progress_bar

#: Seconds from one pass of `headgate retrain` to the next.
RETRAINED_EVERY = 60.0
#: Then comes another: at its end everything is checked from the beginning, which takes longer the more there is.
ROUNDS_OF_A_WORLD = 30


def run_faults(
    *, seed: int, rounds: int, faults: Sequence[str], results: Path | None, bug: str | None, quiet: bool
) -> dict[str, Any]:
    """The result as `--json` prints it; shown as a table unless quiet. results: a file to go on from and to append to;
    rounds of other seeds in it count too. Raises BenchmarkFailed for a violation, ServiceUnavailable."""
    chosen = chosen_faults(faults)
    if bug is not None and bug not in BUGS:
        raise BenchmarkFailed(f"there is no bug {bug!r}; choose from {', '.join(BUGS)}")
    done = read_results(results) if results else []
    left = not_finished(schedule(seed, rounds, chosen), seed, done)
    goal = len(done) + len(left)
    with ending_on_sigterm(), progress_bar(quiet) as progress:
        while left:
            try:
                with (
                    disk_folder() as (folder, _),
                    world(folder, seed + len(done), progress, bug=bug, retrained_every=RETRAINED_EVERY) as made,
                ):
                    for result in run_rounds(made, seed, left[:ROUNDS_OF_A_WORLD]):
                        _note(results, result)
                        done.append(result)
                        progress("rounds", len(done) / goal)
            except NeverHappened as error:
                raise BenchmarkFailed(f"the deployment does not get going: {error}") from error
            left = not_finished(left, seed, done)
    found = summary(done)
    console = Console()
    if not quiet:
        console.print(table(found))
    violations = [f"round {result.number} ({result.fault}): {text}" for result in done for text in result.violations]
    if violations:
        raise BenchmarkFailed("\n".join(["the invariants do not hold:", *violations[:20]]))
    return {"faults": found}


def not_finished(rounds: Sequence[Round], seed: int, done: Sequence[Result]) -> list[Round]:
    finished = {result.number for result in done if result.seed == seed}
    return [one for one in rounds if one.number not in finished]


def chosen_faults(names: Sequence[str]) -> list[str]:
    """All where none is named. Raises BenchmarkFailed."""
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise BenchmarkFailed(f"there is no fault {unknown[0]!r}; choose from {', '.join(FAULTS)}")
    return list(names) or list(FAULTS)


def described() -> dict[str, str]:
    """Fault -> what it does, for the documentation."""
    return {name: inspect.cleandoc(fault.__doc__ or "").replace("\n", " ") for name, fault in FAULTS.items()}


def table(found: Mapping[str, Any]) -> Table:
    """For a person; fits 80 columns. stall: the median over a fault's rounds."""
    shown = Table(title=f"{found['rounds']} rounds, {found['records']:,} records", title_justify="left")
    for name in ("fault", "rounds", "lost", "doubled", "state", "stall", "at most"):
        shown.add_column(name, justify="left" if name == "fault" else "right", no_wrap=True)
    for fault, row in sorted(found["by_fault"].items()):
        shown.add_row(
            fault,
            *(str(row[name]) for name in ("rounds", "lost", "doubled", "state_errors")),
            f"{row['median_stall_seconds']:.1f} s",
            f"{row['max_stall_seconds']:.1f} s",
        )
    shown.add_section()
    counts = [str(found[name]) for name in ("rounds", "lost", "doubled", "state_errors")]
    shown.add_row("all", *counts, "", f"{found['max_stall_seconds']:.1f} s")
    return shown


def _note(results: Path | None, result: Result) -> None:
    if results is not None:
        append_result(results, result)
