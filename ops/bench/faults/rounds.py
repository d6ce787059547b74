"""One round after the other on one world: inject a fault under load, wait for healing, pause the load, check, go on.

Finished rounds are appended to a results file as JSON lines; a run that was interrupted goes on behind them, with an
empty deployment of its own.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ops.bench.faults.audit import Auditor, Findings, settled
from ops.bench.faults.injections import FAULTS
from ops.bench.faults.load import LoadFailed
from ops.bench.faults.outcomes import Violation
from ops.bench.faults.schedule import Round
from ops.bench.faults.worker_process import NeverHappened
from ops.bench.faults.world import HEALING_SECONDS, World

#: Bytes that a worker may have resident: torch alone takes a third of it.
MOST_MEMORY = 1_500_000_000
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Result:
    """What a round came to. seconds: all of it; stall_seconds: the longest that any partition of the transactions got
    no outcome; *_repeats: messages beyond the first of the same id in Kafka, which kills allow."""

    seed: int
    number: int
    fault: str
    seconds: float
    stall_seconds: float
    records: int = 0
    alert_revisions: int = 0
    slates: int = 0
    alert_repeats: int = 0
    slate_repeats: int = 0
    memory_bytes: int = 0
    lost: int = 0
    doubled: int = 0
    state_errors: int = 0
    violations: Sequence[str] = field(default_factory=list)
    ended: Sequence[str] = field(default_factory=list)


def run_rounds(world: World, seed: int, rounds: Sequence[Round]) -> Iterator[Result]:
    """Each round's result; with the last one everything is checked from the beginning. It stops after a round from
    which the world did not come back."""
    auditor = Auditor.of(world.deployment)
    for count, one in enumerate(rounds, 1):
        result, goes_on = run_round(world, auditor, seed, one, whole=count == len(rounds))
        yield result
        if not goes_on:
            return


def run_round(world: World, auditor: Auditor, seed: int, one: Round, *, whole: bool = False) -> tuple[Result, bool]:
    """The result, and whether the world is as it should be. whole: check everything once more, from the beginning."""
    world.draw, world.redis_forgot, world.ended = random.Random(one.seed), False, []
    begin, found, findings = time.monotonic(), list[Violation](), Findings()
    world.watch.begin()
    try:
        FAULTS[one.fault](world)
        world.mend()
    except NeverHappened as error:
        found.append(Violation("lost", str(error)))
    stall = world.watch.stall()
    try:
        world.load.pause()
        found += settled(world.deployment, HEALING_SECONDS)
        goes_on = not found
        findings = auditor.check(redis_forgot=world.redis_forgot)
        found += [*findings.violations, *world.watch.backwards()]
        if whole:
            found += auditor.again().check(redis_forgot=True).violations
        world.load.resume()
    except (NeverHappened, LoadFailed) as error:
        found.append(Violation("lost", str(error)))
        goes_on = False
    memory = max((worker.resident_bytes() for worker in world.running()), default=0)
    if memory > MOST_MEMORY:
        found.append(Violation("state", f"a worker has {memory / 1e6:.0f} MB resident"))
    result = result_of(seed, one, found, findings, world.ended)
    taken = round(time.monotonic() - begin, 2)
    return replace(result, seconds=taken, stall_seconds=round(stall, 2), memory_bytes=memory), goes_on


def result_of(
    seed: int, one: Round, violations: Sequence[Violation], findings: Findings, ended: Sequence[str]
) -> Result:
    """Without what was measured."""
    kinds = Counter(violation.kind for violation in violations)
    return Result(
        seed=seed,
        number=one.number,
        fault=one.fault,
        seconds=0.0,
        stall_seconds=0.0,
        records=findings.records,
        alert_revisions=findings.alert_revisions,
        slates=findings.slates,
        alert_repeats=findings.alert_repeats,
        slate_repeats=findings.slate_repeats,
        lost=kinds["lost"],
        doubled=kinds["doubled"],
        state_errors=kinds["state"],
        violations=[str(violation) for violation in violations[:SHOWN]],
        ended=list(ended),
    )


def read_results(file: Path) -> list[Result]:
    """Of all rounds that are finished, whatever their seed; none where there is no such file."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [Result(**json.loads(line)) for line in lines if line.strip()]


def append_result(file: Path, result: Result) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """As `--json` prints it."""
    rows = {}
    for fault in dict.fromkeys(result.fault for result in results):
        own = [result for result in results if result.fault == fault]
        stalls = [result.stall_seconds for result in own]
        rows[fault] = {
            "rounds": len(own),
            **{name: sum(getattr(result, name) for result in own) for name in ("lost", "doubled", "state_errors")},
            "median_stall_seconds": median(stalls),
            "max_stall_seconds": max(stalls),
            "alert_repeats": sum(result.alert_repeats for result in own),
            "slate_repeats": sum(result.slate_repeats for result in own),
            "ended": sum(len(result.ended) for result in own),
        }
    return {
        "rounds": len(results),
        **{name: sum(getattr(result, name) for result in results) for name in ("lost", "doubled", "state_errors")},
        "max_stall_seconds": max((result.stall_seconds for result in results), default=0.0),
        "records": sum(result.records for result in results),
        "by_fault": rows,
    }
