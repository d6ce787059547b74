"""Open-loop load for the fault tests: good transactions, repeats, bad records and feedback, at a steady rate.

A thread sends whatever the workers do. Which outcome each record must have can be told from the record alone and
those before it (tests/faults/invariants.py): repeats follow soon after their first, bad records are plainly bad.
"""

import json
import threading
import time
from types import TracebackType
from typing import Self

import numpy as np

from tests.deployment import Deployment
from tests.fraud_model import Traffic

TICK_SECONDS = 0.05
#: Enough of them that most behave as usual: an account with a payment every second does not.
ACCOUNTS = 3_000
REPEATED, BAD, LABELLED = 0.03, 0.01, 0.02

Message = tuple[bytes | None, bytes | None]

BAD_TRANSACTIONS: tuple[Message, ...] = (
    (b"a1", b'{"event_id": '),
    (b"a1", b"\xff\xfe"),
    (b"a1", None),
    (b"a1", b'{"event_id":"n1","occurred_at":1,"account_id":"a1","merchant_id":"m1","amount":-1}'),
    (b"a2", b'{"event_id":"k1","occurred_at":1,"account_id":"a1","merchant_id":"m1","amount":1}'),
)
BAD_FEEDBACK: Message = (b"a1", b'{"feedback_id":"f","given_at":1,"kind":"label","event_id":"e1","label":"dubious"}')


class Load:
    """`with Load(deployment, rate=500, seed=1) as load:` sends about `rate` transactions a second."""

    def __init__(self, deployment: Deployment, *, rate: int, seed: int, frauds: float = 0.02) -> None:
        self.transactions = 0
        self.feedback = 0
        self._deployment = deployment
        self._per_tick = max(1, round(rate * TICK_SECONDS))
        self._draw = np.random.default_rng(seed)
        self._traffic = Traffic(seed=seed, frauds=frauds, accounts=ACCOUNTS, prefix=f"s{seed}-")
        self._recent: list[Message] = []
        self._labels: list[Message] = []
        self._stopping = threading.Event()
        self._producer = deployment.producer(**{"enable.idempotence": True, "linger.ms": 5})
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the load; every record it sent is in Kafka then. Twice does no harm."""
        self._stopping.set()
        self._thread.join()
        assert self._producer.flush(30) == 0

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self._tick()
            due += TICK_SECONDS
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _tick(self) -> None:
        good: list[Message] = list(self._traffic.batch(self._per_tick, round(time.time() * 1000)))
        messages: list[Message] = []
        for message in good:
            messages.append(message)
            fate = self._draw.random()
            if fate < REPEATED and self._recent:
                messages.append(self._recent[self._draw.integers(len(self._recent))])
            elif fate < REPEATED + BAD:
                messages.append(BAD_TRANSACTIONS[self._draw.integers(len(BAD_TRANSACTIONS))])
            elif fate < REPEATED + BAD + LABELLED:
                self._send_feedback(message)
        self._recent = (self._recent + good)[-4 * self._per_tick :]
        for key, value in messages:
            self._producer.produce(self._deployment.transactions, key=key, value=value)
        self.transactions += len(messages)
        self._producer.poll(0)

    def _send_feedback(self, message: Message) -> None:
        """A label on a transaction that is only now on its way; some labels come twice, some are bad."""
        key, value = message
        event = json.loads(value or b"")
        fields = {
            "feedback_id": f"f-{event['event_id']}",
            "given_at": event["occurred_at"],
            "kind": "label",
            "event_id": event["event_id"],
            "label": "fraud" if event["amount"] > 5_000 else "legitimate",
            "source": "analyst",
        }
        self._labels = [*self._labels, (key, json.dumps(fields).encode())][-20:]
        messages = [self._labels[-1]]
        if self._draw.random() < 0.2:
            messages.append(self._labels[self._draw.integers(len(self._labels))])
        if self._draw.random() < 0.1:
            messages.append(BAD_FEEDBACK)
        for label_key, label in messages:
            self._producer.produce(self._deployment.feedback, key=label_key, value=label)
        self.feedback += len(messages)
