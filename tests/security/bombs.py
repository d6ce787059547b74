"""Small files that claim to be huge, and huge ones that should be small, read in a process with little memory.

Run as a script with a folder, it tries every bomb and prints, as one JSON object, what was raised: BadModel and its
like where it was refused. With the name of a bound behind the folder it takes that away and tries the bomb that it
is there for: MemoryError, or the end of the process, is what that comes to.
"""

import json
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from models.artifact import TrainedDetector
from models.checkpoint import TrainingState
from models.detector import Detector, DetectorConfig
from models.policy import TrainedPolicy
from storage.array_files import array_file_pieces, arrays_of_file
from storage.checkpoints import CheckpointFile
from storage.database import open_database, upgrade
from storage.registry import ModelRegistry
from storage.snapshots import SegmentRef, SnapshotFiles
from streams.state_codec import changes_of, packed_of
from tests.models.logs import untrained
from tests.storage.rows import NOON

#: What a bomb may take beyond what the process has, bytes; and what each bomb would take, at least.
ROOM, HUGE = 768 << 20, 8 << 30
ROW = np.dtype([("time", "<i8")])


def of_header(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def tensors(description: str, **shapes: list[int]) -> bytes:
    """A file of tensors whose shapes are claimed and whose bytes are missing."""
    places = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 16]} for name, shape in shapes.items()}
    return of_header(json.dumps({"__metadata__": {"headgate": description}, **places}).encode(), b"\0" * 16)


def long_header() -> bytes:
    """90 MB of names of empty arrays, which would be gigabytes of objects; the library of safetensors takes 100 MB."""
    empty = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names = ",".join(f'"{number}":{empty}' for number in range(1_500_000))
    return of_header(f'{{"__metadata__":{{"headgate":"{{}}"}},{names}}}'.encode())


def detector_of_a_long_header(folder: Path) -> None:
    TrainedDetector.from_bytes(long_header())


def detector_of_a_claimed_header(folder: Path) -> None:
    TrainedDetector.from_bytes((2**62).to_bytes(8, "little") + b"{}")


def detector_of_claimed_shapes(folder: Path) -> None:
    TrainedDetector.from_bytes(tensors("{}", mean_F=[2**31, 4]))


def detector_of_claimed_units(folder: Path) -> None:
    data = untrained().to_bytes()
    length = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + length])["__metadata__"]["headgate"]
    description = json.loads(said)
    description["config"]["hidden"] = 65_000
    weights = safetensors.torch.load(data)
    TrainedDetector.from_bytes(safetensors.torch.save(weights, {"headgate": json.dumps(description)}))


def policy_of_a_long_header(folder: Path) -> None:
    TrainedPolicy.from_bytes(long_header())


def checkpoint_of_a_long_header(folder: Path) -> None:
    detector = Detector(DetectorConfig(hidden=8, head=8))
    state = TrainingState(detector, torch.optim.Adam(detector.parameters()), np.random.default_rng(0))
    state.restore(long_header(), "")


def segment_of_a_long_header(folder: Path) -> None:
    header = long_header()[8:].replace(b'"__metadata__":{"headgate":"{}"},', b"", 1)
    arrays_of_file(of_header(header))


def segment_of_claimed_rows(folder: Path) -> None:
    place = {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}
    arrays_of_file(of_header(json.dumps({"a.hidden": place}).encode()))


def segment_of_overlapping_arrays(folder: Path) -> None:
    place = {"dtype": "U8", "shape": [16], "data_offsets": [0, 16]}
    arrays_of_file(of_header(json.dumps({"a": place, "b": place}).encode(), b"\0" * 16))


def segment_of_texts_that_overlap(folder: Path) -> None:
    """2 MB of text, and ends that go to and fro: each second text is all of it."""
    ends = np.zeros(20_000, np.int64)
    ends[1::2] = 2_000_000
    arrays: dict[str, Any] = {
        "active.model": np.frombuffer(b"fraud:1", np.uint8),
        "active.offset": np.zeros(1, np.int64),
        "a.ids": np.full(2_000_000, 97, np.uint8),
        "a.ids.ends": ends,
        "a.gone": np.zeros(0, np.uint8),
        "a.gone.ends": np.zeros(0, np.int64),
        "a.touched": np.zeros(20_000, np.int64),
        "a.rows": np.zeros((20_000, 8), np.uint8),
        "a.hidden": np.zeros((20_000, 0), np.float32),
        "a.current": np.zeros(20_000, np.bool_),
    }
    changes_of(arrays_of_file(b"".join(array_file_pieces(arrays))), {"a": ROW})


def cold_state_of_four_gigabytes(folder: Path) -> None:
    packed_of(["a"], np.zeros(1, np.int64), [struct.pack("<I", 2**32 - 1) + b"\0" * 16], ROW, None, 0)


def huge(path: Path) -> Path:
    """A file of HUGE bytes that takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


def huge_model(folder: Path) -> None:
    url = f"sqlite:///{folder / 'headgate.sqlite'}"
    upgrade(url)
    registry = ModelRegistry(open_database(url), str(folder))
    record = registry.register("fraud", "detector", b"weights", feature_schema=1, metrics={}, clock=lambda: NOON)
    huge(folder / record.artifact)
    registry.load(record)


def huge_manifest(folder: Path) -> None:
    huge(folder / "1/0/1-40.json")
    SnapshotFiles(str(folder)).read_manifest("1/0/1-40.json", "digest")


def huge_segment(folder: Path) -> None:
    huge(folder / "1/0/1-40-delta.safetensors")
    SnapshotFiles(str(folder)).read_segment(1, 0, SegmentRef("1-40-delta.safetensors", "digest", 4_000, 1))


def segment_elsewhere(folder: Path) -> None:
    SnapshotFiles(str(folder)).read_segment(1, 0, SegmentRef("../../../../../../dev/zero", "digest", HUGE, 1))


def checkpoint_that_is_none(folder: Path) -> None:
    """A checkpoint is refused by its HMAC, with a warning and not an error."""
    path = folder / "checkpoints" / "run.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"\0" * 1_000)
    if CheckpointFile(str(folder), "run", b"").load() is None:
        raise ValueError("refused")


BOMBS: dict[str, Callable[[Path], None]] = {
    bomb.__name__: bomb
    for bomb in (
        detector_of_a_long_header,
        detector_of_a_claimed_header,
        detector_of_claimed_shapes,
        detector_of_claimed_units,
        policy_of_a_long_header,
        checkpoint_of_a_long_header,
        segment_of_a_long_header,
        segment_of_claimed_rows,
        segment_of_overlapping_arrays,
        segment_of_texts_that_overlap,
        cold_state_of_four_gigabytes,
        huge_model,
        huge_manifest,
        huge_segment,
        segment_elsewhere,
        checkpoint_that_is_none,
    )
}
#: Module and name of each bound -> the bombs that go off without it.
BOUNDS = {
    "models.tensor_file.MOST_HEADER_BYTES": "detector_of_a_long_header",
    "storage.array_files.MOST_HEADER_BYTES": "segment_of_a_long_header",
    "storage.snapshots.MOST_MANIFEST_BYTES": "huge_manifest",
    "streams.state_codec.MOST_UNITS": "cold_state_of_four_gigabytes",
}


def what_becomes_of(bomb: Callable[[Path], None], folder: Path) -> str:
    try:
        bomb(folder)
    except (Exception, MemoryError) as error:
        return type(error.__cause__ if isinstance(error.__cause__, MemoryError) else error).__name__
    return "nothing"


def take_away(bound: str) -> None:
    module, _, name = bound.rpartition(".")
    assert hasattr(sys.modules[module], name)
    setattr(sys.modules[module], name, 1 << 62)


def main() -> None:
    folder, bounds = Path(sys.argv[1]), sys.argv[2:]
    for bound in bounds:
        take_away(bound)
    untrained()  # so that torch has what it needs
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    found: dict[str, str] = {}
    for name in [BOUNDS[bound] for bound in bounds] or BOMBS:
        (folder / name).mkdir()
        found[name] = what_becomes_of(BOMBS[name], folder / name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
