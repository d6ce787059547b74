"""Checkpoints of trainings beside the registered models: one file each, in a folder or an object store (fsspec).

A file is replaced as a whole. What the bytes mean is the models package's business.
"""

from uuid import uuid4

import fsspec
import structlog

log = structlog.get_logger(__name__)


class CheckpointFile:
    """root: where the models are. A store that is away costs checkpoints, never the training."""

    def __init__(self, root: str, name: str) -> None:
        self._files, base = fsspec.core.url_to_fs(str(root))
        self._folder = f"{base}/checkpoints"
        self._path = f"{self._folder}/{name}.safetensors"

    def exists(self) -> bool:
        return bool(self._files.exists(self._path))

    def load(self) -> bytes | None:
        try:
            return bytes(self._files.cat_file(self._path))
        except FileNotFoundError:
            return None
        except Exception as error:  # every kind of store has errors of its own
            log.warning("checkpoint.unreadable", path=self._path, error=str(error))
            return None

    def save(self, data: bytes) -> None:
        unfinished = f"{self._path}.{uuid4().hex}.unfinished"
        try:
            self._files.makedirs(self._folder, exist_ok=True)
            self._files.pipe_file(unfinished, data)
            self._files.mv(unfinished, self._path)
        except Exception as error:
            log.warning("checkpoint.unwritten", path=self._path, error=str(error))

    def remove(self) -> None:
        try:
            if self.exists():
                self._files.rm(self._path)
        except Exception as error:
            log.warning("checkpoint.left", path=self._path, error=str(error))
