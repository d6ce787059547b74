"""Committed rows to Kafka and Redis: publishing follows the commit, never precedes it.

One thread per sink, woken by commits and by claims, never polling. It publishes an outbox (a table) from the cursor of
each partition that this worker owns on, waits until the sink confirmed, and moves the cursor under the partition's
epoch. Rows come from the commit itself where it hands them over, else from SQL: after a restart, an outage, a backlog.
Cursors are moved together, once the relay is idle or has gone on for a while, so after a crash messages come again,
with the same ids.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection

from storage.database import Database, DatabaseUnavailable
from storage.progress import Claim, claim_cursor, move_cursor
from streams.batch import FreshRows, OwnedPartition
from streams.health import FlowMetrics

log = structlog.get_logger(__name__)

ROWS_AT_ONCE = 500
#: Rows that one outbox of one partition holds in memory; what goes beyond them is read from SQL.
MOST_HELD = 5_000
#: Cursors move after this long without anything to publish, or after so many publications in a row.
CURSOR_IDLE_SECONDS, CURSOR_ROUNDS = 0.05, 10


class SinkUnavailable(Exception):
    """The sink did not confirm; what was sent may or may not have arrived, and will be sent again. refused: why, where
    the sink and we do not accept each other: authentication, authorization or tls."""

    def __init__(self, message: str, refused: str | None = None) -> None:
        super().__init__(message)
        self.refused = refused


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


@dataclass(slots=True)
class Tail:
    """The end of an outbox as commits handed it over: all its rows with a position from begin on and before end."""

    begin: int
    end: int
    rows: list[Any]

    def joined(self, fresh: FreshRows) -> "Tail":
        """With the next commit's rows; those alone where they do not follow, or where too many are held."""
        if fresh.begin != self.end or len(self.rows) + len(fresh.rows) > MOST_HELD:
            return Tail(fresh.begin, fresh.end, list(fresh.rows))
        return Tail(self.begin, fresh.end, [*self.rows, *fresh.rows])


@dataclass(frozen=True, slots=True)
class Found:
    """What a partition has to publish next; following: the position behind it. more: and perhaps not all."""

    owner: OwnedPartition
    rows: Sequence[Any]
    following: int
    more: bool


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
        self._tails: dict[Place, Tail] = {}
        self._positions: dict[Place, int] = {}
        #: Places whose cursor in SQL lies behind their position; of the relay's thread, read by others.
        self._unmoved: dict[Place, Dirty] = {}
        self._rounds = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._hurried = False
        self._busy = False
        self._thread = threading.Thread(target=self._run, name=f"relay-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(
        self,
        owner: OwnedPartition,
        outboxes: Iterable[str] | None = None,
        fresh: Mapping[str, FreshRows] | None = None,
    ) -> None:
        """There may be new rows of this partition in these outboxes (None: in any). fresh: those of a commit, in which
        no partition's outbox may leave one out."""
        wanted = self._outboxes.keys() if outboxes is None else self._outboxes.keys() & set(outboxes)
        names = [name for name in wanted if self._outboxes[name].of(owner.claim)]
        handed = {name: rows for name, rows in (fresh or {}).items() if name in self._outboxes}
        with self._changed:
            if outboxes is None:
                self._forget_claims_before(owner)
            for name, rows in handed.items():
                held = self._tails.get(_place(name, owner), Tail(rows.begin, rows.begin, []))
                self._tails[_place(name, owner)] = held.joined(rows)
            for name in names:
                self._dirty[_place(name, owner)] = (name, owner)
                if name not in handed:
                    self._tails.pop(_place(name, owner), None)  # what is held is not all
            if names:
                self._changed.notify_all()

    def _forget_claims_before(self, owner: OwnedPartition) -> None:
        for place in [place for place in self._tails if place[1:3] == _place("", owner)[1:3]]:
            del self._tails[place]

    def settle(self, timeout: float) -> None:
        """Waits, at most `timeout` seconds, until what is committed is published and the cursors say so. What is held
        after that is let go: partitions may be, and SQL has it."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or not (self._dirty or self._busy or self._unmoved), timeout)
            self._hurried = False
            self._tails.clear()

    def stop(self, timeout: float) -> None:
        """Publishes what is committed, within `timeout` seconds, and ends the thread."""
        self.settle(timeout)
        with self._changed:
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
                more = self._publish(self._outboxes[name], owners) if owners else []
                if not owners or self._rounds >= CURSOR_ROUNDS:
                    self._move_cursors()
            except (SinkUnavailable, DatabaseUnavailable) as error:
                log.warning("relay waits", sink=self._sink.name, outbox=name, error=str(error), seconds=backoff)
                self._metrics.relay_failed(self._sink.name)
                if isinstance(error, SinkUnavailable) and error.refused is not None:
                    self._metrics.store_refused(self._sink.name, error.refused)
                self._finished(name, owners)
                self._pause(backoff)
                backoff = min(backoff * 2, self._longest_backoff)
            else:
                backoff = self._first_backoff
                self._finished(name, more)

    def _next(self) -> tuple[str, list[OwnedPartition]] | None:
        """An outbox, and all partitions that may have new rows in it: what they cost is mostly round trips. No
        partition: time to move the cursors."""
        with self._changed:
            patience = CURSOR_IDLE_SECONDS if self._unmoved else None
            self._changed.wait_for(lambda: self._dirty or self._stopping or (self._hurried and self._unmoved), patience)
            if self._stopping:
                return None
            self._busy = True
            if not self._dirty:
                return "", []
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
        # A cursor that was just taken ends that of an earlier claim of the same partition, which may be among them.
        ours = [owner for owner in ours if _place(outbox.name, owner) in self._positions]
        found = [held if (held := self._held(outbox, owner)) else self._read(outbox, owner) for owner in ours]
        rows = [row for part in found for row in part.rows]
        if rows:
            self._sink.publish(outbox.name, rows)
            self._metrics.relayed(self._sink.name, outbox.name, len(rows))
            self._rounds += 1
        for part in found:
            place = _place(outbox.name, part.owner)
            self._positions[place] = part.following
            if part.rows:
                self._unmoved[place] = (outbox.name, part.owner)
        return [part.owner for part in found if part.more]

    def _has_cursor(self, outbox: Outbox, owner: OwnedPartition) -> bool:
        """Takes the cursor at the first time; false where a newer epoch has it."""
        key = _place(outbox.name, owner)
        if key not in self._positions:
            self._move_cursors()  # a claim before this one may have been ours
            with self._database.begin() as connection:
                position = claim_cursor(connection, outbox.name, self._sink.name, owner.claim, self._clock())
            if position is None:
                return False
            self._positions = {place: known for place, known in self._positions.items() if place[:3] != key[:3]}
            self._positions[key] = position
        return True

    def _held(self, outbox: Outbox, owner: OwnedPartition) -> Found | None:
        """What commits handed over, if it goes on where this relay is; the rest stays held."""
        place = _place(outbox.name, owner)
        position = self._positions[place]
        with self._changed:
            tail = self._tails.get(place)
            if tail is None or tail.begin > position:
                return None
            rows = [row for row in tail.rows if outbox.position(row) >= position]
            some, rest = rows[:ROWS_AT_ONCE], rows[ROWS_AT_ONCE:]
            following = outbox.position(rest[0]) if rest else max(position, tail.end)
            self._tails[place] = Tail(position, max(position, tail.end), rows)
        return Found(owner, some, following, bool(rest))

    def _read(self, outbox: Outbox, owner: OwnedPartition) -> Found:
        """The rows past the cursor. Fewer than asked for are all up to what was handed over before the look."""
        place = _place(outbox.name, owner)
        claim, position = owner.claim, self._positions[place]
        with self._changed:
            tail = self._tails.get(place)
        with self._database.reading() as connection:
            rows = outbox.read(connection, claim.topic_generation, claim.partition, position, ROWS_AT_ONCE)
        following, more = outbox.position(rows[-1]) + 1 if rows else position, len(rows) == ROWS_AT_ONCE
        if tail is not None and not more:
            following = max(following, tail.end)
        return Found(owner, rows, following, more)

    def _move_cursors(self) -> None:
        """Of all places at once. One that a newer epoch has is forgotten, so that another wake finds that before it
        publishes."""
        if not self._unmoved:
            return
        with self._database.begin() as connection:
            taken = [
                place
                for place, (name, owner) in self._unmoved.items()
                if not move_cursor(
                    connection, name, self._sink.name, owner.claim, self._positions[place], self._clock()
                )
            ]
        with self._changed:
            self._rounds = 0
            self._unmoved.clear()
            for place in taken:
                del self._positions[place]
                self._tails.pop(place, None)


def _place(outbox: str, owner: OwnedPartition) -> Place:
    claim = owner.claim
    return outbox, claim.topic_generation, claim.partition, claim.epoch
