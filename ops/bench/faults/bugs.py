"""Bugs that a worker can be given, to prove that the fault benchmark finds them: each is a mistake one could make.

`plant` changes the product's own functions in this process (ops/bench/faults/worker.py).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from ops.bench.faults.moments import PUBLISHED, swap, swap_everywhere
from ops.clock import utc_now
from storage.bulk import write_rows
from storage.outbox import alerts_after
from storage.progress import Advance, Claim, advance, claim_cursor, move_cursor
from streams.batch import OwnedPartition, PartitionWork
from streams.commit import KEY_CONFLICTS, Committer
from streams.kafka import KafkaSettings, producer
from streams.recovery import PartitionSource
from streams.sinks import ALERTS, RECOMMENDATIONS, KafkaSink
from streams.state_keeping import StateKeeping

OUTBOXES = {outbox.name: outbox for outbox in (ALERTS, RECOMMENDATIONS)}
#: Where a bug publishes what it should not; made at its first use.
Sinks = Callable[[], KafkaSink]


def publish_before_commit(sink: Sinks) -> None:
    """Rows are published from within the transaction that writes them."""
    sent = threading.local()  # each topic has a writer thread

    def wrapped_send(send: Any) -> Any:
        def sending(self: Committer, works: Sequence[PartitionWork]) -> None:
            sent.waiting = [(name, work.advance) for work in works for name in work.outboxes & PUBLISHED]
            send(self, works)

        return sending

    def wrapped_advance(inner: Any) -> Any:
        def advancing(connection: Connection, *rest: Any) -> Any:
            for name, step in sent.waiting:
                place = {"outbox": name, "generation": step.topic_generation, "partition": step.partition}
                first = connection.execute(POSITION, place).scalar() or 0
                sink().publish(name, OUTBOXES[name].read(connection, step.topic_generation, step.partition, first, 500))
            return inner(connection, *rest)

        return advancing

    swap(Committer, "_send", wrapped_send)
    swap_everywhere(advance, wrapped_advance)


POSITION = text(
    "SELECT max(position) FROM relay_cursors "
    "WHERE outbox = :outbox AND topic_generation = :generation AND partition = :partition"
)


def no_epoch_check(sink: Sinks) -> None:
    """Whoever comes writes: rows that are there already are passed over, progress moves whoever owns it."""

    def lenient(write: Any) -> Any:
        def writing(connection: Connection, rows: Any) -> None:
            try:
                with connection.begin_nested():
                    write(connection, rows)
            except KEY_CONFLICTS:
                """They are there."""

        return writing

    def unfenced(_advance: Any) -> Any:
        def advancing(connection: Connection, advances: Sequence[Advance], now: datetime) -> int:
            for step in advances:
                values = {name: getattr(step, name) for name in Advance.__dataclass_fields__}
                connection.execute(UNFENCED, values)
            return len(advances)

        return advancing

    swap_everywhere(write_rows, lenient)
    swap_everywhere(advance, unfenced)


UNFENCED = text(
    "UPDATE stream_progress SET next_offset = :next_offset, applied = applied + :applied, "
    "duplicates = duplicates + :duplicates, dead_letters = dead_letters + :dead_letters, gaps = gaps + :gaps "
    "WHERE topic_generation = :topic_generation AND partition = :partition"
)


def replay_that_emits(sink: Sinks) -> None:
    """What is restored is published as if it had just been decided."""

    def wrap(alerts: Any) -> Any:
        def emitting(self: PartitionSource, claim: Claim) -> Any:
            with self._database.reading() as connection:
                rows = alerts_after(connection, claim.topic_generation, claim.partition, 0, 1_000)
            sink().publish("alerts", [replace(row, scored_at=utc_now()) for row in rows])
            return alerts(self, claim)

        return emitting

    swap(PartitionSource, "alerts", wrap)


def state_lost(sink: Sinks) -> None:
    """A restored partition begins without its history, be it in a snapshot or in SQL."""

    def wrap(restore: Any) -> Any:
        def losing(self: StateKeeping, owner: OwnedPartition, active: Any) -> int:
            restore(self, owner, active)
            self._drop(owner.claim.partition)
            return owner.claim.next_offset

        return losing

    swap(StateKeeping, "restore", wrap)


def relay_that_skips(sink: Sinks) -> None:
    """A relay begins behind what is in its outbox, as if that had been published."""

    def wrap(inner: Any) -> Any:
        def skipping(connection: Connection, name: str, sink_name: str, claim: Claim, now: datetime) -> Any:
            position = inner(connection, name, sink_name, claim, now)
            if name not in OUTBOXES or position is None:
                return position
            outbox = OUTBOXES[name]
            rows = outbox.read(connection, claim.topic_generation, claim.partition, position, 100_000)
            if not rows:
                return position
            behind = outbox.position(rows[-1]) + 1
            move_cursor(connection, name, sink_name, claim, behind, now)
            return behind

        return skipping

    swap_everywhere(claim_cursor, wrap)


#: Bug -> what plants it, and the fault that brings it to light.
BUGS: Mapping[str, tuple[Callable[[Sinks], None], str]] = {
    "publish_before_commit": (publish_before_commit, "kill_before_commit"),
    "no_epoch_check": (no_epoch_check, "freeze"),
    "replay_that_emits": (replay_that_emits, "kill_one"),
    "relay_that_skips": (relay_that_skips, "kill_after_commit"),
    "state_lost": (state_lost, "kill_one"),
}


def plant(name: str, kafka: str, prefix: str) -> None:
    """Once in a process, before its worker is put together."""
    made: list[KafkaSink] = []

    def sink() -> KafkaSink:
        if not made:
            made.append(KafkaSink(producer(KafkaSettings(kafka)), prefix))
        return made[0]

    BUGS[name][0](sink)
