"""Snapshots without somebody: which of them hold a name, and the same snapshots written anew without it.

What is written belongs to an epoch that was taken for it (storage/erasure.py), so no worker's tidying removes it, and
what is left where the erasure came to nothing is removed with the next snapshot. Every thread's.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from storage.erasure import Fenced, Place
from storage.snapshots import (
    Manifest,
    SegmentRef,
    SnapshotFiles,
    SnapshotRecord,
    SnapshotUnreachable,
    SnapshotUnreadable,
    forget_snapshot,
    latest_snapshots,
    replace_snapshot,
    segment_name,
)
from streams.segments import BASE, DELTA
from streams.snapshot_store import ANY_OFFSET
from streams.state_codec import Arrays, BadState, without_entities


class SnapshotEraser:
    """kind: "accounts" or "users", as segments call them."""

    def __init__(self, files: SnapshotFiles, kind: str, names: Collection[str]) -> None:
        self._files = files
        self._kind = kind
        self._names = frozenset(names)
        #: Segments that were looked into: they never change. Place and name -> whether it holds a name.
        self._seen: dict[tuple[Place, str], bool] = {}

    def holding(self, connection: Connection, places: Collection[Place]) -> set[Place]:
        """The partitions any of whose snapshots hold a name. Raises SnapshotUnreachable."""
        return {place for place in places if any(self._holds(record) for record in _records(connection, place))}

    def rewrite(self, connection: Connection, fenced: Fenced) -> int:
        """Names in place of each of a partition's snapshots that hold a name one that does not, under the partition's
        new epoch; how many. One that cannot be read is of no use to anybody, and forgotten. Raises SnapshotUnreachable,
        SnapshotUnwritable."""
        rewritten = 0
        for record in _records(connection, fenced.place):
            try:
                manifest = self._files.read_manifest(record.path, record.sha256)
                if not self._held_in(manifest):
                    continue
                segments = tuple(self._without(manifest, fenced.epoch))
            except SnapshotUnreachable:
                raise
            except SnapshotUnreadable:
                forget_snapshot(connection, record)
                continue
            own = replace(manifest, epoch=fenced.epoch, segments=segments)
            replace_snapshot(connection, record, own, self._files.write_manifest(own))
            rewritten += 1
        return rewritten

    def tidy(self, connection: Connection, place: Place, epoch: int) -> int:
        """Removes the files that no snapshot of a partition needs any more; how many. epoch: the partition's newest.
        Raises SnapshotUnreadable, SnapshotUnwritable."""
        keep = [self._files.read_manifest(record.path, record.sha256) for record in _records(connection, place)]
        return self._files.prune(*place, keep, epoch) if keep else 0

    def _holds(self, record: SnapshotRecord) -> bool:
        try:
            return self._held_in(self._files.read_manifest(record.path, record.sha256))
        except SnapshotUnreachable:
            raise
        except SnapshotUnreadable:
            return True

    def _held_in(self, manifest: Manifest) -> bool:
        return any([self._segment_without(manifest, segment) is not None for segment in manifest.segments])

    def _segment_without(self, manifest: Manifest, segment: SegmentRef) -> Arrays | None:
        """None where it holds no name."""
        place = manifest.topic_generation, manifest.partition
        if self._seen.get((place, segment.name)) is False:
            return None
        try:
            rest = without_entities(self._files.read_segment(*place, segment), self._kind, self._names)
        except BadState as error:
            raise SnapshotUnreadable(f"snapshot file {segment.name} holds something else: {error}") from error
        self._seen[place, segment.name] = rest is not None
        return rest

    def _without(self, manifest: Manifest, epoch: int) -> Sequence[SegmentRef]:
        """The snapshot's segments, those that hold a name written anew."""
        place, segments = (manifest.topic_generation, manifest.partition), []
        for number, segment in enumerate(manifest.segments):
            rest = self._segment_without(manifest, segment)
            if rest is None:
                segments.append(segment)
                continue
            part = BASE if BASE in segment.name else DELTA
            name = segment_name(epoch, manifest.next_offset, f"{part}-without-{number}")
            rows = segment.rows if rest is None else len(rest[f"{self._kind}.touched"])
            segments.append(self._files.write_segment(*place, name, rest, rows=rows))
        return segments


def _records(connection: Connection, place: Place) -> list[SnapshotRecord]:
    return latest_snapshots(connection, *place, ANY_OFFSET)
