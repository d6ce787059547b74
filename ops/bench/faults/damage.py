"""Faults of files, models and snapshots: what each does to a running world (see injections.py)."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ops.bench.faults.worker_process import NeverHappened, wait_until
from ops.bench.faults.world import NAMES, World, a_while

SETTLE_SECONDS = 60.0
FULL_SECONDS = 6.0
#: What the log says.
REFUSED, TORN, NO_SNAPSHOT = "model refused", "snapshot refused", "no snapshot"
GARBAGE = b"this is no model\n" * 50


def corrupt_model(world: World) -> None:
    """A detector whose file was overwritten with garbage becomes champion in mid stream; it must be refused, and the
    one in use go on. Then a sound one is promoted."""
    promotions = world.promotions
    record = promotions.register_detector(world.draw.randrange(len(promotions.detectors)))
    Path(promotions.registry.root, record.artifact).write_bytes(GARBAGE)
    refused = {worker.name: worker.output().count(REFUSED) for worker in world.running()}
    with promotions.held:
        promotions.promote(record)
        try:
            wait_until(
                "the workers refuse the model",
                lambda: all(worker.output().count(REFUSED) > refused[worker.name] for worker in world.running()),
                SETTLE_SECONDS,
            )
        finally:
            promotions.next_detector()


def truncate_snapshots(world: World) -> None:
    """The newest file of every partition's snapshots is cut in half, and a worker is killed: what is torn is refused,
    and the snapshot before it, or SQL alone, is used."""
    wait_until("there are snapshots", world.state.snapshots, SETTLE_SECONDS)
    a_while(world)
    world.kill_worker(world.draw.choice(NAMES))
    (left,) = world.running()
    for files in world.state.snapshots().values():
        newest = files[-1]
        with newest.open("r+b") as torn:
            torn.truncate(newest.stat().st_size // 2)
    said = left.output().count(TORN)
    wait_until("the worker refuses what is torn", lambda: left.output().count(TORN) > said, SETTLE_SECONDS)


def state_folder_full(world: World) -> None:
    """The folder of snapshots is full for some seconds (where it may be mounted, a file system of its own in memory;
    else it only may not be written): the workers go on, say so in log and health, and write again afterwards."""
    said = {worker.name: worker.output().count(NO_SNAPSHOT) for worker in world.running()}
    world.state.fill()
    try:
        wait_until(
            "the workers say that they cannot keep snapshots",
            lambda: all(worker.output().count(NO_SNAPSHOT) > said[worker.name] for worker in world.running()),
            SETTLE_SECONDS,
        )
        if not all(worker.health()["warnings"] for worker in world.running()):
            raise NeverHappened("health says nothing of snapshots that cannot be written")
        time.sleep(world.draw.uniform(0, FULL_SECONDS))
        world.kill_worker(world.draw.choice(NAMES))
    finally:
        world.state.empty()


FAULTS: Mapping[str, Callable[[World], None]] = {
    "corrupt_model": corrupt_model,
    "truncate_snapshots": truncate_snapshots,
    "state_folder_full": state_folder_full,
}
