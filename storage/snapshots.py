"""Snapshots of a partition's state: files in a folder or an object store (fsspec), named by rows of `snapshots`.

A snapshot is a manifest that lists segments: a base and what changed since, in order. Files are complete before they
are named: segments before their manifest, the manifest before its row, and the row only once SQL has passed the
snapshot's offset under the epoch that made it. File names begin with epoch and offset, so that no two owners of a
partition write the same file. What the arrays mean is the business of those who write them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, text

from storage.array_files import Array, BadArrayFile, array_file_pieces, arrays_of_file
from storage.progress import hold_epoch
from storage.tables import Snapshot, UtcTimestamp
from storage.whole_files import WholeFiles

MANIFEST_VERSION = 1
#: Of each partition: the newest, and one to fall back on.
KEPT_SNAPSHOTS = 2
SHARED = "the setting `state` must be the same folder or URL for every worker"
_FILE_NAME = re.compile(r"(\d+)-(\d+)[-.][\w.-]+")
_MANIFEST_PATH = re.compile(r"\d+/\d+/\d+-\d+\.json")
#: Larger ones are not read: far beyond 100 deltas, and 50,000 entities with a large network.
MOST_MANIFEST_BYTES, MOST_SEGMENT_BYTES = 4 << 20, 2 << 30


class SnapshotUnreadable(Exception):
    """A snapshot's file is missing, torn or not the one that was written."""


class SnapshotUnreachable(SnapshotUnreadable):
    """The place for snapshots does not answer, or has nothing of the partition, as a folder that is not mounted: the
    snapshot may be whole. Try again."""


class SnapshotIncompatible(SnapshotUnreadable):
    """A snapshot in another format, of another state layout or of another topic than the reader's."""


class SnapshotUnwritable(Exception):
    """The place for snapshots takes no files: no space, no permission, no connection."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A file of arrays. rows: entities in it."""

    name: str
    sha256: str
    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of one partition as of next_offset: its segments, applied in order. layout names the state's layout
    and the feature schema; model ("name:version") was active from the offset model_from on."""

    topic_generation: int
    partition: int
    epoch: int
    next_offset: int
    topic_uuid: str
    layout: str
    model: str | None
    model_from: int | None
    segments: tuple[SegmentRef, ...]


class ManifestRef(NamedTuple):
    """A manifest's file: its path below the root, and what its bytes hash to."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A row of `snapshots`."""

    topic_generation: int
    partition: int
    next_offset: int
    epoch: int
    path: str
    sha256: str
    size_bytes: int
    created_at: datetime


class _ManifestFile(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    manifest: Manifest


class _AnyVersion(msgspec.Struct):
    version: int


def segment_name(epoch: int, next_offset: int, part: str) -> str:
    """The name of a file of state as of next_offset; part tells those of one snapshot apart, as "delta" or "base-3"."""
    return f"{epoch:08d}-{next_offset:016d}-{part}.safetensors"


def refuse_incompatible(manifest: Manifest, *, topic_uuid: str, layout: str) -> None:
    """Raises SnapshotIncompatible where the manifest is not of this topic and this layout."""
    what = f"snapshot of partition {manifest.partition} at offset {manifest.next_offset}"
    if manifest.topic_uuid != topic_uuid:
        raise SnapshotIncompatible(f"{what} is of the topic with Kafka id {manifest.topic_uuid}, not {topic_uuid}")
    if manifest.layout != layout:
        raise SnapshotIncompatible(
            f"{what} has state layout {manifest.layout}, this version needs {layout}; the state is folded from SQL"
        )


class SnapshotFiles:
    """The files of all partitions below a folder or an fsspec URL, one folder for each partition."""

    def __init__(self, url: str) -> None:
        self.url = str(url)
        self._files = WholeFiles(self.url)

    def write_segment(
        self, generation: int, partition: int, name: str, arrays: Mapping[str, Array], *, rows: int
    ) -> SegmentRef:
        """Writes arrays of numbers or booleans under a name from `segment_name`. rows: entities in them. Raises
        SnapshotUnwritable; a file that could not be finished is not left under that name."""
        if _FILE_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name of a segment; take one from segment_name()")
        digest, size = self._write(f"{_folder(generation, partition)}/{name}", array_file_pieces(arrays))
        return SegmentRef(name, digest, size, rows)

    def write_manifest(self, manifest: Manifest) -> ManifestRef:
        """Writes the manifest, whose segments are written. Raises SnapshotUnwritable."""
        folder = _folder(manifest.topic_generation, manifest.partition)
        path = f"{folder}/{manifest.epoch:08d}-{manifest.next_offset:016d}.json"
        digest, _ = self._write(path, [msgspec.json.encode(_ManifestFile(MANIFEST_VERSION, manifest))])
        return ManifestRef(path, digest)

    def read_manifest(self, path: str, digest: str) -> Manifest:
        """digest: the sha256 in the snapshot's row. Raises SnapshotUnreadable, SnapshotUnreachable,
        SnapshotIncompatible."""
        if _MANIFEST_PATH.fullmatch(path) is None:
            raise SnapshotUnreadable(f"{path[:200]!r} is no path of a snapshot's manifest")
        data = self._read(path, digest, MOST_MANIFEST_BYTES)
        try:
            version = msgspec.json.decode(data, type=_AnyVersion).version
            if version == MANIFEST_VERSION:
                return msgspec.json.decode(data, type=_ManifestFile).manifest
        except (msgspec.MsgspecError, RecursionError) as error:
            raise SnapshotUnreadable(f"{self._where(path)} is no manifest of a snapshot: {error}") from error
        raise SnapshotIncompatible(
            f"{self._where(path)} has format {version}, this version of Headgate reads {MANIFEST_VERSION}; "
            "the state is folded from SQL"
        )

    def read_segment(self, generation: int, partition: int, segment: SegmentRef) -> dict[str, Array]:
        """The arrays by name, writable. Raises SnapshotUnreadable, SnapshotUnreachable."""
        path = _segment_path(generation, partition, segment)
        data = self._read(path, segment.sha256, min(segment.size_bytes, MOST_SEGMENT_BYTES), segment.size_bytes)
        try:
            return arrays_of_file(data)
        except BadArrayFile as error:
            raise SnapshotUnreadable(f"{self._where(path)} holds no arrays: {error}") from error

    def verify_segment(self, generation: int, partition: int, segment: SegmentRef) -> None:
        """Reads it without keeping it in memory. Raises SnapshotUnreadable where it is not the one that was written."""
        path = _segment_path(generation, partition, segment)
        with self._reading(path):
            digest, size = self._files.measure(path)
        self._refuse_other_bytes(path, digest, size, segment.sha256, segment.size_bytes)

    def prune(self, generation: int, partition: int, keep: Sequence[Manifest], epoch: int) -> int:
        """Removes files that none of the manifests to keep names; returns how many. What an owner with a newer epoch
        wrote stays, and what is of this epoch but newer than the manifests: it is still being written. Raises
        SnapshotUnwritable."""
        named = {_manifest_name(manifest) for manifest in keep}
        named |= {segment.name for manifest in keep for segment in manifest.segments}
        until = (epoch, max((manifest.next_offset for manifest in keep), default=-1))
        folder = _folder(generation, partition)
        with self._writing(folder):
            superseded = [name for name in self._files.names(folder) if name not in named and _is_before(name, until)]
            for name in superseded:
                self._files.remove(f"{folder}/{name}")
        return len(superseded)

    def _write(self, path: str, pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
        with self._writing(path):
            return self._files.write(path, pieces)

    def _read(self, path: str, digest: str, most: int, size: int | None = None) -> memoryview:
        with self._reading(path):
            data, found = self._files.read(path, most)
        if len(data) > most:
            raise SnapshotUnreadable(f"{self._where(path)} has more than {most:,} bytes, and is not what was written")
        self._refuse_other_bytes(path, found, len(data), digest, size)
        return data

    def _refuse_other_bytes(self, path: str, found: str, length: int, digest: str, size: int | None) -> None:
        where = self._where(path)
        if size is not None and length != size:
            raise SnapshotUnreadable(f"{where} is torn: it has {length} of {size} bytes; it is of no further use")
        if found != digest:
            raise SnapshotUnreadable(f"{where} is damaged: its sha256 is not the one written; it is of no further use")

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        where = self._where(path)
        try:
            yield
        except FileNotFoundError as error:
            there = self._files.has_folder(path.rsplit("/", 1)[0])
            kind = SnapshotUnreadable if there else SnapshotUnreachable
            raise kind(f"{where} is missing; {SHARED}") from error
        except Exception as error:  # every kind of store has errors of its own
            raise SnapshotUnreachable(f"{where} cannot be read: {_in_one_line(error)}; {SHARED}") from error

    @contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except TypeError:  # arrays of another kind are the caller's mistake
            raise
        except Exception as error:  # every kind of store has errors of its own
            what = f"{self._where(path)} cannot be written: {_in_one_line(error)}"
            raise SnapshotUnwritable(
                f"{what}; the setting `state` needs a place with space that may be written"
            ) from error

    def _where(self, path: str) -> str:
        return f"snapshot file {self._files.root}/{path}"


def publish_snapshot(connection: Connection, manifest: Manifest, path: str, digest: str, now: datetime) -> bool:
    """Names the snapshot in SQL and forgets all but the newest two; False where the manifest's epoch is no longer the
    partition's, or SQL has not passed its offset.

    The epoch is held until the transaction ends, so that an erasure (storage/erasure.py) finds what is named before it
    and keeps out what would be named after it.
    """
    key = {"generation": manifest.topic_generation, "partition": manifest.partition}
    if not hold_epoch(connection, manifest.topic_generation, manifest.partition, manifest.epoch):
        return False
    published = connection.execute(
        text(
            "INSERT INTO snapshots (topic_generation, partition, next_offset, epoch, path, sha256, size_bytes, "
            "created_at) SELECT topic_generation, partition, :next_offset, epoch, :path, :sha256, :size_bytes, :now "
            "FROM stream_progress WHERE topic_generation = :generation AND partition = :partition "
            "AND epoch = :epoch AND next_offset >= :next_offset "
            "ON CONFLICT (topic_generation, partition, next_offset, epoch) DO UPDATE SET path = excluded.path, "
            "sha256 = excluded.sha256, size_bytes = excluded.size_bytes, created_at = excluded.created_at"
        ),
        {
            **key,
            "epoch": manifest.epoch,
            "next_offset": manifest.next_offset,
            "path": path,
            "sha256": digest,
            "size_bytes": sum(segment.size_bytes for segment in manifest.segments),
            "now": UtcTimestamp().process_bind_param(now, connection.dialect),
        },
    ).rowcount
    if published:
        for record in _newest_first(connection, manifest.topic_generation, manifest.partition)[KEPT_SNAPSHOTS:]:
            forget_snapshot(connection, record)
    return bool(published)


def replace_snapshot(connection: Connection, record: SnapshotRecord, manifest: Manifest, written: ManifestRef) -> None:
    """The same state without somebody, under an epoch of its own, in the transaction that took this epoch."""
    forget_snapshot(connection, record)
    size = sum(segment.size_bytes for segment in manifest.segments)
    values = {"path": written.path, "sha256": written.sha256, "size_bytes": size, "epoch": manifest.epoch}
    connection.execute(insert(Snapshot).values({**asdict(record), **values}))


def latest_snapshots(
    connection: Connection, generation: int, partition: int, before_or_at_offset: int
) -> list[SnapshotRecord]:
    """A partition's snapshots as of this offset or before it, newest first."""
    records = _newest_first(connection, generation, partition)
    return [record for record in records if record.next_offset <= before_or_at_offset]


def forget_snapshot(connection: Connection, record: SnapshotRecord) -> None:
    """Takes a snapshot that cannot be used out of SQL, so that a readable one is kept in its place."""
    is_it = [getattr(Snapshot, name) == getattr(record, name) for name in _KEY]
    connection.execute(delete(Snapshot).where(*is_it))


_KEY = ("topic_generation", "partition", "next_offset", "epoch")


def _newest_first(connection: Connection, generation: int, partition: int) -> list[SnapshotRecord]:
    statement = (
        select(*(getattr(Snapshot, name) for name in SnapshotRecord.__dataclass_fields__))
        .where(Snapshot.topic_generation == generation, Snapshot.partition == partition)
        .order_by(Snapshot.next_offset.desc(), Snapshot.epoch.desc())
    )
    return [_record(row) for row in connection.execute(statement)]


def _record(row: Row[Any]) -> SnapshotRecord:
    return SnapshotRecord(**row._mapping)


def _folder(generation: int, partition: int) -> str:
    return f"{generation}/{partition}"


def _segment_path(generation: int, partition: int, segment: SegmentRef) -> str:
    """Raises SnapshotUnreadable for a name that leads elsewhere."""
    if _FILE_NAME.fullmatch(segment.name) is None:
        raise SnapshotUnreadable(f"{segment.name[:200]!r} is no name of a snapshot's segment")
    return f"{_folder(generation, partition)}/{segment.name}"


def _manifest_name(manifest: Manifest) -> str:
    return f"{manifest.epoch:08d}-{manifest.next_offset:016d}.json"


def _is_before(name: str, until: tuple[int, int]) -> bool:
    """Whether a file is of an older epoch, or of this one and not newer. Other files than ours are not."""
    match = _FILE_NAME.fullmatch(name)
    return match is not None and (int(match[1]), int(match[2])) <= until


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or repr(error)
