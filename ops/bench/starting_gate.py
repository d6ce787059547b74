"""Holds back what comes into a topic until a run may start, so that all workers are there when the first record is.

An open transaction stands at the begin of each partition: readers of committed records do not get past it, whatever is
sent after it. Aborted, it leaves offsets without a record. Knows no worker.
"""

import uuid

from confluent_kafka import Producer

#: The longest that a broker lets a transaction be open by default; within it the gate has to be opened.
LONGEST_SHUT_MILLISECONDS = 900_000
SECONDS = 30.0


class StartingGate:
    """Shut once it is made. Raises KafkaException."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "transactional.id": f"bench-gate-{uuid.uuid4().hex}",
                "transaction.timeout.ms": LONGEST_SHUT_MILLISECONDS,
                "log_level": 0,
            }
        )
        self._producer.init_transactions(SECONDS)
        self._producer.begin_transaction()
        for partition in range(partitions):
            self._producer.produce(topic, b"shut", partition=partition)
        self._producer.flush(SECONDS)

    def open(self) -> None:
        self._producer.abort_transaction(SECONDS)
