"""The fault benchmark finds what it is there for: workers are given bugs, and a round under a fault reports them."""

import pytest

from ops.bench.faults.audit import Auditor, settled
from ops.bench.faults.bugs import BUGS
from ops.bench.faults.rounds import Result, run_round
from ops.bench.faults.schedule import Round
from ops.bench.faults.world import NAMES, World

#: What is said of each (one of these: how batches are cut once more, and of which topic the frozen worker had one in
#: hand, is chance), and how it counts. The last one spoils the states for good.
COMPLAINTS = {
    "publish_before_commit": (("repeated in Kafka with another content", "in Kafka, not in SQL"), {"doubled"}),
    "replay_that_emits": (("repeated in Kafka with another content",), {"doubled"}),
    "relay_that_skips": (("in SQL, not in Kafka",), {"lost"}),
    "no_epoch_check": (("outcome none", "next_offset went from", "progress counts"), {"lost", "state_errors"}),
    "state_lost": (("undisturbed",), {"state_errors"}),
}


def give(world: World, bug: str | None) -> None:
    """Both workers are started anew with it, under load, however the round before ended."""
    world.bug = bug
    world.load.resume()
    for name in NAMES:
        world.kill_worker(name)
    world.mend()


def round_with(world: World, auditor: Auditor, bug: str, number: int) -> Result:
    give(world, bug)
    return run_round(world, auditor, 0, Round(number, BUGS[bug][1], number))[0]


def test_a_world_without_a_bug_gives_no_reason_to_complain(running_world: World, auditor: Auditor) -> None:
    running_world.load.pause()
    assert settled(running_world.deployment, 60) == []
    assert list(auditor.check().violations) == []
    running_world.load.resume()


@pytest.mark.parametrize("number", range(len(COMPLAINTS)), ids=list(COMPLAINTS))
def test_a_planted_bug_is_found_and_named(running_world: World, auditor: Auditor, number: int) -> None:
    bug = list(COMPLAINTS)[number]
    texts, kinds = COMPLAINTS[bug]
    result = round_with(running_world, auditor, bug, number)
    found = [violation for violation in result.violations if any(text in violation for text in texts)]
    assert found, list(result.violations)
    assert sum(getattr(result, kind) for kind in kinds) > 0


def test_every_bug_that_can_be_planted_is_looked_for() -> None:
    assert COMPLAINTS.keys() == BUGS.keys()
