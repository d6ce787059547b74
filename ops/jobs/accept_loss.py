"""`headgate accept-loss`: what Kafka dropped before SQL had read it is given up, so that its partition goes on."""

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ops.kafka_settings import kafka_settings
from ops.settings import Settings
from storage.accepted_losses import Loss, NothingLost, accept_loss, position_of
from storage.database import Database
from streams.kafka import TopicMissing, describe_topics
from streams.kafka_logs import log_bounds


@dataclass(frozen=True, slots=True)
class LossPlan:
    """What would be given up: offsets from from_offset up to and without to_offset. first, end: of Kafka's log."""

    topic: str
    topic_uuid: str
    partition: int
    from_offset: int
    to_offset: int
    first: int
    end: int

    def in_words(self) -> str:
        readable = max(0, self.to_offset - max(self.first, self.from_offset))
        still = f", {readable} of which Kafka still has" if readable else ""
        return (
            f"{self.topic}/{self.partition}: offsets {self.from_offset} to {self.to_offset - 1}, "
            f"{self.to_offset - self.from_offset} records{still}"
        )


def plan_loss(settings: Settings, database: Database, topic: str, partition: int, to_offset: int | None) -> LossPlan:
    """Changes nothing. topic: with or without the prefix; to_offset: None for the first that Kafka has. Raises
    NothingLost."""
    kafka = kafka_settings(settings)
    name = full_name(settings, topic)
    described = describe_topics(kafka, [name])[name]
    if not 0 <= partition < described.partitions:
        raise NothingLost(f"{name} has the partitions 0 to {described.partitions - 1}, not {partition}")
    first, end = log_bounds(kafka, [(name, partition)])[name, partition]
    with database.reading() as connection:
        position = position_of(connection, name, described.uuid, partition)
    if position is None:
        raise NothingLost(f"{name}/{partition} was never read; a worker begins at the log's beginning")
    if to_offset is None and position >= first:
        raise NothingLost(
            f"{name}/{partition} lacks nothing: SQL's next offset is {position}, Kafka has {first} to {end - 1}"
        )
    wanted = first if to_offset is None else to_offset
    if not first <= wanted <= end:
        raise NothingLost(f"{name}/{partition}: offset {wanted} is not in Kafka's log, which has {first} to {end - 1}")
    return LossPlan(name, described.uuid, partition, position, wanted, first, end)


def give_up(database: Database, plan: LossPlan, why: str, clock: Callable[[], datetime]) -> Loss:
    """Raises NothingLost where a worker has moved on since the plan was made."""
    return accept_loss(
        database,
        topic=plan.topic,
        topic_uuid=plan.topic_uuid,
        partition=plan.partition,
        from_offset=plan.from_offset,
        to_offset=plan.to_offset,
        by=this_user(),
        why=why,
        now=clock(),
    )


def full_name(settings: Settings, topic: str) -> str:
    """A topic that is read, with its prefix. Raises TopicMissing."""
    names = [f"{settings.topic_prefix}{name}" for name in ("transactions", "engagements", "items", "feedback")]
    for name in (topic, f"{settings.topic_prefix}{topic}"):
        if name in names:
            return name
    raise TopicMissing(f"{topic} is no topic that workers read; those are {', '.join(names)}")


def this_user() -> str:
    """Who runs a command, as name@host."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
