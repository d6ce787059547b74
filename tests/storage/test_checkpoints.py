"""A checkpoint comes back as this training left it, or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage import checkpoints
from storage.checkpoints import CheckpointFile

DATA = b"tensors" * 1_000


def written_by(key: bytes, folder: Path, name: str = "run") -> Path:
    CheckpointFile(str(folder), name, key).save(DATA)
    return folder / "checkpoints" / f"{name}.safetensors"


@pytest.mark.parametrize("key", [b"", b"k" * 32])
def test_a_checkpoint_is_read_as_it_was_written_and_removed(tmp_path: Path, key: bytes) -> None:
    path = written_by(key, tmp_path)
    file = CheckpointFile(str(tmp_path), "run", key)
    assert file.load() == DATA
    file.remove()
    assert not path.exists()
    assert file.load() is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[:10] + b"!" + data[11:],
        lambda data: data + b"!",
    ],
)
@pytest.mark.parametrize("key", [b"", b"k" * 32])
def test_a_damaged_checkpoint_is_refused_with_a_word(
    tmp_path: Path, key: bytes, spoil: Callable[[bytes], bytes]
) -> None:
    path = written_by(key, tmp_path)
    path.write_bytes(spoil(path.read_bytes()))
    with capture_logs() as logged:
        assert CheckpointFile(str(tmp_path), "run", key).load() is None
    assert [line["event"] for line in logged] == ["checkpoint.refused"]


@pytest.mark.parametrize("key", [b"", b"another key"])
def test_a_checkpoint_that_was_made_without_the_key_is_refused(tmp_path: Path, key: bytes) -> None:
    """Else who can write files, but not sign, would choose the weights that the next run signs."""
    written_by(key, tmp_path)
    assert CheckpointFile(str(tmp_path), "run", b"k" * 32).load() is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = written_by(b"k", tmp_path, "other")
    path.rename(path.with_name("run.safetensors"))
    assert CheckpointFile(str(tmp_path), "run", b"k").load() is None


def test_a_file_larger_than_any_checkpoint_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written_by(b"", tmp_path)
    monkeypatch.setattr(checkpoints, "MOST_BYTES", len(DATA))
    with capture_logs() as logged:
        assert CheckpointFile(str(tmp_path), "run", b"").load() is None
    assert [line["event"] for line in logged] == ["checkpoint.refused"]
