"""Checkpoints of trainings beside the registered models: one file each, in a folder or an object store (fsspec).

A file is replaced as a whole. Behind the bytes stands their HMAC: by a key that only who may sign models has, or by
none, which tells damage all the same. What the bytes mean is the models package's business.
"""

import hmac
from uuid import uuid4

import fsspec
import structlog

log = structlog.get_logger(__name__)

TAG_BYTES = 32
#: More than any training leaves: thrice the largest model, for weights, the best ones and the optimizer's moments.
MOST_BYTES = 4 << 30


class CheckpointFile:
    """root: where the models are; key: from storage/model_trust.py, empty without one. A store that is away costs
    checkpoints, never the training, and so does a file that is not one that this key made."""

    def __init__(self, root: str, name: str, key: bytes) -> None:
        self._files, base = fsspec.core.url_to_fs(str(root))
        self._folder = f"{base}/checkpoints"
        self._path = f"{self._folder}/{name}.safetensors"
        self._name = name
        self._key = key

    def exists(self) -> bool:
        return bool(self._files.exists(self._path))

    def load(self) -> bytes | None:
        try:
            with self._files.open(self._path, "rb") as file:
                data = bytes(file.read(MOST_BYTES + 1))
        except FileNotFoundError:
            return None
        except Exception as error:  # every kind of store has errors of its own
            log.warning("checkpoint.unreadable", path=self._path, error=str(error))
            return None
        return self._checked(data)

    def save(self, data: bytes) -> None:
        unfinished = f"{self._path}.{uuid4().hex}.unfinished"
        try:
            self._files.makedirs(self._folder, exist_ok=True)
            self._files.pipe_file(unfinished, data + self._tag(data))
            self._files.mv(unfinished, self._path)
        except Exception as error:
            log.warning("checkpoint.unwritten", path=self._path, error=str(error))

    def remove(self) -> None:
        try:
            if self.exists():
                self._files.rm(self._path)
        except Exception as error:
            log.warning("checkpoint.left", path=self._path, error=str(error))

    def _tag(self, data: bytes) -> bytes:
        made = hmac.new(self._key, self._name.encode() + b"\n", "sha256")
        made.update(data)
        return made.digest()

    def _checked(self, found: bytes) -> bytes | None:
        data, tag = found[:-TAG_BYTES], found[-TAG_BYTES:]
        if len(found) <= MOST_BYTES and hmac.compare_digest(self._tag(data), tag):
            return data
        log.warning("checkpoint.refused", path=self._path, error="its HMAC is not that of this training's key")
        return None
