"""Open-loop load for the fault benchmark: both streams with repeats, late and bad records, feedback and items.

A thread sends at a steady rate, whatever the workers do. Which outcome each record must have can be told from the
record alone and those before it (ops/bench/faults/outcomes.py): repeats follow soon after their first, bad records are
plainly bad.
"""

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from ops.bench.faults.deployment import Deployment
from ops.bench.faults.traffic import FRAUD, ITEMS, Engagers, Traffic, item_message

TICK_SECONDS = 0.05
#: Enough of them that most behave as usual: an account with a payment every second does not.
ACCOUNTS = 3_000
USERS = 400
#: Items whose availability changes, about one each second.
RESTLESS_ITEMS = 20
REPEATED_AMONG = 40
LATEST_MILLISECONDS = 120_000
FRAUDS_LABELLED = 0.5
FLUSH_SECONDS = 60.0

Message = tuple[bytes | None, bytes | None]

#: Without a key: they get a good record's.
BAD_TRANSACTIONS: tuple[Message, ...] = (
    (None, b'{"event_id": '),
    (None, b"\xff\xfe"),
    (None, None),
    (None, b'{"event_id":"n1","occurred_at":1,"account_id":"a1","merchant_id":"m1","amount":-1}'),
    (b"a2", b'{"event_id":"k1","occurred_at":1,"account_id":"a1","merchant_id":"m1","amount":1}'),
)
BAD_ENGAGEMENTS: tuple[Message, ...] = (
    (None, b"{"),
    (None, b'{"event_id":"x"}'),
    (b"user-2", b'{"event_id":"k2","occurred_at":1,"user_id":"user-1","item_id":"item-1","action":"click"}'),
    (b"user-1", b'{"event_id":"k3","occurred_at":1,"user_id":"user-1","item_id":"item-1","action":"stare"}'),
)
BAD_FEEDBACK: Message = (b"a1", b'{"feedback_id":"f","given_at":1,"kind":"label","event_id":"e1","label":"dubious"}')


class LoadFailed(Exception):
    """Kafka did not confirm what was sent."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the good records that are sent again, accompanied by a bad one, sent with an earlier time than they
    come in, or followed by a label (of frauds it is half)."""

    repeated: float = 0.03
    bad: float = 0.01
    late: float = 0.05
    labelled: float = 0.02


@dataclass(frozen=True, slots=True)
class Rates:
    """Good records a second."""

    transactions: int = 200
    engagements: int = 60


class Load:
    """`with Load(deployment, seed=1) as load:` sends until it is stopped. `sent` counts records by topic (without
    prefix); `mix` may be replaced at any time; with `only_bad` every record is bad."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        seed: int,
        rates: Rates | None = None,
        mix: Mix | None = None,
        frauds: float = 0.05,
    ) -> None:
        rates = rates or Rates()
        self.mix, self.only_bad = mix or Mix(), False
        self.sent: Counter[str] = Counter()
        self._prefix = deployment.prefix
        self._transactions_a_tick = rates.transactions * TICK_SECONDS
        self._engagements_a_tick = rates.engagements * TICK_SECONDS
        self._draw = np.random.default_rng(seed)
        self._traffic = Traffic(seed=seed, frauds=frauds, accounts=ACCOUNTS, prefix=f"s{seed}-")
        self._engagers = Engagers(users=USERS, seed=seed)
        self._recent: dict[str, list[Message]] = {"transactions": [], "engagements": []}
        self._labels: list[Message] = []
        self._due = Counter[str]()
        self._running = threading.Event()
        self._ticking = threading.Lock()
        self._stopping = threading.Event()
        self._failures: list[str] = []
        self._producer = deployment.producer(
            **{"enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 300_000}
        )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        if not self.sent["items"]:
            self.send_items()
        self._running.set()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def send_items(self) -> None:
        """All of them, once; the load itself changes only whether some are available."""
        for item in ITEMS:
            self._send("items", item_message(item))
        self._producer.flush(FLUSH_SECONDS)

    @property
    def transactions(self) -> int:
        return self.sent["transactions"]

    @property
    def feedback(self) -> int:
        return self.sent["feedback"]

    def pause(self) -> None:
        """Nothing is sent until `resume`; every record that was sent is in Kafka then. Raises LoadFailed."""
        self._running.clear()
        with self._ticking:
            left = self._producer.flush(FLUSH_SECONDS)
        if left or self._failures:
            raise LoadFailed(f"{left} records are unconfirmed; {self._failures[:3]}")

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        """Ends the load; every record it sent is in Kafka then. Twice does no harm."""
        self._stopping.set()
        self._thread.join()
        self._producer.flush(FLUSH_SECONDS)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            if not self._running.wait(TICK_SECONDS):
                due = time.monotonic()
                continue
            with self._ticking:
                if self._running.is_set():
                    self._tick(round(time.time() * 1000))
            due = max(due + TICK_SECONDS, time.monotonic() - 1.0)  # after a long hold-up no flood
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _tick(self, now: int) -> None:
        transactions = self._traffic.batch(self._number("transactions", self._transactions_a_tick), now)
        for message in transactions:
            self._send_with_company("transactions", self._perhaps_late(message), BAD_TRANSACTIONS)
            fraud = f'"amount":{FRAUD}'.encode() in message[1]
            if self._draw.random() < (FRAUDS_LABELLED if fraud else self.mix.labelled):
                self._send_feedback(message)
        for _ in range(self._number("engagements", self._engagements_a_tick)):
            fields = self._engagers.engagement(now)
            message = fields["user_id"].encode(), json.dumps(fields).encode()
            self._send_with_company("engagements", self._perhaps_late(message), BAD_ENGAGEMENTS)
        for _ in range(self._number("items", TICK_SECONDS)):
            item = ITEMS[self._draw.integers(RESTLESS_ITEMS)]
            self._send("items", item_message(replace(item, available=bool(self._draw.random() < 0.5))))
        self._producer.poll(0)

    def _number(self, topic: str, a_tick: float) -> int:
        """How many records are due in this tick, where a rate is no whole number of them."""
        self._due[topic] += round(a_tick * 1000)
        number, self._due[topic] = divmod(self._due[topic], 1000)
        return number

    def _perhaps_late(self, message: tuple[bytes, bytes]) -> Message:
        if self._draw.random() >= self.mix.late:
            return message
        fields: dict[str, Any] = json.loads(message[1])
        fields["occurred_at"] -= int(self._draw.integers(1, LATEST_MILLISECONDS))
        return message[0], json.dumps(fields).encode()

    def _send_with_company(self, topic: str, message: Message, bad: tuple[Message, ...]) -> None:
        """The record, perhaps with one of those before it or with a bad one."""
        recent, fate = self._recent[topic], self._draw.random()
        key, value = bad[self._draw.integers(len(bad))]
        poison = key or message[0], value
        if self.only_bad:
            self._send(topic, poison)
            return
        self._send(topic, message)
        if fate < self.mix.repeated and recent:
            self._send(topic, recent[self._draw.integers(len(recent))])
        elif fate < self.mix.repeated + self.mix.bad:
            self._send(topic, poison)
        recent.append(message)
        del recent[:-REPEATED_AMONG]

    def _send_feedback(self, message: tuple[bytes, bytes]) -> None:
        """A label on a transaction that is only now on its way; some labels come twice, some are bad."""
        event = json.loads(message[1])
        fields = {
            "feedback_id": f"f-{event['event_id']}",
            "given_at": event["occurred_at"],
            "kind": "label",
            "event_id": event["event_id"],
            "label": "fraud" if event["amount"] == FRAUD else "legitimate",
            "source": "analyst",
        }
        self._labels = [*self._labels, (message[0], json.dumps(fields).encode())][-20:]
        self._send("feedback", self._labels[-1])
        if self._draw.random() < 0.2:
            self._send("feedback", self._labels[self._draw.integers(len(self._labels))])
        if self._draw.random() < 0.1:
            self._send("feedback", BAD_FEEDBACK)

    def _send(self, topic: str, message: Message) -> None:
        while True:
            try:
                self._producer.produce(
                    f"{self._prefix}{topic}", key=message[0], value=message[1], on_delivery=self._confirmed
                )
                break
            except BufferError:  # the broker is away
                self._producer.poll(0.1)
        self.sent[topic] += 1

    def _confirmed(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._failures.append(str(error))
