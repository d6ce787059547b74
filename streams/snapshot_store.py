"""Chains of segments in files and their names in SQL: how a copy of state is written and named, merged with what it
builds on, and read again. For streams/snapshots.py, which says when.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from models.residents import ChangedIds, Changes, Kept, added_up
from storage.database import Database, DatabaseUnavailable
from storage.snapshots import (
    Manifest,
    SegmentRef,
    SnapshotFiles,
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

log = structlog.get_logger(__name__)

#: Entities in one segment, so that what a merge takes in memory does not depend on how many there are.
SEGMENT_ENTITIES = 50_000
#: Behind all offsets.
ANY_OFFSET = 2**62


@dataclass(slots=True)
class Chain:
    """What is on disk of a partition's state. manifest: the newest, which the next builds on; refused: snapshots of no
    further use, forgotten with the next; returned: whose changes came to nothing; broken: a file that the next builds
    on is damaged, so all has to be written once more. While the thread has a copy at hand these are its own. The others
    are the compute thread's; again: there is something to copy although the partition did not move."""

    manifest: Manifest | None
    refused: list[SnapshotRecord]
    returned: list[ChangedIds] = field(default_factory=list)
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


class SnapshotStore:
    """Of one topic's state. Every thread's."""

    def __init__(self, kept: Kept, files: SnapshotFiles, database: Database, clock: Callable[[], datetime]) -> None:
        self._kept = kept
        self._row_types = {kind: residents.row_type for kind, residents in kept.kinds.items()}
        self._files = files
        self._database = database
        self._clock = clock

    def records(self, owner: OwnedPartition) -> list[SnapshotRecord]:
        """What there is for a restore, newest first. Raises DatabaseUnavailable."""
        claim = owner.claim
        with self._database.reading() as connection:
            return latest_snapshots(connection, claim.topic_generation, claim.partition, claim.next_offset)

    def read(
        self, owner: OwnedPartition, record: SnapshotRecord, active: ActiveFrom | None
    ) -> tuple[Manifest, Iterator[Changes]]:
        """A snapshot in parts that have no entity in common, with the networks' states that are of `active`. Raises
        SnapshotUnreadable, at once or with a later part."""
        manifest = self._files.read_manifest(record.path, record.sha256)
        refuse_incompatible(manifest, topic_uuid=owner.topic_uuid, layout=self._kept.layout)
        units = {kind: residents.units for kind, residents in self._kept.kinds.items()}
        return manifest, added_up(self._layers(manifest, active, units))

    def write(self, copy: Copy) -> None:
        """The segments of what changed. Raises SnapshotUnwritable."""
        part = BASE if copy.chain.manifest is None else DELTA
        pieces = parts_of(copy.changes, SEGMENT_ENTITIES)
        copy.segments = tuple(self._write(copy, number, part, piece) for number, piece in enumerate(pieces))

    def name(self, copy: Copy) -> tuple[Manifest, datetime] | None:
        """Makes it a snapshot, and removes what no snapshot needs any more; the manifest and when it was named, None
        where the partition is not ours any more. Raises SnapshotUnwritable, SnapshotUnreadable for a file that a merge
        needs, DatabaseUnavailable."""
        chain, claim = copy.chain, copy.owner.claim
        segments = copy.segments if chain.manifest is None else (*chain.manifest.segments, *copy.segments)
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
            return None
        chain.manifest, chain.refused = manifest, []
        try:
            self._prune(copy)
        except (SnapshotUnreadable, SnapshotUnwritable, DatabaseUnavailable) as error:
            log.warning("old snapshots stay for now", partition=claim.partition, error=str(error))
        return manifest, now

    def _write(self, copy: Copy, number: int, part: str, changes: Changes) -> SegmentRef:
        claim = copy.owner.claim
        name = segment_name(claim.epoch, copy.next_offset, f"{part}-{number}")
        return self._files.write_segment(
            claim.topic_generation, claim.partition, name, segment_arrays(changes, copy.active), rows=len(changes)
        )

    def _layers(self, manifest: Manifest, active: ActiveFrom | None, units: Mapping[str, int]) -> Iterator[Changes]:
        """The segments, newest first."""
        for segment in reversed(manifest.segments):
            arrays = self._files.read_segment(manifest.topic_generation, manifest.partition, segment)
            try:
                changes, own = changes_of(arrays, self._row_types)
            except BadState as error:
                raise SnapshotUnreadable(f"snapshot file {segment.name} holds something else: {error}") from error
            yield of_activation(changes, own, active, units)

    def _merged(self, copy: Copy, manifest: Manifest) -> Iterator[SegmentRef]:
        """The copy and all that it builds on as the segments of a new base."""
        units = {kind: packed.hidden.shape[1] for kind, packed in copy.changes.entities.items()}

        def layers() -> Iterator[Changes]:
            yield copy.changes
            yield from self._layers(manifest, copy.active, units)

        for number, changes in enumerate(in_pieces(added_up(layers()), SEGMENT_ENTITIES)):
            yield self._write(copy, number, BASE, changes)

    def _prune(self, copy: Copy) -> None:
        """What neither ours nor a newer owner's snapshots need; nothing while one of them cannot be read, as nobody
        knows which files it needs. Raises SnapshotUnreadable, SnapshotUnwritable, DatabaseUnavailable."""
        claim = copy.owner.claim
        with self._database.reading() as connection:
            records = latest_snapshots(connection, claim.topic_generation, claim.partition, ANY_OFFSET)
        keep = [self._files.read_manifest(record.path, record.sha256) for record in records]
        self._files.prune(claim.topic_generation, claim.partition, keep, claim.epoch)
