"""How long partitions stand still when one of a contestant's two processes is killed.

Events come at a steady rate; kill -9 hits one process; the clock runs until every partition has a new output. Outputs
are read from Kafka as committed records. At the end everything sent must have come out: what did not is lost, and what
came more than once is counted.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ops.bench.faults.worker_process import NeverHappened, wait_until

PARTITIONS, RATE = 4, 200
TICK_SECONDS = 0.05
START_SECONDS, BEFORE_SECONDS, STALL_SECONDS, REST_SECONDS = 90.0, 5.0, 100.0, 60.0


class Process(Protocol):
    """One of a contestant's two."""

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Stalled:
    """stall_seconds: from the kill to the first new output on the last partition to have one; None where that did not
    come within the bound. lost, doubled: events that never came out, outputs beyond an event's first."""

    contestant: str
    stall_seconds: float | None
    events: int
    lost: int
    doubled: int


@dataclass(slots=True)
class Traffic:
    """Sends numbered events to all partitions in turn, on a thread, and hears what comes out, on another."""

    kafka: str
    source: str
    target: str
    sent: int = 0
    heard: dict[str, int] = field(default_factory=dict)
    #: Partition -> when its first new output after `mark` was heard. Of what was made before, some is heard later.
    first: dict[int, float] = field(default_factory=dict)
    _marked: float = 0.0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _deaf: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._hear)]
        for thread in self._threads:
            thread.start()

    def mark(self) -> None:
        """From now on `first` is filled anew."""
        with self._lock:
            self.first, self._marked = {}, time.time()

    def stop_sending(self) -> None:
        self._stopping.set()
        self._threads[0].join()

    def stop(self) -> None:
        self.stop_sending()
        self._deaf.set()
        self._threads[1].join()

    def _send(self) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True, "log_level": 0})
        due = time.monotonic()
        while not self._stopping.is_set():
            for _ in range(round(RATE * TICK_SECONDS)):
                partition = self.sent % PARTITIONS
                key, value = message(partition, self.sent)
                producer.produce(self.source, key=key, value=value, partition=partition)
                self.sent += 1
            producer.poll(0)
            due += TICK_SECONDS
            self._stopping.wait(max(0.0, due - time.monotonic()))
        producer.flush(30)

    def _hear(self) -> None:
        settings = {"bootstrap.servers": self.kafka, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"}
        consumer = Consumer({**settings, "enable.auto.commit": False})
        consumer.assign([TopicPartition(self.target, number, 0) for number in range(PARTITIONS)])
        try:
            while not self._deaf.is_set():
                for one in consumer.consume(500, timeout=0.1):
                    if one.error() is None:
                        self._note(json.loads(one.value() or b"{}")["event_id"], one.timestamp()[1] / 1000)
        finally:
            consumer.close()

    def _note(self, event_id: str, made_at: float) -> None:
        with self._lock:
            if event_id not in self.heard and made_at > self._marked:
                self.first.setdefault(int(event_id.partition("-")[0]), time.monotonic())
            self.heard[event_id] = self.heard.get(event_id, 0) + 1


def message(partition: int, number: int) -> tuple[bytes, bytes]:
    """An event that every contestant understands; its id begins with its partition."""
    account = f"account-{partition}-{number // PARTITIONS % 200}"
    fields = {
        "event_id": f"{partition}-{number}",
        "occurred_at": round(time.time() * 1000),
        "account_id": account,
        "merchant_id": f"merchant-{number % 50}",
        "amount": 10.0 + number % 90,
    }
    return account.encode(), json.dumps(fields).encode()


def measured(name: str, traffic: Traffic, group: str, start: Callable[[], Sequence[Process]]) -> Stalled:
    """One contestant's run. Raises NeverHappened where it does not get going."""
    traffic.start()
    processes = start()
    try:
        wait_until(f"two members of {name} share the partitions", lambda: shared(traffic, group), START_SECONDS)
        traffic.mark()
        wait_until(f"{name} works on every partition", lambda: len(traffic.first) == PARTITIONS, START_SECONDS)
        time.sleep(BEFORE_SECONDS)
        processes[1].kill()
        killed = time.monotonic()
        traffic.mark()
        stall = until_all_go_on(traffic, killed)
        traffic.stop_sending()
        complete(traffic)
    finally:
        traffic.stop()
        for process in processes:
            process.kill()
    doubled = sum(count - 1 for count in traffic.heard.values())
    return Stalled(name, stall, traffic.sent, traffic.sent - len(traffic.heard), doubled)


def until_all_go_on(traffic: Traffic, killed: float) -> float | None:
    try:
        wait_until("every partition goes on", lambda: len(traffic.first) == PARTITIONS, STALL_SECONDS)
    except NeverHappened:
        return None
    return max(traffic.first.values()) - killed


def complete(traffic: Traffic) -> None:
    """Waits until everything came out, or nothing more comes."""
    deadline = time.monotonic() + REST_SECONDS
    while len(traffic.heard) < traffic.sent and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2.0)  # for what comes twice


def shared(traffic: Traffic, group: str) -> bool:
    """Whether two members of the group have the source's partitions between them."""
    admin = AdminClient({"bootstrap.servers": traffic.kafka, "log_level": 0})
    (described,) = admin.describe_consumer_groups([group]).values()
    try:
        members = described.result(10).members
    except (KafkaException, TimeoutError):  # a group that nobody has joined yet
        return False
    counts = [
        sum(place.topic == traffic.source for place in member.assignment.topic_partitions)
        for member in members
        if member.assignment is not None
    ]
    return bool(sum(counts) == PARTITIONS and sum(count > 0 for count in counts) == 2)
