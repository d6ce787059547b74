"""The faults: what each does to a running world. Every one returns once it is done; what has to come back by itself is
waited for afterwards (world.py: `mend`).

Faults of services are in outages.py, faults of files in damage.py.
"""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka.admin import KafkaAdminClient, MemberToRemove

from ops.bench.faults import damage, outages
from ops.bench.faults.moments import arm
from ops.bench.faults.worker_process import wait_until
from ops.bench.faults.world import NAMES, World, a_while

FIRST, SECOND = NAMES
THIRD = "three"
MOMENT_SECONDS = 30.0
#: Longer than HEADGATE_SESSION_TIMEOUT_SECONDS.
FROZEN_SECONDS = 8.0
REBALANCES, REBALANCE_EVERY = 12, 5.0

Fault = Callable[[World], None]
#: Moment (moments.py) -> what a death then means.
MOMENTS: Mapping[str, str] = {
    "before_commit": "A worker dies (SIGKILL) when all rows of a batch are sent, before the COMMIT.",
    "after_commit": "A worker dies right after a COMMIT, before its relay hears of it.",
    "before_publishing": "A worker dies with committed messages in hand, before Kafka gets them.",
    "after_publishing": "A worker dies when Kafka has confirmed, before its cursor moves: they come once more.",
    "in_snapshot": "A worker dies between writing a file of a snapshot and its list.",
    "before_naming_a_snapshot": "A worker dies when a snapshot is complete, before SQL names it.",
}


def owns_everything(world: World, name: str) -> None:
    """Waits until one worker has all partitions."""
    count = world.partitions
    wait_until(f"{name} owns everything", lambda: world.owned(world.workers[name]) == count, MOMENT_SECONDS * 2)


def kill_one(world: World) -> None:
    """kill -9 of one of two workers at a random instant; the other takes over before it comes back."""
    a_while(world)
    killed, left = world.draw.sample(NAMES, 2)
    world.kill_worker(killed)
    owns_everything(world, left)


def kill_and_restart(world: World) -> None:
    """kill -9 of a worker at a random instant; it is back at once, under the same name."""
    a_while(world)
    world.kill_worker(world.draw.choice(NAMES))


def kill_both(world: World) -> None:
    """kill -9 of both workers at nearly the same instant."""
    for name in NAMES:
        a_while(world, 0.3)
        world.kill_worker(name)


def kill_at(moment: str, text: str) -> Fault:
    """text: what the fault does, for the documentation."""

    def fault(world: World) -> None:
        a_while(world)
        dies_at(world, moment)

    fault.__doc__ = text
    return fault


def dies_at(world: World, moment: str) -> None:
    """Waits until the second worker has killed itself at its next such moment."""
    process = world.workers[SECOND].process
    arm(world.moment_file(SECOND), moment)
    wait_until(f"the worker dies {moment}", lambda: process.poll() is not None, MOMENT_SECONDS)


def kill_in_swap(world: World) -> None:
    """A worker kills itself between taking over a new model and committing the first batch that it scored."""
    world.promotions.next_detector()
    dies_at(world, "in_swap")


def kill_in_claim(world: World) -> None:
    """A worker is killed and dies again, right after it claimed its partitions in SQL."""
    a_while(world)
    world.kill_worker(SECOND)
    world.start_worker(SECOND)
    dies_at(world, "in_claim")


def freeze(world: World) -> None:
    """A worker stops (SIGSTOP) with a batch in hand, past its session timeout, and wakes up (SIGCONT) when another one
    owns its partitions."""
    frozen = world.workers[SECOND]
    arm(world.moment_file(SECOND), "before_sending", "stop")
    wait_until("the worker freezes", frozen.is_stopped, MOMENT_SECONDS)
    owns_everything(world, FIRST)
    a_while(world)
    frozen.signal(signal.SIGCONT)
    a_while(world, 2.0)


def freeze_anywhere(world: World) -> None:
    """A worker stops (SIGSTOP) at a random instant, past its session timeout, and wakes up (SIGCONT)."""
    a_while(world)
    frozen = world.workers[world.draw.choice(NAMES)]
    frozen.signal(signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    frozen.signal(signal.SIGCONT)
    a_while(world, 2.0)


def join(world: World) -> None:
    """A third worker joins and takes a share of the partitions; it is killed."""
    third = world.start_worker(THIRD)
    wait_until("the third worker has a share", lambda: world.owned(third) > 0, MOMENT_SECONDS * 2)
    a_while(world)
    third.kill()


def leave(world: World) -> None:
    """A worker is told to stop (SIGTERM); the other one takes over before it comes back."""
    a_while(world)
    leaving, left = world.draw.sample(NAMES, 2)
    world.stop_worker(leaving)
    owns_everything(world, left)


def both_leave(world: World) -> None:
    """Both workers are told to stop (SIGTERM), and come back."""
    for name in NAMES:
        world.stop_worker(name)


def one_two_one(world: World) -> None:
    """One worker is left, a second joins, one of them leaves again."""
    world.stop_worker(SECOND)
    owns_everything(world, FIRST)
    world.start_worker(SECOND)
    wait_until("the workers share the partitions", world.whole, MOMENT_SECONDS * 2)
    a_while(world)
    world.stop_worker(FIRST)
    owns_everything(world, SECOND)


def rebalances(world: World) -> None:
    """For a minute the group is made to rebalance every five seconds: a member is removed, and joins again."""
    admin: Any = KafkaAdminClient(bootstrap_servers=world.deployment.kafka)
    try:
        for _ in range(REBALANCES):
            member = MemberToRemove(group_instance_id=world.draw.choice(NAMES))
            admin.remove_group_members(f"{world.deployment.prefix}headgate", [member])
            time.sleep(REBALANCE_EVERY)
    finally:
        admin.close()


FAULTS: Mapping[str, Fault] = {
    "kill_one": kill_one,
    "kill_and_restart": kill_and_restart,
    "kill_both": kill_both,
    **{f"kill_{moment}": kill_at(moment, text) for moment, text in MOMENTS.items()},
    "kill_in_swap": kill_in_swap,
    "kill_in_claim": kill_in_claim,
    "freeze": freeze,
    "freeze_anywhere": freeze_anywhere,
    "join": join,
    "leave": leave,
    "both_leave": both_leave,
    "one_two_one": one_two_one,
    "rebalances": rebalances,
    **outages.FAULTS,
    **damage.FAULTS,
}
