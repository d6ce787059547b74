"""Reads one topic for its pipeline: the records of the partitions that this worker claimed, from SQL's offsets on.

librdkafka fetches, unpacks and waits on threads of its own, outside Python's lock, within a bound of memory; `take`
hands over what has come meanwhile. So a batch is as large as the time that the one before it took to compute, and a
lone record waits for nothing. The group, and who owns what, are no business of this module (transport.py, flow.py).
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from operator import methodcaller

import msgspec
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.batch import Chunk, OwnedPartition

log = structlog.get_logger(__name__)

#: How soon a take notices that other partitions are to be read.
POLL_SECONDS = 0.05
#: Of keys and values in a batch; what comes on top of it is less than RECORDS_AT_ONCE records. Without this bound a
#: small compressed batch would be unpacked, decoded and stored in one piece, however large it is then.
MOST_BATCH_BYTES = 32 * 1_048_576
RECORDS_AT_ONCE = 64
KEY_OF = methodcaller("key")
#: How long a question about a log's bounds may take; asked again with the next take.
BOUNDS_SECONDS = 5.0
#: The log has no record at our position: it was truncated, or is not the one that we know.
OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
#: Said with the first of these where others are in the place of records that were read, with the end of what stayed.
REPLACED = re.compile(r"truncation detected.*end offset is (-?\d+)")
#: librdkafka would pass over what it cannot unpack.
UNREADABLE = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED, KafkaError._UNDERFLOW}


class RecordsUnreadable(Exception):
    """Kafka has something at this place that is no batch of records. Passing over it would lose records."""


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as decoding needs it (streams/records.py). timestamp: epoch milliseconds, -1 without one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


#: Called with a partition's owner, our position, and the log's first and next offsets.
OutOfRange = Callable[[OwnedPartition, int, int, int], None]


def waiting_behind(first: Message, consumer: Consumer, most: int) -> list[Message]:
    """What is there already, as far as a batch may have it: with the first at most `most` records, and no more once
    they have MOST_BATCH_BYTES."""
    found: list[Message] = []
    size = _bytes_of([first])
    while (wanted := min(RECORDS_AT_ONCE, most - 1 - len(found))) > 0 and size < MOST_BATCH_BYTES:
        came = consumer.consume(wanted, 0)
        found += came
        size += _bytes_of(came)
        if len(came) < wanted:
            break
    return found


def _bytes_of(messages: Sequence[Message]) -> int:
    return sum(map(len, messages)) + sum(map(len, filter(None, map(KEY_OF, messages))))


class TopicReader:
    """`read` may be called from any thread; the rest belongs to the compute thread. on_end: hears of each partition's
    next offset in Kafka; on_out_of_range: of a partition that is not read any more, as there is no record where it
    stands; on_error: of what Kafka says instead of a record, and says whether it saw to it."""

    def __init__(
        self,
        topic: str,
        make_consumer: Callable[[], Consumer],
        *,
        on_end: Callable[[str, int, int], None],
        on_out_of_range: OutOfRange,
        on_error: Callable[[KafkaError], bool] = lambda error: False,
    ) -> None:
        self._topic = topic
        self._make_consumer = make_consumer
        self._on_end = on_end
        self._on_out_of_range = on_out_of_range
        self._on_error = on_error
        self._consumer: Consumer | None = None
        self._owners: dict[int, OwnedPartition] = {}
        self._unsure: set[int] = set()
        self._wanted: Sequence[OwnedPartition] | None = None
        self._closing = False
        self._changed = threading.Condition()

    def read(self, owners: Iterable[OwnedPartition]) -> None:
        """From the next take on these partitions alone, each from where its intake stands."""
        with self._changed:
            self._wanted = list(owners)
            self._changed.notify_all()

    def take(self, most: int, timeout: float) -> list[Chunk]:
        """What has come, a chunk for each partition, together at most `most` records; waits for the first, at most
        `timeout` seconds. Raises RecordsUnreadable, KafkaException where the client is beyond help."""
        self._follow()
        self._settle_bounds()
        consumer = self._consumer
        if consumer is None or not self._owners:
            if consumer is not None:
                consumer.poll(0)  # it may have complaints
            with self._changed:
                self._changed.wait_for(lambda: self._wanted is not None or self._closing, timeout)
            return []
        for _ in range(ceil(timeout / POLL_SECONDS)):
            first = consumer.poll(min(timeout, POLL_SECONDS))
            if first is not None:
                chunks = self._chunks([first, *waiting_behind(first, consumer, most)])
                if chunks or self._unsure:  # else it told of a log's end, as it does after each record of a quiet topic
                    return chunks
            if self._wanted is not None or self._closing:
                break
        return []

    def note_ends(self) -> None:
        """Tells how far the logs are, while nothing is taken."""
        for number in self._owners:
            self._note_end(number)

    def wake(self) -> None:
        """Ends a wait for records for good; from any thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Once the compute thread has ended."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _follow(self) -> None:
        """Takes over what `read` asked for, and lets go of what was lost since."""
        with self._changed:
            wanted, self._wanted = self._wanted, None
        if wanted is None and all(owner.usable for owner in self._owners.values()):
            return
        self._assign(self._owners.values() if wanted is None else wanted)

    def _assign(self, owners: Iterable[OwnedPartition]) -> None:
        """What librdkafka fetched under the assignment before it drops."""
        self._owners = {owner.claim.partition: owner for owner in owners if owner.usable}
        self._unsure &= self._owners.keys()
        if self._consumer is None:
            if not self._owners:
                return
            self._consumer = self._make_consumer()
        self._consumer.assign(
            [TopicPartition(self._topic, number, owner.accepted) for number, owner in self._owners.items()]
        )

    def _chunks(self, messages: Sequence[Message]) -> list[Chunk]:
        found: defaultdict[int, list[FetchedRecord]] = defaultdict(list)
        for message in messages:
            if message.error() is None:
                record = FetchedRecord(message.offset(), message.timestamp()[1], message.key(), message.value())
                found[message.partition()].append(record)
            else:
                self._told(message)
        chunks = []
        for number, records in found.items():
            owner = self._owners.get(number)
            if owner is not None:
                owner.fetched = records[-1].offset + 1
                chunks.append(Chunk(owner, records))
                self._note_end(number)
        return chunks

    def _note_end(self, number: int) -> None:
        """As of the latest fetch; no question to the broker."""
        if self._consumer is None:
            return
        bounds = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
        if bounds is not None and bounds[1] >= 0:
            self._on_end(self._topic, number, bounds[1])

    def _told(self, message: Message) -> None:
        """What librdkafka says in place of a record."""
        error, number = message.error(), message.partition()
        assert error is not None
        owner = None if number is None else self._owners.get(number)
        if error.code() == KafkaError._PARTITION_EOF:
            if owner is not None and (end := message.offset()) is not None:
                owner.reached = end
                self._on_end(self._topic, owner.claim.partition, end)
        elif error.code() in OUT_OF_RANGE:
            replaced = REPLACED.search(error.str())
            if owner is not None and replaced is not None:
                self._let_go(owner, 0, int(replaced[1]))
            elif owner is not None:
                self._unsure.add(owner.claim.partition)
        elif error.code() in UNREADABLE:
            where = f"{self._topic}/{number}" + ("" if owner is None else f" from offset {owner.accepted} on")
            raise RecordsUnreadable(f"Kafka's records in {where} cannot be read: {error.str()}")
        elif error.fatal():
            raise KafkaException(error)
        elif not self._on_error(error):
            log.warning("Kafka's consumer reports", topic=self._topic, problem=error.str())

    def _settle_bounds(self) -> None:
        """Whether there really is no record where a partition stands: it is read again, or not any more."""
        for number in sorted(self._unsure):
            owner = self._owners.get(number)
            if owner is None or self._consumer is None:  # it was lost while another one's bounds were asked for
                continue
            try:
                first, end = self._consumer.get_watermark_offsets(
                    TopicPartition(self._topic, number), timeout=BOUNDS_SECONDS
                )
            except KafkaException as error:
                log.warning("cannot look at a log's bounds yet", topic=self._topic, problem=str(error))
                continue
            self._unsure.discard(number)
            if first <= owner.accepted <= end:
                self._assign(self._owners.values())
            else:
                self._let_go(owner, first, end)

    def _let_go(self, owner: OwnedPartition, first: int, end: int) -> None:
        self._assign([other for other in self._owners.values() if other is not owner])
        self._on_out_of_range(owner, owner.accepted, first, end)
