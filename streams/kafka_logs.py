"""What lies in Kafka's logs: their bounds, keys at their ends, whether there is any record.

`Broker` asks for some of it again and again over one client, the rest makes one for each question.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.kafka import (
    REQUEST_SECONDS,
    KafkaSettings,
    KafkaUnavailable,
    OnError,
    admin_client,
    client_options,
    refused,
)
from streams.kafka_refusals import refusal_of

#: How long a record that is there may take to arrive.
KEYS_SECONDS = 3.0
#: How long a search for a record may take: of an aborted transaction all of them are read and dropped.
SEARCH_SECONDS = 10.0


def log_bounds(
    settings: KafkaSettings, places: Iterable[tuple[str, int]], timeout: float = REQUEST_SECONDS
) -> dict[tuple[str, int], tuple[int, int]]:
    """Of each (topic, partition) its first available offset and its next one (after the last committed record)."""
    admin = admin_client(settings)  # kept until the answers are in
    wanted = list(places)
    first = _offsets(settings, admin, wanted, OffsetSpec.earliest(), timeout)
    end = _offsets(settings, admin, wanted, OffsetSpec.latest(), timeout)
    return {place: (first[place], end[place]) for place in wanted}


class Broker:
    """Asks a broker the same again and again, over one client. on_error: hears what that complains of."""

    def __init__(
        self, settings: KafkaSettings, timeout: float = REQUEST_SECONDS, on_error: OnError = lambda error: None
    ) -> None:
        self._settings = settings
        self._timeout = timeout
        self._on_error = on_error
        self._complaints: list[KafkaError] = []
        self._admin = AdminClient({**client_options(settings, self._complaints.append), "log_level": 0})

    def answers(self) -> bool:
        try:
            self._topics()
        except KafkaUnavailable:
            return False
        return True

    def partitions(self, topics: Iterable[str]) -> list[tuple[str, int]]:
        """All (topic, partition) of those topics that exist. Raises KafkaUnavailable."""
        known = self._topics()
        return [(topic, partition) for topic in topics if topic in known for partition in known[topic].partitions]

    def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Partitions' next offsets. Raises KafkaUnavailable."""
        return _offsets(self._settings, self._admin, list(places), OffsetSpec.latest(), self._timeout)

    def _topics(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._admin.list_topics(timeout=self._timeout).topics
        except KafkaException as error:
            refusals = [each for each in self._listen() if refusal_of(each) is not None]
            raise refused(self._settings, (refusals or error.args)[0], "no Kafka broker answers") from None
        self._listen()
        return found

    def _listen(self) -> list[KafkaError]:
        """What it complained of since the last time."""
        self._admin.poll(0)
        complaints = self._complaints[:]
        self._complaints.clear()
        for error in complaints:
            self._on_error(error)
        return complaints


def _offsets(
    settings: KafkaSettings,
    admin: AdminClient,
    places: Sequence[tuple[str, int]],
    spec: OffsetSpec,
    timeout: float,
) -> dict[tuple[str, int], int]:
    wanted = {TopicPartition(*place): spec for place in places}
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout)
    found = {}
    for place, future in futures.items():
        what = f"cannot look at {place.topic}/{place.partition}"
        try:
            found[place.topic, place.partition] = future.result(timeout).offset
        except KafkaException as error:
            raise refused(settings, error.args[0], what) from None
        except TimeoutError:
            raise KafkaUnavailable(f"{what}: no answer in time") from None
    return found


def newest_keys(settings: KafkaSettings, places: Iterable[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """(key, partition) of at most so many records at each log's end; keys that are no text are left out."""
    found = []
    consumer = _looking_consumer(settings)
    try:
        for (topic, partition), (first, end) in log_bounds(settings, places).items():
            consumer.assign([TopicPartition(topic, partition, max(first, end - most))])
            while messages := _messages(consumer, most, KEYS_SECONDS) if first < end else []:
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
    consumer = _looking_consumer(settings, **{"isolation.level": "read_committed", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(*place, first)])
        for message in _messages(consumer, 1, SEARCH_SECONDS):
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
    consumer = _looking_consumer(settings, **{"isolation.level": "read_committed", "auto.offset.reset": "error"})
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        for message in _messages(consumer, 1, SEARCH_SECONDS):
            if message.error() is None and message.offset() == offset:
                return message.key(), message.value()
            return None
        raise KafkaUnavailable(f"{settings.servers} did not send {topic}/{partition}@{offset} in time")
    finally:
        consumer.close()


def _messages(consumer: Consumer, most: int, seconds: float) -> list[Message]:
    """As its `consume`, without what it says of the group, to which it needs no right."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        messages = [each for each in consumer.consume(most, timeout=left) if not _of_group(each)]
        if messages:
            return messages
    return []


def _of_group(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def _looking_consumer(settings: KafkaSettings, **more: object) -> Consumer:
    """Belongs to no group, and so needs no right to one: its name says only who it is."""
    options = {
        **client_options(settings, None),
        "group.id": settings.client_id,
        "enable.auto.commit": False,
        "log_level": 0,
    }
    return Consumer({**options, **more})
