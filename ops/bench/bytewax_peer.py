"""Bytewax: a source over librdkafka that hands on whole batches as single items, and a stateless sink for these.

The whole program of this contestant; `python -m ops.bench.bytewax_peer` with the options of peer.py. One process, one
worker thread. Bytewax keeps its progress in its own recovery store, in the working folder, instead of a consumer group.
The `KafkaSource` that comes with it makes an object of eight fields of each message, and an item of each.
"""

from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from ops.bench.peer import BATCH_RECORDS, PeerOptions, ScoringSink, read_options
from streams.reading import FetchedRecord

#: As long as Bytewax's own source waits for a batch to fill; Bytewax has one thread for all partitions and the sink.
WAIT_SECONDS = 0.001
RECOVERY = Path("bytewax-recovery")

#: By partition, as ScoringSink takes them; one partition's here.
Batch = dict[int, list[FetchedRecord]]


class PartitionReader(StatefulSourcePartition[Batch, int]):
    """Reads a partition from the offset, which is Bytewax's state of it."""

    def __init__(self, options: PeerOptions, partition: int, offset: int) -> None:
        self._partition = partition
        self._offset = offset
        self._consumer = Consumer(consumer_settings(options))
        self._consumer.assign([TopicPartition(options.topic, partition, offset)])

    def next_batch(self) -> list[Batch]:
        messages = self._consumer.consume(BATCH_RECORDS, WAIT_SECONDS)
        if not messages:
            return []
        records = [record_of(message) for message in messages]
        self._offset = records[-1].offset + 1
        return [{self._partition: records}]

    def snapshot(self) -> int:
        return self._offset


class TopicSource(FixedPartitionedSource[Batch, int]):
    def __init__(self, options: PeerOptions) -> None:
        self._options = options

    def list_parts(self) -> list[str]:
        client = Consumer(consumer_settings(self._options))
        try:
            topic = self._options.topic
            return [str(number) for number in client.list_topics(topic, timeout=10).topics[topic].partitions]
        finally:
            client.close()

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> PartitionReader:
        offset = OFFSET_BEGINNING if resume_state is None else resume_state
        return PartitionReader(self._options, int(for_part), offset)


class CopyPartition(StatelessSinkPartition[Batch]):
    def __init__(self, sink: ScoringSink) -> None:
        self._sink = sink

    def write_batch(self, items: list[Batch]) -> None:
        for records in items:
            self._sink.write(records)


class CopySink(DynamicSink[Batch]):
    """Bytewax builds one partition for each worker thread."""

    def __init__(self, options: PeerOptions) -> None:
        self._options = options

    def build(self, step_id: str, worker_index: int, worker_count: int) -> CopyPartition:
        return CopyPartition(ScoringSink(self._options))


def consumer_settings(options: PeerOptions) -> dict[str, str | bool]:
    """librdkafka wants a group though nothing is committed in it."""
    return {"bootstrap.servers": options.kafka, "group.id": options.group, "enable.auto.commit": False}


def record_of(message: Message) -> FetchedRecord:
    if message.error() is not None:
        raise KafkaException(message.error())
    return FetchedRecord(message.offset(), message.timestamp()[1], message.key(), message.value())


def build_flow(options: PeerOptions) -> Dataflow:
    flow = Dataflow("score")
    op.output("copy", op.input("records", flow, TopicSource(options)), CopySink(options))
    return flow


def recovery_store() -> RecoveryConfig:
    """At least once: what came after the last finished epoch (Bytewax's default is 10 s) is read again."""
    if not RECOVERY.exists():
        RECOVERY.mkdir()
        init_db_dir(RECOVERY, 1)
    return RecoveryConfig(RECOVERY)


if __name__ == "__main__":
    cli_main(build_flow(read_options()), recovery_config=recovery_store())
