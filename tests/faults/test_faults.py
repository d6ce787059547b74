"""A few faults of every kind, one after the other under load: nothing lost, nothing doubled, every state exact.

`headgate bench faults` runs all of them (docs/reliability.md); these are what every change has to survive.
"""

import pytest

from ops.bench.faults.audit import Auditor
from ops.bench.faults.rounds import run_round
from ops.bench.faults.schedule import Round
from ops.bench.faults.world import World

FAULTS = [
    "kill_before_commit",
    "freeze",
    "truncate_snapshots",
    "broker_kill",
    "postgres_kill",
    "redis_flush",
    "disorder",
    "corrupt_model",
]


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=FAULTS)
def test_nothing_is_lost_or_doubled_and_every_state_is_exact(
    running_world: World, auditor: Auditor, number: int
) -> None:
    last = number == len(FAULTS) - 1
    result, _ = run_round(running_world, auditor, 0, Round(number, FAULTS[number], number), whole=last)
    assert list(result.violations) == []
    assert min(result.records, result.slates) > 0, "a round without events shows nothing"
