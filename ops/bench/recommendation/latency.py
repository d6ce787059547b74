"""How long after an engagement was sent the user's new slate is in Redis, through Kafka, a whole worker and SQL.

Services of its own on a real disk (PostgreSQL with fsync), 1,000 items, an untrained policy of the usual size, and one
`headgate worker` with its defaults. Engagements come at an even pace, each from another user. Redis tells of every
slate that it takes, so nothing is polled.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import redis
import torch
from confluent_kafka import Producer

from models.item_content import Item
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy
from ops.bench.contestants import HEADGATE, contestant, running
from ops.bench.measure import BenchmarkFailed
from ops.bench.stage import Stage, stage
from ops.clock import utc_now
from storage.database import open_database
from storage.registry import ModelRegistry
from streams.policy_watch import POLICY_KIND, POLICY_NAME

Progress = Callable[[str, float], None]
ITEMS, USERS, PARTITIONS = 1_000, 5_000, 4
ACTIONS = ("click", "dwell", "like", "skip")
#: The broker's Java compiles in the first half minute, and takes 70 % of a core then instead of 25.
WARM_SECONDS, READY_SECONDS, LAST_SECONDS = 30.0, 90.0, 10.0


@dataclass(slots=True)
class Watch:
    """Users' engagements on their way, and how long each took. Times in seconds of one monotonic clock."""

    sent_at: dict[str, float] = field(default_factory=dict)
    taken: list[tuple[float, float]] = field(default_factory=list)

    def arrived(self, user_id: str, now: float) -> None:
        sent = self.sent_at.pop(user_id, None)
        if sent is not None:
            self.taken.append((sent, now - sent))


def latency_benchmark(rate: float, seconds: float, progress: Progress) -> dict[str, Any]:
    """{"rate", "slates", "unanswered", "p50", "p90", "p99", "p999", "max"}, latencies in seconds; the first thirty
    seconds do not count. Raises BenchmarkFailed, ServiceUnavailable."""
    with stage(1_000, 100, PARTITIONS, 64, progress) as prepared, prepared.database() as url:
        promote_untrained_policy(prepared, url)
        producer = Producer({"bootstrap.servers": prepared.kafka, "linger.ms": 0, "log_level": 0})
        send_items(producer)
        with (
            running(contestant(HEADGATE), prepared, url, {"RANDOM_HOLDOUT": "0"}),
            closing(redis.Redis.from_url(prepared.redis)) as client,
        ):
            wait_for_catalogue(producer, client)
            return measured(producer, client, rate, seconds, progress)


def promote_untrained_policy(prepared: Stage, url: str) -> None:
    torch.manual_seed(0)
    policy = TrainedPolicy(PolicyNetwork(PolicyConfig()).eval())
    database = open_database(url)
    try:
        ModelRegistry(database, str(prepared.models)).register(
            POLICY_NAME, POLICY_KIND, policy.to_bytes(), feature_schema=1, metrics={}, clock=utc_now, alias="champion"
        )
    finally:
        database.engine.dispose()


def send_items(producer: Producer) -> None:
    for number in range(ITEMS):
        item = Item(f"item-{number}", f"thing {number}", category=f"kind {number % 20}", price=float(number % 90))
        value = {name: getattr(item, name) for name in ("item_id", "title", "category", "price")}
        producer.produce("items", key=item.item_id.encode(), value=json.dumps(value).encode())
    producer.flush(30)


def wait_for_catalogue(producer: Producer, client: redis.Redis) -> None:
    """Engagements of one user until he gets a slate."""
    deadline, number = time.monotonic() + READY_SECONDS, 0
    while not client.exists("headgate:recs:first"):
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"there was no slate within {READY_SECONDS:.0f} s")
        number += 1
        send(producer, "first", f"first-{number}", number)
        producer.flush(5)
        time.sleep(0.25)


def send(producer: Producer, user_id: str, event_id: str, number: int) -> None:
    value = {
        "event_id": event_id,
        "occurred_at": round(time.time() * 1000),
        "user_id": user_id,
        "item_id": f"item-{number * 7919 % ITEMS}",
        "action": ACTIONS[number % len(ACTIONS)],
    }
    producer.produce("engagements", key=user_id.encode(), value=json.dumps(value).encode())
    producer.poll(0)


def measured(
    producer: Producer, client: redis.Redis, rate: float, seconds: float, progress: Progress
) -> dict[str, Any]:
    client.config_set("notify-keyspace-events", "K$")
    watch, done = Watch(), threading.Event()
    with closing(client.pubsub(ignore_subscribe_messages=True)) as told:  # type: ignore[no-untyped-call]
        told.psubscribe("__keyspace@0__:headgate:recs:*")
        listener = threading.Thread(target=listen, args=(told, watch, done), daemon=True)
        listener.start()
        begin, count = time.monotonic() + 0.5, int(rate * (WARM_SECONDS + seconds))
        for number in range(count):
            due = begin + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            user_id = f"user-{number % USERS}"
            watch.sent_at[user_id] = time.monotonic()
            send(producer, user_id, f"event-{number}", number)
            progress("latency", number / count)
        producer.flush(10)
        deadline = time.monotonic() + LAST_SECONDS
        while watch.sent_at and time.monotonic() < deadline:
            time.sleep(0.05)
        done.set()
        listener.join()
    taken = np.array([latency for sent, latency in watch.taken if sent >= begin + WARM_SECONDS])
    if not len(taken):
        raise BenchmarkFailed("no slate came")
    shares = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9, "max": 100}
    figures = {name: float(np.percentile(taken, share)) for name, share in shares.items()}
    return {"rate": rate, "slates": len(taken), "unanswered": len(watch.sent_at), **figures}


def listen(told: Any, watch: Watch, done: threading.Event) -> None:
    while not done.is_set():
        message = told.get_message(timeout=0.2)
        if message is not None:
            watch.arrived(message["channel"].decode().rpartition(":")[2], time.monotonic())
