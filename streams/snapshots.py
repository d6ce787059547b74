"""Snapshots of a topic's state: what changed is copied between two batches, written by a thread of its own, and named
in SQL once SQL has passed its offset under our epoch; a restore begins with the newest that can be read.

A partition's snapshot is a chain of segments (snapshot_store.py): a base, and what changed since in each delta. When
the deltas together are larger than the base, or many, the thread merges them into a new one. What cannot be written or
committed is copied again with the next; what cannot be read is refused, and the snapshot before it is used, or SQL
alone. A snapshot only ever saves time: the worker goes on without, unless SQL alone is not complete any more.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from models.residents import Kept
from storage.database import Database, DatabaseUnavailable
from storage.progress import Claim, latest_control
from storage.retention import PRUNED_CONTROL
from storage.snapshots import (
    Manifest,
    SnapshotFiles,
    SnapshotIncompatible,
    SnapshotRecord,
    SnapshotUnreachable,
    SnapshotUnreadable,
    SnapshotUnwritable,
)
from streams.batch import OwnedPartition
from streams.low_priority import work_at_low_priority
from streams.snapshot_store import Chain, Copy, SnapshotStore
from streams.state_codec import ActiveFrom
from streams.state_metrics import StateMetrics

log = structlog.get_logger(__name__)

#: Of each partition its owner, the next offset to take, and the activation that its networks' states are of (None:
#: it has yet to use the present model).
Standing = Mapping[int, tuple[OwnedPartition, int, ActiveFrom | None]]
#: While no snapshot can be made, so many entities that left are remembered for the next; then it is a new base.
MOST_GONE = 200_000
#: By this share of the time between two copies, modulo 1, neighbouring partitions' copies lie apart: the golden section
#: keeps any number of them from coming together (Knuth, vol. 3, 6.4).
APART = (5**0.5 - 1) / 2
#: Looks after a commit that nobody told of (another owner, a stop).
LOOK_SECONDS = 0.5
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """A partition is copied after so many seconds or so many offsets, whichever comes first."""

    seconds: float = 30.0
    offsets: int = 200_000


class SnapshotsAway(DatabaseUnavailable):
    """A restore needs snapshots that cannot be reached now: they hold what SQL has no more. Waited for in the same
    way."""


class Snapshots:
    """files: None for none at all. `offer`, `restore` and `drop` are the compute thread's; `committed` anyone's. A
    Background of the flow."""

    def __init__(
        self,
        topic: str,
        kept: Kept,
        files: SnapshotFiles | None,
        database: Database,
        clock: Callable[[], datetime],
        metrics: StateMetrics,
        cadence: Cadence,
    ) -> None:
        self._topic = topic
        self._kept = kept
        self._database = database
        self._store = None if files is None else SnapshotStore(kept, files, database, clock)
        self._metrics = metrics
        self._cadence = cadence
        self._chains: dict[int, Chain] = {}
        self._copy: Copy | None = None
        self._warnings: dict[int, str] = {}
        self._waiting: dict[int, str] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{topic}-snapshots", daemon=True)

    @property
    def warnings(self) -> list[str]:
        """What a person should know: the newest trouble of each partition, until its next snapshot is made, and what
        restores wait for."""
        return sorted({*self._warnings.copy().values(), *self._waiting.copy().values()})

    # The compute thread's.

    def offer(self, standing: Standing, now: float) -> None:
        """Between two batches: copies what changed of the partition that has waited longest of those whose time has
        come, if nothing else is at hand."""
        if self._store is None or self._copy is not None:
            return
        due = [partition for partition, (owner, position, _) in standing.items() if self._due(owner, position, now)]
        ready = [partition for partition in due if standing[partition][2] is not None]
        if ready:
            partition = min(ready, key=lambda number: self._chains[number].copied_at or 0.0)
            owner, position, active = standing[partition]
            assert active is not None
            self._take(owner, position, active, now)

    def _due(self, owner: OwnedPartition, position: int, now: float) -> bool:
        chain = self._chains.get(owner.claim.partition)
        if chain is None or not owner.usable:
            return False
        if chain.copied_at is None:
            chain.copied_at = now - owner.claim.partition * APART % 1 * self._cadence.seconds
        if chain.returned or chain.broken:
            self._change_again(owner.claim.partition, chain)
        moved = position - chain.copied_until
        late = now - chain.copied_at >= self._cadence.seconds
        return (moved > 0 or chain.again) and (late or moved >= self._cadence.offsets)

    def _take(self, owner: OwnedPartition, position: int, active: ActiveFrom, now: float) -> None:
        chain = self._chains[owner.claim.partition]
        with self._metrics.copying(self._topic):
            changes = self._kept.take_changes(owner.claim.partition)
        chain.copied_until, chain.copied_at, chain.again = position, now, False
        self._metrics.copied(self._topic, len(changes))
        with self._changed:
            self._copy = Copy(owner, owner.prepared, position, active, changes, chain)
            self._changed.notify_all()

    def restore(
        self,
        owner: OwnedPartition,
        active: ActiveFrom | None,
        drop: Callable[[int], None],
        make_room: Callable[[], None] = lambda: None,
    ) -> int:
        """Puts the newest snapshot that can be read into memory, which holds nothing of the partition; the offset from
        which on events are missing. drop: forgets what was put in of one that turned out to be unreadable; make_room:
        called while it is put in. Raises DatabaseUnavailable, also where SQL alone is not complete and a snapshot
        cannot be reached: try again."""
        claim, store, refused = owner.claim, self._store, list[SnapshotRecord]()
        away: SnapshotUnreachable | None = None
        self._let_go(claim.partition)
        for record in [] if store is None else store.records(owner):
            try:
                assert store is not None
                manifest = self._put_in(store, owner, record, active, make_room)
            except SnapshotUnreadable as error:
                drop(claim.partition)
                if isinstance(error, SnapshotUnreachable):
                    away = error
                elif not isinstance(error, SnapshotIncompatible):
                    refused.append(record)
                self._refuse(claim.partition, error)
            else:
                self._begin(claim.partition, Chain(manifest, refused, copied_until=manifest.next_offset))
                return manifest.next_offset
        self._do_without(claim, away)
        self._begin(claim.partition, Chain(None, refused))
        return 0

    def drop(self, partition: int) -> None:
        """The partition's state is given up."""
        self._waiting.pop(partition, None)
        self._let_go(partition)

    def _begin(self, partition: int, chain: Chain) -> None:
        self._waiting.pop(partition, None)
        self._chains[partition] = chain

    def _let_go(self, partition: int) -> None:
        """What a restore waits for stays told while it tries again."""
        self._warnings.pop(partition, None)
        if self._chains.pop(partition, None) is not None:
            with suppress(KeyError):
                self._metrics.snapshot_gone(self._topic, partition)

    def _change_again(self, partition: int, chain: Chain) -> None:
        while chain.returned:
            self._kept.change_again(partition, chain.returned.pop())
        if chain.broken or self._kept.leaving.gone(partition) > MOST_GONE:
            self._kept.change_everything(partition)
            chain.manifest, chain.broken = None, False
        chain.again = True

    def _put_in(
        self,
        store: SnapshotStore,
        owner: OwnedPartition,
        record: SnapshotRecord,
        active: ActiveFrom | None,
        make_room: Callable[[], None],
    ) -> Manifest:
        manifest, parts = store.read(owner, record, active)
        for changes in parts:
            self._kept.admit(record.partition, changes)
            make_room()
        return manifest

    def _do_without(self, claim: Claim, away: SnapshotUnreachable | None) -> None:
        """Without a snapshot, what `headgate prune` removed from SQL is missed: raises SnapshotsAway where there may
        be one that has it, else warns."""
        with self._database.reading() as connection:
            pruned = latest_control(connection, claim.topic_generation, claim.partition, PRUNED_CONTROL)
        if pruned is not None and away is not None:
            text = (
                f"{self._topic}/{claim.partition} waits for its snapshots, as SQL is complete from offset "
                f"{pruned.from_offset} on only: {away}; if they are lost for good, remove their rows from `snapshots`"
            )
            self._waiting[claim.partition] = text
            raise SnapshotsAway(text)
        if pruned is not None:
            text = (
                f"{self._topic}/{claim.partition} had to begin without a snapshot, and SQL is complete from offset "
                f"{pruned.from_offset} on only: what was known before of those in memory is lost"
            )
            log.error("state is not complete", topic=self._topic, partition=claim.partition, what=text)
            self._warnings[claim.partition] = text

    def _refuse(self, partition: int, error: SnapshotUnreadable) -> None:
        reason = _reason(error)
        log.warning("snapshot refused", topic=self._topic, partition=partition, reason=reason, error=str(error))
        self._metrics.snapshot_refused(self._topic, reason)
        self._warnings[partition] = f"a snapshot of {self._topic}/{partition} was refused: {error}"

    # The thread's.

    def start(self) -> None:
        if self._store is not None:
            self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def committed(self) -> None:
        """Some batch of the topic is in SQL."""
        if self._copy is not None:
            with self._changed:
                self._changed.notify_all()

    def work(self) -> None:
        """Writes the copy at hand, and names it once SQL has passed it."""
        copy = self._copy
        if copy is None or self._store is None:
            return
        try:
            if not copy.owner.usable:
                self._give_up(copy, None, "")
                return
            if not copy.segments:
                self._store.write(copy)
            if copy.committed:
                self._name(copy, self._store)
        except SnapshotUnwritable as error:
            self._give_up(copy, "unwritable", str(error))
        except SnapshotUnreadable as error:
            copy.chain.broken = True
            self._give_up(copy, "damaged", str(error))
        except DatabaseUnavailable as error:
            self._give_up(copy, "database", str(error))
        except Exception as error:  # a bug here is to cost no more than snapshots
            log.exception("snapshots have a bug", topic=self._topic)
            self._give_up(copy, "error", repr(error))

    def done(self, timeout: float) -> bool:
        """Waits until the thread has nothing at hand, at most so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._copy is None, timeout)

    def _run(self) -> None:
        work_at_low_priority()  # copying, hashing and writing: a second of it would show in every alert's latency
        while True:
            with self._changed:
                self._changed.wait_for(self._something_to_do, LOOK_SECONDS)
            if self._stopping:
                return
            self.work()

    def _something_to_do(self) -> bool:
        copy = self._copy
        return self._stopping or (copy is not None and (not copy.segments or copy.committed or not copy.owner.usable))

    def _name(self, copy: Copy, store: SnapshotStore) -> None:
        named = store.name(copy)
        if named is None:
            self._give_up(copy, None, "")
            return
        manifest, at = named
        self._warnings.pop(manifest.partition, None)
        size = sum(segment.size_bytes for segment in manifest.segments)
        self._metrics.snapshot_made(self._topic, manifest.partition, size, at.timestamp())
        self._put_down()

    def _give_up(self, copy: Copy, reason: str | None, error: str) -> None:
        """What it holds is copied again with the next. reason: None where the partition is not ours any more."""
        partition = copy.owner.claim.partition
        if reason is None:
            log.info("snapshot given up with its partition", topic=self._topic, partition=partition)
        else:
            log.warning("no snapshot", topic=self._topic, partition=partition, reason=reason, error=error)
            self._metrics.snapshot_failed(self._topic, reason)
            self._warnings[partition] = (
                f"{self._topic}/{partition} has no new snapshot, so a restore takes longer: {error}"
            )
        copy.chain.returned.append(copy.changes.ids)
        self._put_down()

    def _put_down(self) -> None:
        with self._changed:
            self._copy = None
            self._changed.notify_all()


def _reason(error: SnapshotUnreadable) -> str:
    if isinstance(error, SnapshotIncompatible):
        return "incompatible"
    return "unreachable" if isinstance(error, SnapshotUnreachable) else "unreadable"
