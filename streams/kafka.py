"""Kafka clients for everyone who needs one, and what must be known of topics.

One place builds producers, admin clients and the readers' consumers from one set of settings; the member of the
consumer group is the Faust transport's.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

REQUEST_SECONDS = 15.0
#: How long a record that is there may take to arrive.
KEYS_SECONDS = 3.0
#: For the answers about records that were given up.
PURGE_SECONDS = 1.0
#: How long a search for a record may take: of an aborted transaction all of them are read and dropped.
SEARCH_SECONDS = 10.0
#: Room above the record size limit, so that a record just above it arrives and becomes a dead letter.
SIZE_MARGIN = 1_048_576


#: What a topic's reader holds of records that wait, beyond which it fetches no more; what a fetch brings (8 MiB, before
#: it is unpacked) comes on top.
QUEUED_KILOBYTES = 32_768


class KafkaUnavailable(Exception):
    """No broker answered at the configured address."""


class TopicMissing(Exception):
    """A topic that Headgate reads or writes does not exist."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    servers: str
    client_id: str = "headgate"


@dataclass(frozen=True, slots=True)
class TopicDescription:
    name: str
    uuid: str
    partitions: int


def producer(settings: KafkaSettings, **overrides: object) -> Producer:
    """An idempotent producer that does not linger: for alerts, not for bulk."""
    return Producer(
        {
            "bootstrap.servers": settings.servers,
            "client.id": settings.client_id,
            "enable.idempotence": True,
            "linger.ms": 0,
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": 20_000,
            "message.max.bytes": 8_000_000,
            "log_level": 2,
            **overrides,
        },
        logger=None,
    )


def records_consumer(settings: KafkaSettings, group: str) -> Consumer:
    """Reads what it is told to, committed records only, and joins no group: its name is for permissions and logs. It
    reports the end of each log, and a position outside of it instead of going on elsewhere."""
    return Consumer(
        {
            "bootstrap.servers": settings.servers,
            "client.id": settings.client_id,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "check.crcs": True,
            "queued.max.messages.kbytes": QUEUED_KILOBYTES,
            "fetch.message.max.bytes": 1_048_576,
            "fetch.max.bytes": 8 * 1_048_576,
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1_000,
            "log_level": 2,
        }
    )


def admin_client(settings: KafkaSettings) -> AdminClient:
    return AdminClient({"bootstrap.servers": settings.servers, "client.id": settings.client_id, "log_level": 0})


def check_broker(settings: KafkaSettings, timeout: float = 5.0) -> None:
    try:
        admin_client(settings).list_topics(timeout=timeout)
    except KafkaException as error:
        raise KafkaUnavailable(f"no Kafka broker answers at {settings.servers}: {error.args[0].str()}") from None


def publish_confirmed(settings: KafkaSettings, topic: str, key: bytes, value: bytes, seconds: float) -> None:
    """Sends one record and waits until all replicas in sync have it. Raises KafkaUnavailable after so many seconds;
    what was not on its way by then is not sent later."""
    refusals: list[str | None] = []

    def answered(error: KafkaError | None, _message: object) -> None:
        refusals.append(None if error is None else error.str())

    own = producer(settings, **{"delivery.timeout.ms": max(round(seconds * 1000), 1)})
    own.produce(topic, value, key, on_delivery=answered)
    if own.flush(seconds):
        own.purge()
        own.flush(PURGE_SECONDS)
    if refusals != [None]:
        raise KafkaUnavailable(
            f"{settings.servers} did not confirm a record of {topic}: {(refusals or ['no answer'])[0]}"
        )


def describe_topics(settings: KafkaSettings, names: Iterable[str]) -> dict[str, TopicDescription]:
    """The topics' UUIDs and partition counts; raises TopicMissing."""
    wanted = sorted(set(names))
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_SECONDS)
    described = {}
    for name in wanted:
        try:
            topic = futures[name].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(f"topic {name} does not exist; run `headgate topics create`") from None
            raise KafkaUnavailable(f"cannot describe topic {name}: {error.args[0].str()}") from None
        described[name] = TopicDescription(name, str(topic.topic_id), len(topic.partitions))
    return described


def log_bounds(
    settings: KafkaSettings, places: Iterable[tuple[str, int]], timeout: float = REQUEST_SECONDS
) -> dict[tuple[str, int], tuple[int, int]]:
    """Of each (topic, partition) its first available offset and its next one (after the last committed record)."""
    admin = admin_client(settings)  # kept until the answers are in
    wanted = list(places)
    first = _offsets(admin, wanted, OffsetSpec.earliest(), timeout)
    end = _offsets(admin, wanted, OffsetSpec.latest(), timeout)
    return {place: (first[place], end[place]) for place in wanted}


class Broker:
    """Asks a broker the same again and again, over one client."""

    def __init__(self, settings: KafkaSettings, timeout: float = REQUEST_SECONDS) -> None:
        self._admin = admin_client(settings)
        self._timeout = timeout

    def answers(self) -> bool:
        try:
            self._admin.list_topics(timeout=self._timeout)
        except KafkaException:
            return False
        return True

    def partitions(self, topics: Iterable[str]) -> list[tuple[str, int]]:
        """All (topic, partition) of those topics that exist. Raises KafkaUnavailable."""
        try:
            known = self._admin.list_topics(timeout=self._timeout).topics
        except KafkaException as error:
            raise KafkaUnavailable(f"no Kafka broker answers: {error.args[0].str()}") from None
        return [(topic, partition) for topic in topics if topic in known for partition in known[topic].partitions]

    def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Partitions' next offsets. Raises KafkaUnavailable."""
        return _offsets(self._admin, list(places), OffsetSpec.latest(), self._timeout)


def _offsets(
    admin: AdminClient, places: Sequence[tuple[str, int]], spec: OffsetSpec, timeout: float
) -> dict[tuple[str, int], int]:
    wanted = {TopicPartition(*place): spec for place in places}
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout)
    found = {}
    for place, future in futures.items():
        try:
            found[place.topic, place.partition] = future.result(timeout).offset
        except (KafkaException, TimeoutError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
            raise KafkaUnavailable(f"cannot look at {place.topic}/{place.partition}: {reason}") from None
    return found


def newest_keys(settings: KafkaSettings, places: Iterable[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """(key, partition) of at most so many records at each log's end; keys that are no text are left out."""
    found = []
    consumer = Consumer({"bootstrap.servers": settings.servers, "group.id": settings.client_id, "log_level": 0})
    try:
        for (topic, partition), (first, end) in log_bounds(settings, places).items():
            consumer.assign([TopicPartition(topic, partition, max(first, end - most))])
            while messages := consumer.consume(most, timeout=KEYS_SECONDS) if first < end else []:
                for message in messages:
                    with suppress(UnicodeDecodeError):
                        found.append(((message.key() or b"").decode(), partition))
                if messages[-1].offset() >= end - 1:
                    break
    finally:
        consumer.close()
    return found


def has_records(settings: KafkaSettings, place: tuple[str, int], first: int, end: int) -> bool:
    """Whether any committed record lies from an offset on before the log's end, and not only the ends of transactions
    and what these aborted; True, too, where that cannot be told in time."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.servers,
            "group.id": settings.client_id,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(*place, first)])
        for message in consumer.consume(1, timeout=SEARCH_SECONDS):
            error = message.error()
            if error is None:
                return bool((message.offset() or 0) < end)
            return bool(error.code() != KafkaError._PARTITION_EOF)
        return True
    finally:
        consumer.close()


def record_at(
    settings: KafkaSettings, topic: str, partition: int, offset: int
) -> tuple[bytes | None, bytes | None] | None:
    """Key and value of one record; None where Kafka does not have it any more. Raises KafkaUnavailable."""
    first, end = log_bounds(settings, [(topic, partition)])[topic, partition]
    if not first <= offset < end:
        return None
    consumer = records_consumer(settings, settings.client_id)
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        for message in consumer.consume(1, timeout=SEARCH_SECONDS):
            if message.error() is None and message.offset() == offset:
                return message.key(), message.value()
            return None
        raise KafkaUnavailable(f"{settings.servers} did not send {topic}/{partition}@{offset} in time")
    finally:
        consumer.close()


def create_topics(
    settings: KafkaSettings, topics: Mapping[str, Mapping[str, str]], *, partitions: int, replication: int
) -> list[str]:
    """Creates those that are missing (name -> topic configuration); returns the created names."""
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.create_topics(
        [
            NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config))
            for name, config in topics.items()
        ],
        request_timeout=REQUEST_SECONDS,
    )
    created = []
    for name, future in futures.items():
        try:
            future.result(REQUEST_SECONDS)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaUnavailable(f"cannot create topic {name}: {error.args[0].str()}") from None
    return created


def delete_topics(settings: KafkaSettings, names: Iterable[str]) -> None:
    """Deletes topics with all that is in them; one that is gone already is no error."""
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.delete_topics(list(names), request_timeout=REQUEST_SECONDS)
    for name, future in futures.items():
        try:
            future.result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaUnavailable(f"cannot delete topic {name}: {error.args[0].str()}") from None


def topic_configurations(prefix: str, record_size_limit: int) -> dict[str, dict[str, str]]:
    """Every topic of the contract that this version reads or writes, with its configuration."""
    sized = {"max.message.bytes": str(record_size_limit + SIZE_MARGIN)}
    return {
        f"{prefix}transactions": sized,
        f"{prefix}engagements": sized,
        f"{prefix}items": sized | {"cleanup.policy": "compact"},
        f"{prefix}feedback": sized,
        f"{prefix}alerts": sized,
        f"{prefix}recommendations": {},
        f"{prefix}predictions": {},
        f"{prefix}dead-letters": sized,
        f"{prefix}model-updates": {"cleanup.policy": "compact"},
    }
