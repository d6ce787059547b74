"""Snapshots come back as they were written, or say what is wrong with them; SQL names only the present owner's."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import fsspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from storage.array_files import DTYPES, BadArrayFile, array_file_pieces, arrays_of_file
from storage.database import Database
from storage.progress import Advance, advance, claim_partitions
from storage.snapshots import (
    Manifest,
    ManifestRef,
    SegmentRef,
    SnapshotFiles,
    SnapshotIncompatible,
    SnapshotUnreachable,
    SnapshotUnreadable,
    SnapshotUnwritable,
    forget_snapshot,
    latest_snapshots,
    publish_snapshot,
    refuse_incompatible,
    segment_name,
)
from tests.storage.rows import NOON

ARRAYS = {
    "hidden": np.arange(12, dtype=np.float16).reshape(3, 4),
    "counts": np.array([2**62, -1, 0]),
    "ids": np.frombuffer(b"a1a2a3", np.uint8),
    "known": np.array([True, False, True]),
    "none": np.empty((0, 7), np.float32),
}
ANY_ARRAY = st.sampled_from([np.dtype(code) for code in DTYPES.values()]).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> SnapshotFiles:
    """On a disk, and on an object store as fsspec shows one."""
    return SnapshotFiles(str(tmp_path / "states") if request.param == "folder" else f"memory://states-{uuid4().hex}")


def manifest_of(*segments: SegmentRef, epoch: int = 1, next_offset: int = 40) -> Manifest:
    return Manifest(
        topic_generation=1,
        partition=0,
        epoch=epoch,
        next_offset=next_offset,
        topic_uuid="uuid-1",
        layout="accounts:1",
        model="detector:3",
        model_from=17,
        segments=segments,
    )


def write(files: SnapshotFiles, epoch: int, next_offset: int, *earlier: SegmentRef) -> tuple[Manifest, ManifestRef]:
    segment = files.write_segment(1, 0, segment_name(epoch, next_offset, "delta"), ARRAYS, rows=3)
    manifest = manifest_of(*earlier, segment, epoch=epoch, next_offset=next_offset)
    return manifest, files.write_manifest(manifest)


def names(files: SnapshotFiles) -> list[str]:
    system, root = fsspec.core.url_to_fs(files.url)
    return sorted(path.rsplit("/", 1)[-1] for path in system.find(root))


def change(files: SnapshotFiles, name: str, edit: Callable[[bytes], bytes]) -> None:
    system, root = fsspec.core.url_to_fs(files.url)
    path = f"{root}/1/0/{name}"
    system.pipe_file(path, edit(system.cat_file(path)))


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name != "__metadata__"), ANY_ARRAY, max_size=5))
def test_arrays_come_back_as_they_were(arrays: dict[str, np.ndarray]) -> None:
    data = b"".join(array_file_pieces(arrays))
    assert same(arrays_of_file(bytearray(data)), arrays)
    assert same(safetensors.numpy.load(data), arrays)


def test_arrays_of_any_order_in_memory_come_back_in_that_of_their_shape() -> None:
    turned = {"turned": ARRAYS["hidden"].T, "every second": ARRAYS["counts"][::2], "big": np.arange(4, dtype=">i8")}
    found = arrays_of_file(b"".join(array_file_pieces(turned)))
    assert all(np.array_equal(found[name], array) for name, array in turned.items())


ARRAY_FILE = b"".join(array_file_pieces(ARRAYS))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(ARRAY_FILE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_array_file_is_refused_or_holds_no_more_than_its_bytes(damage: list[tuple[int, int]]) -> None:
    data = bytearray(ARRAY_FILE)
    for place, value in damage:
        data[place] = value
    with suppress(BadArrayFile):
        assert sum(array.nbytes for array in arrays_of_file(data).values()) < len(data)


@settings(max_examples=300)
@given(
    st.sampled_from(list(DTYPES)),
    st.lists(st.integers(-(2**70), 2**70) | st.integers(-2, 9), max_size=70),
    st.tuples(st.integers(-9, 99), st.integers(-9, 2**70)),
)
def test_any_shape_that_a_header_claims_is_refused_or_that_of_its_bytes(
    dtype: str, shape: list[int], offsets: tuple[int, int]
) -> None:
    header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    with suppress(BadArrayFile):
        found = arrays_of_file(len(header).to_bytes(8, "little") + header + bytes(32))["a"]
        assert found.nbytes == 32


def test_what_was_written_is_read(files: SnapshotFiles) -> None:
    manifest, ref = write(files, 1, 40)
    assert files.read_manifest(*ref) == manifest
    (segment,) = manifest.segments
    arrays = files.read_segment(1, 0, segment)
    assert same(arrays, ARRAYS)
    assert (segment.rows, segment.size_bytes) == (3, len(b"".join(array_file_pieces(ARRAYS))))
    arrays["counts"][0] = 1  # whoever restores goes on with them


@given(
    st.builds(
        Manifest,
        st.integers(1, 2**15 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(1, 2**60),
        st.integers(0, 2**60),
        st.text(),
        st.text(),
        st.none() | st.text(),
        st.none() | st.integers(0, 2**60),
        st.lists(st.builds(SegmentRef, st.text(), st.text(), st.integers(0), st.integers(0)), max_size=3).map(tuple),
    )
)
def test_any_manifest_comes_back(manifest: Manifest) -> None:
    files = SnapshotFiles("memory://manifests")
    assert files.read_manifest(*files.write_manifest(manifest)) == manifest


def test_a_missing_segment_says_where_it_should_be(files: SnapshotFiles) -> None:
    manifest, _ = write(files, 1, 40)
    files.prune(1, 0, [manifest_of(epoch=2, next_offset=50)], epoch=2)
    files.write_segment(1, 0, segment_name(2, 50, "delta"), ARRAYS, rows=3)
    with pytest.raises(
        SnapshotUnreadable, match=r"states.*/1/0/.*-delta\.safetensors is missing; the setting `state` must"
    ) as caught:
        files.read_segment(1, 0, manifest.segments[0])
    assert type(caught.value) is SnapshotUnreadable
    with pytest.raises(
        SnapshotUnreadable, match=r"states.*/1/0/.*-delta\.safetensors is missing; the setting `state` must"
    ):
        files.verify_segment(1, 0, manifest.segments[0])


@pytest.mark.parametrize("kept", [0, 7, 8, 100])
def test_a_torn_segment_says_how_much_there_is(files: SnapshotFiles, kept: int) -> None:
    manifest, _ = write(files, 1, 40)
    (segment,) = manifest.segments
    change(files, segment.name, lambda data: data[:kept])
    with pytest.raises(SnapshotUnreadable, match=f"is torn: it has {kept} of {segment.size_bytes} bytes"):
        files.read_segment(1, 0, segment)
    with pytest.raises(SnapshotUnreadable, match=f"is torn: it has {kept} of {segment.size_bytes} bytes"):
        files.verify_segment(1, 0, segment)


def test_a_changed_byte_is_found_wherever_it_is(files: SnapshotFiles) -> None:
    manifest, ref = write(files, 1, 40)
    (segment,) = manifest.segments
    change(files, segment.name, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SnapshotUnreadable, match=r"delta\.safetensors is damaged: its sha256"):
        files.read_segment(1, 0, segment)
    with pytest.raises(SnapshotUnreadable, match=r"delta\.safetensors is damaged: its sha256"):
        files.verify_segment(1, 0, segment)
    change(files, ref.path.rsplit("/", 1)[-1], lambda data: data.replace(b"detector:3", b"detector:4"))
    with pytest.raises(SnapshotUnreadable, match=r"\.json is damaged: its sha256"):
        files.read_manifest(*ref)


def test_a_place_without_anything_of_the_partition_may_be_the_wrong_one(files: SnapshotFiles) -> None:
    with pytest.raises(SnapshotUnreachable, match=r"1-1\.json is missing; the setting `state` must"):
        files.read_manifest("1/0/1-1.json", "digest")


def test_a_store_that_is_not_there_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SnapshotUnreachable, match=r"cannot be read.*setting `state`"):
        SnapshotFiles(f"{tmp_path}/file").read_manifest("1/0/1-1.json", "digest")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", SnapshotUnreadable, "is no manifest"),
        (b"[]", SnapshotUnreadable, "is no manifest"),
        (b'{"version": 1}', SnapshotUnreadable, "is no manifest"),
        (b'{"version": 1, "manifest": {"partition": "x"}}', SnapshotUnreadable, "is no manifest"),
        (b'{"version": 2, "whatever": {}}', SnapshotIncompatible, "has format 2, this version of Headgate reads 1"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(
    files: SnapshotFiles, data: bytes, error: type[Exception], message: str
) -> None:
    system, root = fsspec.core.url_to_fs(files.url)
    system.makedirs(f"{root}/1/0", exist_ok=True)
    system.pipe_file(f"{root}/1/0/1-40.json", data)
    with pytest.raises(SnapshotUnreadable, match=message) as caught:
        files.read_manifest("1/0/1-40.json", sha256(data).hexdigest())
    assert type(caught.value) is error


@pytest.mark.parametrize("data", [b"", b"\xff" * 16, (2).to_bytes(8, "little") + b"[]", None])
def test_a_segment_that_holds_no_arrays_says_so(files: SnapshotFiles, data: bytes | None) -> None:
    place = {"a": {"dtype": "I64", "shape": [2], "data_offsets": [0, 1600]}}
    header = json.dumps(place).encode()
    data = len(header).to_bytes(8, "little") + header if data is None else data
    name = segment_name(1, 40, "delta")
    files.write_segment(1, 0, name, {}, rows=0)
    change(files, name, lambda _: data)
    digest = sha256(data).hexdigest()
    with pytest.raises(SnapshotUnreadable, match=r"delta\.safetensors holds no arrays"):
        files.read_segment(1, 0, SegmentRef(name, digest, len(data), 0))


def test_a_snapshot_of_another_topic_or_layout_is_refused() -> None:
    manifest = manifest_of()
    refuse_incompatible(manifest, topic_uuid="uuid-1", layout="accounts:1")
    with pytest.raises(SnapshotIncompatible, match="at offset 40 is of the topic with Kafka id uuid-1, not uuid-2"):
        refuse_incompatible(manifest, topic_uuid="uuid-2", layout="accounts:1")
    with pytest.raises(SnapshotIncompatible, match="has state layout accounts:1, this version needs accounts:2"):
        refuse_incompatible(manifest, topic_uuid="uuid-1", layout="accounts:2")


def test_a_place_that_takes_no_files_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "states").write_text("no folder")
    files = SnapshotFiles(str(tmp_path / "states"))
    with pytest.raises(SnapshotUnwritable, match=r"states/1/0/.*cannot be written.*with space that may be"):
        write(files, 1, 40)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    name = segment_name(1, 40, "delta")
    folder = tmp_path / "1" / "0"
    folder.mkdir(parents=True)
    (folder / f"{name}.unfinished").symlink_to("/dev/full")
    with pytest.raises(SnapshotUnwritable, match="No space left on device"):
        SnapshotFiles(str(tmp_path)).write_segment(1, 0, name, ARRAYS, rows=3)
    assert list(folder.iterdir()) == []


def test_a_name_or_an_array_of_another_kind_is_the_callers_mistake(files: SnapshotFiles) -> None:
    for name in ("../../else", "1-40", "delta.safetensors", "1-40-a/b"):
        with pytest.raises(ValueError, match="take one from segment_name"):
            files.write_segment(1, 0, name, ARRAYS, rows=3)
    with pytest.raises(TypeError, match="ids has dtype <U1"):
        files.write_segment(1, 0, segment_name(1, 40, "delta"), {"ids": np.array(["a"])}, rows=1)


def test_pruning_keeps_what_kept_manifests_name_and_what_is_being_written(files: SnapshotFiles) -> None:
    base, _ = write(files, 1, 10)
    first, _ = write(files, 2, 20, *base.segments)
    second, _ = write(files, 2, 30, *first.segments)
    write(files, 1, 99)  # of an owner that was replaced and did not notice
    files.write_segment(1, 0, segment_name(2, 25, "base"), ARRAYS, rows=3)  # never named
    files.write_segment(1, 0, segment_name(2, 40, "delta"), ARRAYS, rows=3)  # to be named next
    files.write_segment(1, 0, segment_name(3, 5, "base"), ARRAYS, rows=3)  # of the owner after us
    files.write_segment(1, 1, segment_name(1, 1, "base"), ARRAYS, rows=3)  # of another partition
    assert files.prune(1, 0, [first, second], epoch=2) == 4
    assert names(files) == sorted(
        [
            *(f"00000002-{offset:016d}.json" for offset in (20, 30)),
            *(segment.name for segment in second.segments),
            segment_name(2, 40, "delta"),
            segment_name(3, 5, "base"),
            segment_name(1, 1, "base"),
        ]
    )
    assert files.prune(1, 0, [first, second], epoch=2) == 0
    assert files.prune(7, 7, [], epoch=2) == 0


def test_pruning_takes_what_a_crash_left_and_leaves_what_others_put_there(tmp_path: Path) -> None:
    files = SnapshotFiles(str(tmp_path))
    kept, _ = write(files, 2, 20)
    for name in (f"{segment_name(1, 10, 'delta')}.unfinished", "README", "notes-1.txt"):
        (tmp_path / "1" / "0" / name).write_text("")
    files.prune(1, 0, [kept], epoch=2)
    assert names(files) == sorted(["00000002-0000000000000020.json", kept.segments[0].name, "README", "notes-1.txt"])


def claim(database: Database, owner: str = "w1") -> int:
    claims = claim_partitions(
        database,
        topic="transactions",
        topic_uuid="uuid-1",
        start_offsets={0: 0},
        owner=owner,
        backend_pid=None,
        now=NOON,
    )
    return claims[0].epoch


def go_on(database: Database, epoch: int, base: int, to: int) -> None:
    with database.begin() as connection:
        assert advance(connection, [Advance(1, 0, epoch, base, to, applied=to - base)], NOON)


def publish(database: Database, manifest: Manifest) -> bool:
    with database.begin() as connection:
        return publish_snapshot(connection, manifest, f"1/0/{manifest.next_offset}", "digest", NOON)


def published(database: Database, before_or_at_offset: int = 2**62) -> list[tuple[int, int]]:
    with database.reading() as connection:
        return [(row.next_offset, row.epoch) for row in latest_snapshots(connection, 1, 0, before_or_at_offset)]


def test_a_snapshot_is_named_once_sql_has_passed_its_offset(database: Database) -> None:
    epoch = claim(database)
    go_on(database, epoch, 0, 40)
    assert not publish(database, manifest_of(epoch=epoch, next_offset=41))
    segments = [SegmentRef("a", "", 100, 1), SegmentRef("b", "", 20, 1)]
    assert publish(database, manifest_of(*segments, epoch=epoch, next_offset=40))
    with database.reading() as connection:
        (record,) = latest_snapshots(connection, 1, 0, 40)
    assert (record.path, record.sha256, record.size_bytes, record.created_at) == ("1/0/40", "digest", 120, NOON)


def test_an_owner_that_was_replaced_names_nothing(database: Database) -> None:
    epoch = claim(database)
    go_on(database, epoch, 0, 40)
    assert claim(database, "w2") == epoch + 1
    assert not publish(database, manifest_of(epoch=epoch, next_offset=40))
    assert publish(database, manifest_of(epoch=epoch + 1, next_offset=40))
    assert published(database) == [(40, epoch + 1)]


def test_the_newest_two_are_kept_and_found_from_a_place_in_the_log(database: Database) -> None:
    epoch = claim(database)
    go_on(database, epoch, 0, 40)
    for next_offset in (10, 20, 20, 30):
        assert publish(database, manifest_of(epoch=epoch, next_offset=next_offset))
    assert published(database) == [(30, 1), (20, 1)]
    assert published(database, 29) == [(20, 1)]
    assert published(database, 19) == []


def test_one_that_cannot_be_used_makes_room_for_one_that_can(database: Database) -> None:
    epoch = claim(database)
    go_on(database, epoch, 0, 40)
    for next_offset in (10, 20):
        publish(database, manifest_of(epoch=epoch, next_offset=next_offset))
    with database.begin() as connection:
        forget_snapshot(connection, latest_snapshots(connection, 1, 0, 20)[0])
    publish(database, manifest_of(epoch=epoch, next_offset=30))
    assert published(database) == [(30, 1), (10, 1)]


def test_a_manifest_differs_from_one_that_differs_in_anything() -> None:
    manifest = manifest_of()
    files = SnapshotFiles("memory://differing")
    assert files.write_manifest(manifest) != files.write_manifest(replace(manifest, model_from=18))
