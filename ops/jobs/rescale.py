"""`headgate rescale`: a topic got more partitions, so state has to be built for where keys are now.

Only the topics whose state is kept by key are concerned. The command notes where every partition is and how producers
spread their keys; workers rebuild the state from SQL when they claim the partitions anew (streams/rescaled.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from ops.jobs.accept_loss import full_name, this_user
from ops.jobs.prune import LOCK as PRUNE
from ops.kafka_settings import kafka_settings
from ops.settings import Settings
from storage.database import Database
from storage.exclusive import exclusively
from storage.partition_counts import Count, latest_count, rescale
from storage.progress import ProgressRow, all_progress
from streams.kafka import KafkaSettings, describe_topics
from streams.kafka_logs import has_records, log_bounds, newest_keys
from streams.partitioners import ANY, PARTITIONERS, fitting

#: Topic of the contract -> the table of its records and the column of their keys.
KEYED = {"transactions": ("transactions", "account_id"), "engagements": ("engagements", "user_id")}
#: Enough to tell partitioners apart: with two partitions, twenty keys do so a million times out of a million and one.
STORED_KEYS, NEWEST_KEYS = 20_000, 200


class RescaleRefused(Exception):
    """The topic cannot be rescaled now; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RescalePlan:
    """From the number that state was built with to the one that Kafka has. rows: what SQL has of its partitions."""

    topic: str
    topic_uuid: str
    seen: Count
    partitions: int
    rows: Sequence[ProgressRow]


@dataclass(frozen=True, slots=True)
class Rescaled:
    topic: str
    before: int
    partitions: int
    partitioner: str | None


def run_rescale(
    settings: Settings,
    database: Database,
    *,
    topic: str | None,
    partitioner: str | None,
    now: bool,
    clock: Callable[[], datetime],
) -> list[Rescaled]:
    """Of all topics, or of one, those that have more partitions than state was built with. partitioner: None to find
    out; now: though some old partition has not been read to its end. Raises RescaleRefused, CountChanged, and
    AlreadyRunning beside `headgate prune`, which decides by the counts what recovery does not need."""
    if partitioner is not None and partitioner not in PARTITIONERS:
        raise RescaleRefused(f"--partitioner must be one of {', '.join(PARTITIONERS)}, not {partitioner}")
    names = {full_name(settings, name): name for name in KEYED}
    if settings.pseudonym_keys.get_secret_value():
        raise RescaleRefused(
            "with pseudonyms on nobody can tell which partition a stored account belongs to now, so its history cannot "
            "follow it: let HEADGATE_TOPIC_PREFIX name new topics with enough partitions, where histories begin anew"
        )
    if topic is not None and full_name(settings, topic) not in names:
        raise RescaleRefused(f"{topic} keeps no state by key: more partitions of it are read without further ado")
    wanted = sorted(names) if topic is None else [full_name(settings, topic)]
    kafka = kafka_settings(settings)
    found = []
    with exclusively(database, PRUNE):
        for plan in _plans(kafka, database, wanted):
            if not now:
                _refuse_backlog(kafka, plan)
            chosen = partitioner or _partitioner(kafka, database, plan, *KEYED[names[plan.topic]])
            count = rescale(
                database,
                topic=plan.topic,
                topic_uuid=plan.topic_uuid,
                seen=plan.seen,
                partitions=plan.partitions,
                partitioner=chosen,
                by=this_user(),
                now=clock(),
            )
            found.append(Rescaled(plan.topic, plan.seen.partitions, count.partitions, count.partitioner))
    return found


def _plans(kafka: KafkaSettings, database: Database, topics: Sequence[str]) -> list[RescalePlan]:
    described = describe_topics(kafka, topics)
    plans = []
    with database.reading() as connection:
        for topic in topics:
            uuid, partitions = described[topic].uuid, described[topic].partitions
            seen = latest_count(connection, topic, uuid)
            if seen is not None and seen.partitions < partitions:
                rows = [row for row in all_progress(connection) if (row.topic, row.topic_uuid) == (topic, uuid)]
                plans.append(RescalePlan(topic, uuid, seen, partitions, rows))
    return plans


def _refuse_backlog(kafka: KafkaSettings, plan: RescalePlan) -> None:
    """What an account that moves still has in its old partition would come after what it has in the new one. SQL's
    offset stays before the last end of a transaction, which is no record."""
    bounds = log_bounds(kafka, [(plan.topic, number) for number in range(plan.seen.partitions)])
    positions = {row.partition: row.next_offset for row in plan.rows}
    behind = {
        number: end - positions.get(number, first)
        for (_, number), (first, end) in bounds.items()
        if positions.get(number, first) < end
        and has_records(kafka, (plan.topic, number), max(first, positions.get(number, first)), end)
    }
    if behind:
        listed = ", ".join(f"{plan.topic}/{number} {records}" for number, records in sorted(behind.items()))
        raise RescaleRefused(
            f"records of before are still to be read ({listed}): let the workers do that, and repeat the command; "
            "with --now it does not wait, and the state of what moves to another partition lacks those records"
        )


def _partitioner(kafka: KafkaSettings, database: Database, plan: RescalePlan, table: str, key: str) -> str | None:
    """How producers choose partitions, told from where keys are; None where nothing is stored."""
    stored = _stored_keys(database, plan, table, key)
    if not stored:
        return None
    added = [(plan.topic, number) for number in range(plan.seen.partitions, plan.partitions)]
    newest = newest_keys(kafka, added, NEWEST_KEYS)
    before, after = fitting(stored, plan.seen.partitions), fitting(newest, plan.partitions)
    fits = [name for name in before if name in after]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise RescaleRefused(
            f"{plan.topic}: too little was sent to tell how producers choose partitions ({' or '.join(fits)}); "
            "name it with --partitioner: murmur2 (Java, kafka-python), crc32 (librdkafka, confluent-kafka), "
            "fnv1a (Sarama)"
        )
    raise RescaleRefused(
        f"{plan.topic}: producers choose partitions in more than one way, or in one of their own; --partitioner {ANY} "
        "gives every partition what is known of every key, at the cost of memory"
    )


def _stored_keys(database: Database, plan: RescalePlan, table: str, key: str) -> set[tuple[str, int]]:
    """Some keys with their partitions, from since the number before this one came into force."""
    generations = {row.topic_generation for row in plan.rows}
    statement = text(
        f"SELECT {key}, source_partition, source_offset FROM {table} WHERE topic_generation = :generation LIMIT :most"
    )
    with database.reading() as connection:
        return {
            (row[0], row[1])
            for generation in generations
            for row in connection.execute(statement, {"generation": generation, "most": STORED_KEYS})
            if row[2] >= plan.seen.boundaries.get(row[1], 0)
        }
