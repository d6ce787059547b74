"""Simulated traffic into Kafka: transactions and the labels that follow them, keyed by account as the contract says.

Refuses to begin when no broker answers or a topic is missing (KafkaUnavailable, TopicMissing: what, where, what to
do), and fails when a message was not delivered. Never creates topics: `headgate topics create` does, with their
sizes.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, Message

from ops.simulate.cards import SimulatedTransactions
from ops.simulate.labels import Labels
from ops.simulate.messages import label_messages, transaction_messages
from streams.kafka import KafkaSettings, KafkaUnavailable, describe_topics, producer, refused
from streams.kafka_rights import Needed, check_rights

FLUSH_SECONDS = 30.0
#: Python sees Ctrl-C only between two calls of the client.
INTERRUPTIBLE_SECONDS = 0.2
#: Callbacks of the client are served after this many messages.
POLL_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Produced:
    """Messages that the broker has acknowledged."""

    transactions: int
    feedback: int


class TopicOutput:
    """Messages into named topics. Use as a context manager; leaving it waits until everything is delivered."""

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], *, topic_prefix: str = "", linger_ms: int = 5
    ) -> None:
        self._settings = settings = replace(settings, client_id="headgate-simulate")
        self._prefix = topic_prefix
        names = [f"{topic_prefix}{topic}" for topic in topics]
        check_rights(settings, Needed(written=names))
        describe_topics(settings, names)
        self._failure: KafkaUnavailable | None = None
        self._producer = producer(
            settings,
            **{
                "linger.ms": linger_ms,
                "compression.type": "lz4",
                "batch.num.messages": 100_000,
                "queue.buffering.max.messages": 500_000,
                "delivery.report.only.error": True,
                "on_delivery": self._note_failure,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.deliver()
        else:
            self._producer.purge()

    def produce(self, topic: str, messages: Iterable[tuple[str, bytes]]) -> int:
        """Queues keys and values for a topic (named without prefix), as fast as the broker takes them; how many.
        Raises KafkaUnavailable when something was lost."""
        name, produce, sent = f"{self._prefix}{topic}", self._producer.produce, 0
        for key, value in messages:
            try:
                produce(name, value, key)
            except BufferError:
                self._wait_for_room()
                produce(name, value, key)
            sent += 1
            if sent % POLL_EVERY == 0:
                self._producer.poll(0)
                self._raise_failure()
        self._producer.poll(0)
        self._raise_failure()
        return sent

    def deliver(self) -> None:
        """Returns once everything sent so far is delivered. Raises KafkaUnavailable."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while (left := self._producer.flush(INTERRUPTIBLE_SECONDS)) and time.monotonic() < deadline:
            self._raise_failure()
        self._raise_failure()
        if left:
            raise KafkaUnavailable(
                f"{left} messages are still not delivered to {self._settings.servers} ({FLUSH_SECONDS:.0f} s)"
            )

    def _wait_for_room(self) -> None:
        """Until half of the queue is delivered, or the broker has been silent for too long."""
        full = len(self._producer)
        while len(self._producer) > full // 2:
            self._producer.poll(0.05)
            self._raise_failure()

    def _note_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            what = f"a message for {message.topic()} was not delivered to {self._settings.servers}"
            self._failure = refused(self._settings, error, what)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


class KafkaOutput(TopicOutput):
    """Card traffic."""

    def __init__(self, settings: KafkaSettings, *, topic_prefix: str = "", linger_ms: int = 5) -> None:
        super().__init__(settings, ["transactions", "feedback"], topic_prefix=topic_prefix, linger_ms=linger_ms)
        self._transactions = self._feedback = 0

    def send(self, transactions: SimulatedTransactions, labels: Labels) -> None:
        """Queues all of it, as fast as the broker takes it. Raises KafkaUnavailable when something was lost."""
        self._transactions += self.produce("transactions", transaction_messages(transactions))
        self._feedback += self.produce("feedback", label_messages(labels))

    def flush(self) -> Produced:
        """Everything sent so far, once it is delivered. Raises KafkaUnavailable."""
        self.deliver()
        return Produced(self._transactions, self._feedback)
