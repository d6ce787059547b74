"""Snapshots of a topic's state: what changed is copied between two batches, written by a thread of its own, and named
in SQL once SQL has passed its offset under our epoch; a restore begins with the newest that can be read.

A partition's snapshot is a chain of segments: a base, and what changed since in each delta. When the deltas together
are larger than the base, the thread merges them into a new one. What cannot be written or committed is copied again
with the next; what cannot be read is refused, and the snapshot before it is used, or SQL alone. A snapshot only ever
saves time: the worker goes on without.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from models.residents import Changes, Kept, added_up
from storage.database import Database, DatabaseUnavailable
from storage.snapshots import (
    Manifest,
    SegmentRef,
    SnapshotFiles,
    SnapshotIncompatible,
    SnapshotRecord,
    SnapshotUnreadable,
    SnapshotUnwritable,
    forget_snapshot,
    latest_snapshots,
    publish_snapshot,
    refuse_incompatible,
    segment_name,
)
from streams.batch import OwnedPartition
from streams.segments import BASE, DELTA, in_pieces, of_activation, outgrown, parts_of
from streams.state_codec import ActiveFrom, BadState, changes_of, segment_arrays
from streams.state_metrics import StateMetrics

log = structlog.get_logger(__name__)

#: Entities in one segment, so that what a merge takes in memory does not depend on how many there are.
SEGMENT_ENTITIES = 50_000
#: Of each partition its owner, the next offset to take, and the activation that its networks' states are of (None:
#: it has yet to use the present model).
Standing = Mapping[int, tuple[OwnedPartition, int, ActiveFrom | None]]
#: Looks after a commit that nobody told of (another owner, a stop).
LOOK_SECONDS = 0.5
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """A partition is copied after so many seconds or so many offsets, whichever comes first."""

    seconds: float = 30.0
    offsets: int = 200_000


@dataclass(slots=True)
class Chain:
    """What is on disk of a partition's state. manifest: the newest, which the next builds on; refused: snapshots of no
    further use, forgotten with the next; returned: changes that came to nothing; broken: a file that the next builds on
    is damaged, so all has to be written once more. While the thread has a copy at hand these are its own. The others
    are the compute thread's; again: there is something to copy although the partition did not move."""

    manifest: Manifest | None
    refused: list[SnapshotRecord]
    returned: list[Changes] = field(default_factory=list)
    broken: bool = False
    copied_until: int = 0
    copied_at: float | None = None
    again: bool = False


@dataclass(slots=True)
class Copy:
    """State of one partition as of next_offset, which SQL has passed once the owner's works up to `work` are written.
    segments: what was written of it."""

    owner: OwnedPartition
    work: int
    next_offset: int
    active: ActiveFrom
    changes: Changes
    chain: Chain
    segments: tuple[SegmentRef, ...] = ()

    @property
    def committed(self) -> bool:
        return self.owner.written >= self.work


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
        self._row_types = {kind: residents.row_type for kind, residents in kept.kinds.items()}
        self._files = files
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._cadence = cadence
        self._chains: dict[int, Chain] = {}
        self._copy: Copy | None = None
        self._warnings: dict[int, str] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"{topic}-snapshots", daemon=True)

    @property
    def warnings(self) -> list[str]:
        """What a person should know: the newest trouble of each partition, until its next snapshot is made."""
        return sorted(set(self._warnings.values()))

    # The compute thread's.

    def offer(self, standing: Standing, now: float) -> None:
        """Between two batches: copies what changed of the partition that has waited longest of those whose time has
        come, if nothing else is at hand."""
        if self._files is None or self._copy is not None:
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
            chain.copied_at = now
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
        called while it is put in. Raises DatabaseUnavailable."""
        claim, refused = owner.claim, list[SnapshotRecord]()
        self.drop(claim.partition)
        for record in self._records(owner):
            try:
                manifest = self._restored(owner, record, active, make_room)
            except SnapshotUnreadable as error:
                drop(claim.partition)
                reason = "incompatible" if isinstance(error, SnapshotIncompatible) else "unreadable"
                if reason == "unreadable":
                    refused.append(record)
                self._refuse(claim.partition, reason, error)
            else:
                self._chains[claim.partition] = Chain(manifest, refused, copied_until=manifest.next_offset)
                return manifest.next_offset
        self._chains[claim.partition] = Chain(None, refused)
        return 0

    def drop(self, partition: int) -> None:
        """The partition's state is given up."""
        self._warnings.pop(partition, None)
        if self._chains.pop(partition, None) is not None:
            with suppress(KeyError):
                self._metrics.snapshot_gone(self._topic, partition)

    def _change_again(self, partition: int, chain: Chain) -> None:
        if chain.broken:
            self._kept.change_everything(partition)
            chain.manifest, chain.broken = None, False
            chain.returned.clear()
        while chain.returned:
            self._kept.change_again(partition, chain.returned.pop())
        chain.again = True

    def _records(self, owner: OwnedPartition) -> list[SnapshotRecord]:
        if self._files is None:
            return []
        claim = owner.claim
        with self._database.reading() as connection:
            return latest_snapshots(connection, claim.topic_generation, claim.partition, claim.next_offset)

    def _restored(
        self,
        owner: OwnedPartition,
        record: SnapshotRecord,
        active: ActiveFrom | None,
        make_room: Callable[[], None],
    ) -> Manifest:
        assert self._files is not None
        manifest = self._files.read_manifest(record.path, record.sha256)
        refuse_incompatible(manifest, topic_uuid=owner.topic_uuid, layout=self._kept.layout)
        units = {kind: residents.units for kind, residents in self._kept.kinds.items()}
        for changes in added_up(self._layers(manifest, active, units)):
            self._kept.admit(record.partition, changes)
            make_room()
        return manifest

    def _refuse(self, partition: int, reason: str, error: SnapshotUnreadable) -> None:
        log.warning("snapshot refused", topic=self._topic, partition=partition, reason=reason, error=str(error))
        self._metrics.snapshot_refused(self._topic, reason)
        self._warnings[partition] = f"a snapshot of {self._topic}/{partition} was refused: {error}"

    def _layers(self, manifest: Manifest, active: ActiveFrom | None, units: Mapping[str, int]) -> Iterator[Changes]:
        """The segments, newest first, with the networks' states that are of `active`. Raises SnapshotUnreadable."""
        assert self._files is not None
        for segment in reversed(manifest.segments):
            arrays = self._files.read_segment(manifest.topic_generation, manifest.partition, segment)
            try:
                changes, own = changes_of(arrays, self._row_types)
            except BadState as error:
                raise SnapshotUnreadable(f"snapshot file {segment.name} holds something else: {error}") from error
            yield of_activation(changes, own, active, units)

    # The thread's.

    def start(self) -> None:
        if self._files is not None:
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
        if copy is None:
            return
        try:
            if not copy.owner.usable:
                self._give_up(copy, None, "")
                return
            if not copy.segments:
                copy.segments = self._written(copy)
            if not copy.committed:
                return
            self._finish(copy)
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
        else:
            self._copy = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._something_to_do, LOOK_SECONDS)
            if self._stopping:
                return
            self.work()

    def _something_to_do(self) -> bool:
        copy = self._copy
        return self._stopping or (copy is not None and (not copy.segments or copy.committed or not copy.owner.usable))

    def _written(self, copy: Copy) -> tuple[SegmentRef, ...]:
        part = BASE if copy.chain.manifest is None else DELTA
        return tuple(
            self._write(copy, number, part, piece)
            for number, piece in enumerate(parts_of(copy.changes, SEGMENT_ENTITIES))
        )

    def _write(self, copy: Copy, number: int, part: str, changes: Changes) -> SegmentRef:
        assert self._files is not None
        claim = copy.owner.claim
        name = segment_name(claim.epoch, copy.next_offset, f"{part}-{number}")
        return self._files.write_segment(
            claim.topic_generation, claim.partition, name, segment_arrays(changes, copy.active), rows=len(changes)
        )

    def _finish(self, copy: Copy) -> None:
        """The manifest, its row, and the removal of what no snapshot needs any more."""
        assert self._files is not None
        claim, chain = copy.owner.claim, copy.chain
        before = () if chain.manifest is None else chain.manifest.segments
        segments = (*before, *copy.segments)
        if chain.manifest is not None and outgrown(segments):
            segments = tuple(self._merged(copy, chain.manifest))
        manifest = Manifest(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            copy.next_offset,
            copy.owner.topic_uuid,
            self._kept.layout,
            copy.active.model,
            copy.active.offset,
            segments,
        )
        written, now = self._files.write_manifest(manifest), self._clock()
        with self._database.begin() as connection:
            for record in chain.refused:
                forget_snapshot(connection, record)
            ours = publish_snapshot(connection, manifest, written.path, written.sha256, now)
        if not ours:
            self._give_up(copy, None, "")
            return
        chain.manifest, chain.refused = manifest, []
        self._warnings.pop(claim.partition, None)
        size = sum(segment.size_bytes for segment in segments)
        self._metrics.snapshot_made(self._topic, claim.partition, size, now.timestamp())
        self._prune(copy)

    def _merged(self, copy: Copy, manifest: Manifest) -> Iterator[SegmentRef]:
        """The copy and all that it builds on as the segments of a new base."""
        units = {kind: packed.hidden.shape[1] for kind, packed in copy.changes.entities.items()}

        def layers() -> Iterator[Changes]:
            yield copy.changes
            yield from self._layers(manifest, copy.active, units)

        for number, changes in enumerate(in_pieces(added_up(layers()), SEGMENT_ENTITIES)):
            yield self._write(copy, number, BASE, changes)

    def _prune(self, copy: Copy) -> None:
        assert self._files is not None
        claim = copy.owner.claim
        with self._database.reading() as connection:
            records = latest_snapshots(connection, claim.topic_generation, claim.partition, copy.next_offset)
        keep = []
        for record in records:
            with suppress(SnapshotUnreadable):
                keep.append(self._files.read_manifest(record.path, record.sha256))
        self._files.prune(claim.topic_generation, claim.partition, keep, claim.epoch)

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
        copy.chain.returned.append(copy.changes)
        self._copy = None
