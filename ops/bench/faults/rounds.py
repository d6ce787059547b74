"""One round after the other on one world: inject a fault under load, wait for healing, pause the load, check, go on.

Finished rounds are appended to a results file as JSON lines; a run that was interrupted goes on behind them, with an
empty deployment of its own.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ops.bench.faults.audit import Auditor, settled
from ops.bench.faults.injections import FAULTS
from ops.bench.faults.load import LoadFailed
from ops.bench.faults.outcomes import Violation
from ops.bench.faults.schedule import Round
from ops.bench.faults.worker_process import NeverHappened
from ops.bench.faults.world import HEALING_SECONDS, World

#: Bytes that a worker may have resident: torch alone takes a third of it.
MOST_MEMORY = 1_500_000_000
SHOWN = 20
#: After so many rounds, and at the end, everything is checked from the beginning.
WHOLE_EVERY = 20


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


def run_rounds(world: World, seed: int, rounds: Sequence[Round], note: Callable[[Result], None]) -> Iterator[Result]:
    """Each round's result, noted. It stops after a round from which the world did not come back."""
    auditor = Auditor.of(world.deployment)
    for count, one in enumerate(rounds, 1):
        result, goes_on = run_round(world, auditor, seed, one, whole=count % WHOLE_EVERY == 0 or count == len(rounds))
        note(result)
        yield result
        if not goes_on:
            return


def run_round(world: World, auditor: Auditor, seed: int, one: Round, *, whole: bool = False) -> tuple[Result, bool]:
    """The result, and whether the world is as it should be. whole: check everything once more, from the beginning."""
    world.draw, world.redis_forgot, world.ended = random.Random(one.seed), False, []
    begin, found = time.monotonic(), list[Violation]()
    world.watch.begin()
    try:
        FAULTS[one.fault](world)
        world.mend()
    except (NeverHappened, LoadFailed) as error:
        found.append(Violation("lost", str(error)))
    stall = world.watch.stall()
    world.load.pause()
    found += settled(world.deployment, HEALING_SECONDS)
    goes_on = not found
    findings = auditor.check(redis_forgot=world.redis_forgot)
    found += findings.violations + world.watch.backwards()
    if whole:
        found += auditor.again().check(redis_forgot=True).violations
    memory = max((worker.resident_bytes() for worker in world.running()), default=0)
    if memory > MOST_MEMORY:
        found.append(Violation("state", f"a worker has {memory / 1e6:.0f} MB resident"))
    world.load.resume()
    kinds = [violation.kind for violation in found]
    result = Result(
        seed=seed,
        number=one.number,
        fault=one.fault,
        seconds=round(time.monotonic() - begin, 2),
        stall_seconds=round(stall, 2),
        records=findings.records,
        alert_revisions=findings.alert_revisions,
        slates=findings.slates,
        alert_repeats=findings.alert_repeats,
        slate_repeats=findings.slate_repeats,
        memory_bytes=memory,
        lost=kinds.count("lost"),
        doubled=kinds.count("doubled"),
        state_errors=kinds.count("state"),
        violations=[str(violation) for violation in found[:SHOWN]],
        ended=list(world.ended),
    )
    return result, goes_on


def read_results(file: Path, seed: int) -> list[Result]:
    """Of a seed's finished rounds; none where there is no such file."""
    if not file.exists():
        return []
    found = [Result(**json.loads(line)) for line in file.read_text().splitlines() if line.strip()]
    return [result for result in found if result.seed == seed]


def append_result(file: Path, result: Result) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """As `--json` prints it."""
    rows = {}
    for fault in dict.fromkeys(result.fault for result in results):
        own = [result for result in results if result.fault == fault]
        stalls = sorted(result.stall_seconds for result in own)
        rows[fault] = {
            "rounds": len(own),
            **{name: sum(getattr(result, name) for result in own) for name in ("lost", "doubled", "state_errors")},
            "median_stall_seconds": stalls[len(stalls) // 2],
            "max_stall_seconds": stalls[-1],
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
