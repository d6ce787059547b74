"""The deployment under test with everything around it: services of its own, workers, load, promotions and the watch.

Faults (injections.py) do things to it; `mend` brings it back to how it should be: every service up, two workers that
own all partitions between them.
"""

import math
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ops.bench.faults.audit import TOPICS
from ops.bench.faults.contenders import trained_detector, untrained_policy
from ops.bench.faults.deployment import Deployment, deployed
from ops.bench.faults.load import Load, Rates
from ops.bench.faults.promotions import Promotions
from ops.bench.faults.retraining import Retraining
from ops.bench.faults.state_folder import StateFolder, state_folder
from ops.bench.faults.topic_log import log_ends
from ops.bench.faults.traffic import ITEMS
from ops.bench.faults.watch import ProgressWatch
from ops.bench.faults.worker_process import NeverHappened, WorkerProcess, wait_until
from ops.clock import utc_now
from ops.local_services import start_kafka, start_postgres, start_redis
from ops.service import Service

Progress = Callable[[str, float], None]
PARTITIONS = 4
NAMES = ("one", "two")
HEALING_SECONDS = 120.0
DETECTORS, POLICIES = 3, 2
PROMOTED_EVERY = 11.0
#: Workers that end by themselves within a round: so many may be started again.
MOST_ENDED = 5
#: Snapshots come often, and not everyone fits into memory, so that faults meet both.
SETTINGS = {"SNAPSHOT_SECONDS": "3", "MOST_RESIDENT": "1200"}


@dataclass(slots=True)
class World:
    """workers: those that should run, by name. draw: of the round at hand. bug: planted in every worker that is
    started."""

    kafka: Service
    postgres: Service
    redis: Service
    deployment: Deployment
    load: Load
    promotions: Promotions
    watch: ProgressWatch
    state: StateFolder
    bug: str | None = None
    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    draw: random.Random = field(default_factory=random.Random)
    #: Set by faults: since the last check Redis lost everything and was rebuilt.
    redis_forgot: bool = False
    #: Workers that ended although nobody killed them, in words.
    ended: list[str] = field(default_factory=list)

    @property
    def partitions(self) -> int:
        """Of all input topics together."""
        return PARTITIONS * len(TOPICS)

    @property
    def services(self) -> tuple[Service, ...]:
        return self.kafka, self.postgres, self.redis

    def moment_file(self, name: str) -> Path:
        return self.deployment.folder / f"{name}.moment"

    def start_worker(self, name: str) -> WorkerProcess:
        """The first worker is the product as it comes, the others can be killed at a moment of their work."""
        self.moment_file(name).unlink(missing_ok=True)
        program: Sequence[str] = ("ops", "worker")
        if name != NAMES[0] or self.bug:
            program = ("ops.bench.faults.worker", "--moment-file", str(self.moment_file(name)))
            program = (*program, "--bug", self.bug) if self.bug else program
        self.workers[name] = self.deployment.worker(name, program)
        return self.workers[name]

    def stop_worker(self, name: str) -> None:
        """With SIGTERM, and for good."""
        self.workers.pop(name).stop()

    def kill_worker(self, name: str) -> None:
        self.workers[name].kill()

    def running(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if worker.process.poll() is None]

    def owned(self, worker: WorkerProcess) -> int:
        """Partitions of all input topics that a worker says it owns; none while it is not ready."""
        return len(worker.health()["partitions"]) if worker.ready() else 0

    def mend(self) -> None:
        """Raises NeverHappened where it does not come back within its bound."""
        for service in self.services:
            if not service.running:
                service.start()
        for name in [name for name in self.workers if name not in NAMES]:
            self.stop_worker(name)
        wait_until("the workers own all partitions", self.whole, HEALING_SECONDS)
        ends = self.log_ends()
        wait_until("the workers have caught up", lambda: self.passed(ends), HEALING_SECONDS)

    def supervise(self) -> None:
        """Starts those of the two workers again that have ended, as a supervisor would."""
        for name in NAMES:
            known = self.workers.get(name)
            if known is None or known.process.poll() is not None:
                if known is not None and known.process.returncode != -signal.SIGKILL:
                    self.ended.append(f"worker {name} ended with {known.process.returncode}: {known.last_line()}")
                self.start_worker(name)
        if len(self.ended) > MOST_ENDED:
            raise NeverHappened(f"workers end again and again; {self.ended[-1]}")

    def whole(self) -> bool:
        """Whether both workers are ready, and each partition is owned once."""
        self.supervise()
        owned = [self.owned(self.workers[name]) for name in NAMES if self.workers[name].process.poll() is None]
        return len(owned) == len(NAMES) and min(owned) > 0 and sum(owned) == self.partitions

    def log_ends(self) -> dict[str, dict[int, int]]:
        """Input topic -> partition -> where its log ends now."""
        return {topic: log_ends(self.deployment.kafka, f"{self.deployment.prefix}{topic}") for topic in TOPICS}

    def passed(self, ends: Mapping[str, Mapping[int, int]]) -> bool:
        """Whether SQL is past these offsets."""
        for topic, partitions in ends.items():
            progress = self.deployment.progress(f"{self.deployment.prefix}{topic}")
            for partition, end in partitions.items():
                if partition not in progress or progress[partition].next_offset < end:
                    return False
        return True


def a_while(world: World, longest: float = 1.0) -> None:
    """A random instant of the load comes by."""
    time.sleep(world.draw.uniform(0, longest))


@contextmanager
def world(
    folder: Path, seed: int, progress: Progress, *, bug: str | None = None, retrained_every: float = math.inf
) -> Iterator[World]:
    """Everything up and running: services, two workers that own all partitions, load, promotions, and retraining (with
    so many seconds between two passes; none by default). Everything ends with the context. Raises ServiceUnavailable,
    NeverHappened."""
    now = round(utc_now().timestamp() * 1000)
    detectors = [trained_detector(number, now, progress) for number in range(DETECTORS)]
    with ExitStack() as cleanup:
        kafka = cleanup.enter_context(start_kafka(folder / "kafka"))
        postgres = cleanup.enter_context(start_postgres(folder / "postgres", fsync=False))
        redis = cleanup.enter_context(start_redis(folder / "redis", persistent=True))
        work = folder / "work"
        state = cleanup.enter_context(state_folder(work / "state"))
        settings = SETTINGS | {"STATE": str(state.path)}
        deployment = cleanup.enter_context(
            deployed(kafka.url, postgres.url, redis.url, "faults.", work, None, PARTITIONS, **settings)
        )
        promotions = Promotions(
            deployment, detectors, [untrained_policy(number) for number in range(POLICIES)], PROMOTED_EVERY
        )
        load = Load(deployment, seed=seed, rates=Rates())
        watch = ProgressWatch(deployment)
        made = World(kafka, postgres, redis, deployment, load, promotions, watch, state, bug)
        begin(made, cleanup, progress)
        if retrained_every < math.inf:
            cleanup.enter_context(Retraining(deployment, retrained_every))
        yield made


def begin(made: World, cleanup: ExitStack, progress: Progress) -> None:
    """Workers first, then items, then everything else: from the first engagement on there are slates."""
    made.load.send_items()
    for name in NAMES:
        progress("start", 0.0)
        made.start_worker(name)
    wait_until("the workers own all partitions", made.whole, HEALING_SECONDS)
    wait_until("the items are in the catalogue", lambda: all(knows_items(w) for w in made.running()), HEALING_SECONDS)
    for part in (made.watch, made.promotions, made.load):
        cleanup.enter_context(part)
    progress("start", 1.0)


def knows_items(worker: WorkerProcess) -> bool:
    return worker.metrics().get('headgate_catalogue_items{state="available"}', 0.0) == len(ITEMS)
