"""From what Kafka assigned to what may be read: claims in SQL, and the partitions that have to stand still.

A partition stands still, alone, where reading on would pass over records or spoil state: its log begins past SQL's next
offset, or its topic has more partitions than its state was built with. Each says what a person has to do.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from storage.database import Database
from storage.partition_counts import settle_count
from storage.progress import Claim, claim_partitions
from streams.kafka import KafkaSettings, describe_topics
from streams.ownership import TopicPartition

#: Each partition's first available and its next offset, as Kafka has them.
Bounds = Mapping[TopicPartition, tuple[int, int]]


class ClaimSuperseded(Exception):
    """A later rebalance began while a claim waited: what it was about is assigned anew."""


class Reason(Enum):
    """Why a partition stands still."""

    TRUNCATED = "truncated"
    REWOUND = "rewound"
    PARTITIONS_ADDED = "partitions_added"


@dataclass(frozen=True, slots=True)
class Stopped:
    """A partition that Kafka assigned to us and that is not read."""

    topic: str
    partition: int
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """uuids: of each topic, its Kafka id."""

    claims: list[Claim]
    uuids: dict[str, str]
    stopped: list[Stopped]


class Claimer:
    """keyed: the topics of which state is kept by key. start_latest: a partition that SQL has never seen starts at the
    log's end instead of its beginning; one that was added to a topic later starts at its beginning all the same."""

    def __init__(
        self,
        database: Database,
        kafka: KafkaSettings,
        *,
        owner_name: str,
        keyed: Collection[str],
        start_latest: bool,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._kafka = kafka
        self._owner_name = owner_name
        self._keyed = frozenset(keyed)
        self._start_latest = start_latest
        self._clock = clock

    def claim(
        self,
        bounds: Bounds,
        backend_pids: Mapping[str, int | None],
        seen: Mapping[TopicPartition, int] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Claimed:
        """With `seen` only what still is at these epochs in SQL. check: called when it is our turn; what it raises
        gives the claim up. Raises DatabaseUnavailable, KafkaUnavailable and TopicMissing."""
        topics = sorted({topic for topic, _ in bounds})
        described = describe_topics(self._kafka, topics) if topics else {}
        claimed = Claimed([], {name: topic.uuid for name, topic in described.items()}, [])
        for topic in topics:
            own = {partition: bound for (name, partition), bound in bounds.items() if name == topic}
            known = None if seen is None else {partition: seen[topic, partition] for partition in own}
            self._claim_topic(claimed, topic, described[topic].partitions, own, backend_pids.get(topic), known, check)
        return claimed

    def _claim_topic(
        self,
        claimed: Claimed,
        topic: str,
        partitions: int,
        own: Mapping[int, tuple[int, int]],
        backend_pid: int | None,
        seen: Mapping[int, int] | None,
        check: Callable[[], None],
    ) -> None:
        uuid, now = claimed.uuids[topic], self._clock()
        count, at_first = settle_count(
            self._database,
            topic=topic,
            topic_uuid=uuid,
            partitions=partitions,
            keyed=topic in self._keyed,
            by=self._owner_name,
            now=now,
        )
        added = [partition for partition in own if partition >= count.partitions]
        claimed.stopped.extend(partition_added(topic, each, partitions, count.partitions) for each in added)
        starts = {
            partition: end if self._start_latest and partition < at_first else first
            for partition, (first, end) in own.items()
            if partition < count.partitions
        }
        claims = claim_partitions(
            self._database,
            topic=topic,
            topic_uuid=uuid,
            start_offsets=starts,
            owner=self._owner_name,
            backend_pid=backend_pid,
            now=now,
            seen=seen,
            check=check,
        )
        for partition, claim in claims.items():
            claimed.claims.append(claim)
            if claim.next_offset < own[partition][0]:
                claimed.stopped.append(out_of_range(topic, partition, claim.next_offset, *own[partition]))


def out_of_range(topic: str, partition: int, offset: int, first: int, end: int) -> Stopped:
    """Of a partition that is to be read from an offset before its first or after its end."""
    if offset < first:
        return Stopped(
            topic,
            partition,
            Reason.TRUNCATED,
            f"{topic}/{partition} stands still: its next offset is {offset}, but Kafka's log begins at {first}: "
            f"{first - offset} records are gone; `headgate accept-loss --topic {topic} --partition {partition}` "
            "gives them up, and the partition goes on",
        )
    return Stopped(
        topic,
        partition,
        Reason.REWOUND,
        f"{topic}/{partition} stands still: its next offset is {offset}, but Kafka's log ends at {end}: the broker "
        "lost records that were read already, and would give their offsets to others; delete the topic, create it anew "
        "with `headgate topics create` and restart the workers",
    )


def partition_added(topic: str, partition: int, partitions: int, built_with: int) -> Stopped:
    return Stopped(
        topic,
        partition,
        Reason.PARTITIONS_ADDED,
        f"{topic}/{partition} stands still: the topic has {partitions} partitions, state was built with {built_with}, "
        "and keys are in other partitions now; `headgate rescale` rebuilds state from SQL, and the partition goes on",
    )
