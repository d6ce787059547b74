"""Faults of services and of what is sent: what each does to a running world (see injections.py)."""

import time
from collections.abc import Callable, Mapping

from ops.bench.faults.load import Mix
from ops.bench.faults.worker_process import NeverHappened
from ops.bench.faults.world import World, a_while
from ops.service import Service

AWAY_SECONDS = 30.0


def restart(service: Service, *, kill: bool, seconds: float = 0.0) -> None:
    service.kill() if kill else service.stop()
    time.sleep(seconds)
    service.start()


def broker_restart(world: World) -> None:
    """Kafka is stopped and started again."""
    a_while(world)
    restart(world.kafka, kill=False)


def broker_kill(world: World) -> None:
    """kill -9 of Kafka, which is started again at once."""
    a_while(world)
    restart(world.kafka, kill=True)


def redis_restart(world: World) -> None:
    """Redis is stopped, stays away for a few seconds and starts again with its data."""
    a_while(world)
    restart(world.redis, kill=world.draw.random() < 0.5, seconds=world.draw.uniform(0, 5))


def redis_flush(world: World) -> None:
    """FLUSHALL, followed by `headgate redis rebuild`."""
    a_while(world)
    with world.deployment.redis() as client:
        client.flushall()
    done = world.deployment.headgate("redis", "rebuild")
    if done.returncode:
        raise NeverHappened(f"redis rebuild: {done.stderr}")
    world.redis_forgot = True


def postgres_restart(world: World) -> None:
    """PostgreSQL is stopped ("fast": sessions are ended) and started again."""
    a_while(world)
    restart(world.postgres, kill=False, seconds=world.draw.uniform(0, 3))


def postgres_kill(world: World) -> None:
    """kill -9 of PostgreSQL, which recovers and starts again."""
    a_while(world)
    restart(world.postgres, kill=True)


def postgres_away(world: World) -> None:
    """PostgreSQL is away for 30 seconds."""
    a_while(world)
    restart(world.postgres, kill=False, seconds=AWAY_SECONDS)


def poison(world: World) -> None:
    """Every record of both streams is bad for some seconds."""
    world.load.only_bad = True
    try:
        time.sleep(world.draw.uniform(2, 4))
    finally:
        world.load.only_bad = False


def disorder(world: World) -> None:
    """For some seconds a third of the records is repeated, half of them are late, and a tenth is bad."""
    usual, world.load.mix = world.load.mix, Mix(repeated=0.33, bad=0.1, late=0.5)
    try:
        time.sleep(world.draw.uniform(3, 5))
    finally:
        world.load.mix = usual


FAULTS: Mapping[str, Callable[[World], None]] = {
    "broker_restart": broker_restart,
    "broker_kill": broker_kill,
    "redis_restart": redis_restart,
    "redis_flush": redis_flush,
    "postgres_restart": postgres_restart,
    "postgres_kill": postgres_kill,
    "postgres_away": postgres_away,
    "poison": poison,
    "disorder": disorder,
}
