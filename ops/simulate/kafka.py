"""Simulated traffic into Kafka: transactions and the labels that follow them, keyed by account as the contract says.

Refuses to begin when no broker answers or a topic is missing (KafkaUnavailable, TopicMissing: what, where, what to
do), and fails when a message was not delivered. Never creates topics: `headgate topics create` does, with their
sizes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from confluent_kafka import KafkaError, Message

from ops.simulate.cards import SimulatedTransactions
from ops.simulate.labels import Labels
from ops.simulate.messages import label_messages, transaction_messages
from streams.kafka import KafkaSettings, KafkaUnavailable, check_broker, describe_topics, producer

FLUSH_SECONDS = 30.0
#: Callbacks of the client are served after this many messages.
POLL_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class Produced:
    """Messages that the broker has acknowledged."""

    transactions: int
    feedback: int


class KafkaOutput:
    """Use as a context manager; leaving it waits until everything is delivered."""

    def __init__(self, servers: str, *, topic_prefix: str = "", linger_ms: int = 5) -> None:
        settings = KafkaSettings(servers, "headgate-simulate")
        self._servers = servers
        self._transactions_topic, self._feedback_topic = f"{topic_prefix}transactions", f"{topic_prefix}feedback"
        check_broker(settings)
        describe_topics(settings, [self._transactions_topic, self._feedback_topic])
        self._failure: str | None = None
        self._transactions = self._feedback = 0
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

    def __enter__(self) -> "KafkaOutput":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()
        else:
            self._producer.purge()

    def send(self, transactions: SimulatedTransactions, labels: Labels) -> None:
        """Queues all of it, as fast as the broker takes it. Raises KafkaUnavailable when something was lost."""
        self._transactions += self._produce(self._transactions_topic, transaction_messages(transactions))
        self._feedback += self._produce(self._feedback_topic, label_messages(labels))

    def flush(self) -> Produced:
        """Everything sent so far, once it is delivered. Raises KafkaUnavailable."""
        left = self._producer.flush(FLUSH_SECONDS)
        self._raise_failure()
        if left:
            raise KafkaUnavailable(
                f"{left} messages are still not delivered to {self._servers} ({FLUSH_SECONDS:.0f} s)"
            )
        return Produced(self._transactions, self._feedback)

    def _produce(self, topic: str, messages: Iterable[tuple[str, bytes]]) -> int:
        produce, sent = self._producer.produce, 0
        for key, value in messages:
            try:
                produce(topic, value, key)
            except BufferError:
                self._wait_for_room()
                produce(topic, value, key)
            sent += 1
            if sent % POLL_EVERY == 0:
                self._producer.poll(0)
                self._raise_failure()
        self._producer.poll(0)
        self._raise_failure()
        return sent

    def _wait_for_room(self) -> None:
        """Until half of the queue is delivered, or the broker has been silent for too long."""
        full = len(self._producer)
        while len(self._producer) > full // 2:
            self._producer.poll(0.05)
            self._raise_failure()

    def _note_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"a message for {message.topic()} was not delivered to {self._servers}: {error.str()}"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise KafkaUnavailable(self._failure)
