"""Committed rows to Kafka and Redis: publishing follows the commit, never precedes it.

One thread per sink, woken by commits and by claims, never polling. It reads an outbox (a table) past the cursor of
each partition that this worker owns, publishes, waits until the sink confirmed, and moves the cursor under the
partition's epoch. After a crash between publishing and the cursor a message comes again, with the same id.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection

from storage.database import Database, DatabaseUnavailable
from storage.progress import Claim, claim_cursor, move_cursor
from streams.batch import OwnedPartition
from streams.health import FlowMetrics

log = structlog.get_logger(__name__)

ROWS_AT_ONCE = 500


class SinkUnavailable(Exception):
    """The sink did not confirm; what was sent may or may not have arrived, and will be sent again."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """A table of rows to publish. `read` returns rows from a position on, in order; `position` is a row's own. `of`
    says whether a partition's owner publishes any of them."""

    name: str
    read: Callable[[Connection, int, int, int, int], Sequence[Any]]
    position: Callable[[Any], int]
    of: Callable[[Claim], bool] = lambda claim: True


class Sink(Protocol):
    """Somewhere outside. `publish` returns once all rows are confirmed, or raises SinkUnavailable."""

    name: str

    def publish(self, outbox: str, rows: Sequence[Any]) -> None: ...


Dirty = tuple[str, OwnedPartition]
#: An outbox under one claim: (outbox, topic generation, partition, epoch). Not the owner's id(), which recurs.
Place = tuple[str, int, int, int]


class Relay:
    """Publishes some outboxes to one sink. `wake` may be called from any thread."""

    def __init__(
        self,
        sink: Sink,
        outboxes: Sequence[Outbox],
        database: Database,
        metrics: FlowMetrics,
        *,
        clock: Callable[[], datetime],
        first_backoff: float = 0.1,
        longest_backoff: float = 5.0,
    ) -> None:
        self._sink = sink
        self._outboxes = {outbox.name: outbox for outbox in outboxes}
        self._database = database
        self._metrics = metrics
        self._clock = clock
        self._first_backoff = first_backoff
        self._longest_backoff = longest_backoff
        self._dirty: dict[Place, Dirty] = {}
        self._positions: dict[Place, int] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=f"relay-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, owner: OwnedPartition, outboxes: Iterable[str] | None = None) -> None:
        """There may be new rows of this partition in these outboxes (None: in any)."""
        wanted = self._outboxes.keys() if outboxes is None else self._outboxes.keys() & set(outboxes)
        names = [name for name in wanted if self._outboxes[name].of(owner.claim)]
        if names:
            with self._changed:
                for name in names:
                    self._dirty[_place(name, owner)] = (name, owner)
                self._changed.notify_all()

    def stop(self, timeout: float) -> None:
        """Publishes what is committed, within `timeout` seconds, and ends the thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or not (self._dirty or self._busy), timeout)
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        """A sink or database that is away is waited for; anything else is a bug, which ends this relay (and with
        it the worker's readiness) but not the scoring."""
        try:
            self._publish_until_stopped()
        except Exception as error:
            self._metrics.relay_failed(self._sink.name)
            log.exception("relay ends; restart the worker once this is mended", sink=self._sink.name, error=repr(error))
        finally:
            with self._changed:
                self._stopping, self._busy = True, False
                self._changed.notify_all()

    def _publish_until_stopped(self) -> None:
        backoff = self._first_backoff
        while (dirty := self._next()) is not None:
            name, owners = dirty
            try:
                more = self._publish(self._outboxes[name], owners)
            except (SinkUnavailable, DatabaseUnavailable) as error:
                log.warning("relay waits", sink=self._sink.name, outbox=name, error=str(error), seconds=backoff)
                self._metrics.relay_failed(self._sink.name)
                self._finished(name, owners)
                self._pause(backoff)
                backoff = min(backoff * 2, self._longest_backoff)
            else:
                backoff = self._first_backoff
                self._finished(name, more)

    def _next(self) -> tuple[str, list[OwnedPartition]] | None:
        """An outbox, and all partitions that may have new rows in it: what they cost is mostly round trips."""
        with self._changed:
            self._changed.wait_for(lambda: self._dirty or self._stopping)
            if self._stopping:
                return None
            self._busy = True
            name = next(iter(self._dirty))[0]
            places = [place for place in self._dirty if place[0] == name]
            return name, [self._dirty.pop(place)[1] for place in places]

    def _finished(self, name: str, again: Iterable[OwnedPartition]) -> None:
        """again: partitions to look at once more."""
        with self._changed:
            self._busy = False
            for owner in again:
                self._dirty.setdefault(_place(name, owner), (name, owner))
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _publish(self, outbox: Outbox, owners: Sequence[OwnedPartition]) -> list[OwnedPartition]:
        """Publishes up to ROWS_AT_ONCE rows of each partition; gives those that may have more."""
        ours = [owner for owner in owners if not owner.lost and self._has_cursor(outbox, owner)]
        found = self._read(outbox, ours)
        if not found:
            return []
        self._sink.publish(outbox.name, [row for _, rows in found for row in rows])
        self._metrics.relayed(self._sink.name, outbox.name, sum(len(rows) for _, rows in found))
        more = []
        with self._database.begin() as connection:
            for owner, rows in found:
                key, following = _place(outbox.name, owner), outbox.position(rows[-1]) + 1
                moved = move_cursor(connection, outbox.name, self._sink.name, owner.claim, following, self._clock())
                if not moved:  # forgotten, so that another wake finds the newer epoch before it publishes
                    del self._positions[key]
                    continue
                self._positions[key] = following
                if len(rows) == ROWS_AT_ONCE:
                    more.append(owner)
        return more

    def _has_cursor(self, outbox: Outbox, owner: OwnedPartition) -> bool:
        """Takes the cursor at the first time; false where a newer epoch has it."""
        key = _place(outbox.name, owner)
        if key not in self._positions:
            with self._database.begin() as connection:
                position = claim_cursor(connection, outbox.name, self._sink.name, owner.claim, self._clock())
            if position is None:
                return False
            self._positions[key] = position
        return True

    def _read(self, outbox: Outbox, owners: Sequence[OwnedPartition]) -> list[tuple[OwnedPartition, Sequence[Any]]]:
        """The rows past the cursors of those partitions that have any."""
        if not owners:
            return []
        found = []
        with self._database.reading() as connection:
            for owner in owners:
                claim, position = owner.claim, self._positions[_place(outbox.name, owner)]
                rows = outbox.read(connection, claim.topic_generation, claim.partition, position, ROWS_AT_ONCE)
                if rows:
                    found.append((owner, rows))
        return found


def _place(outbox: str, owner: OwnedPartition) -> Place:
    claim = owner.claim
    return outbox, claim.topic_generation, claim.partition, claim.epoch
