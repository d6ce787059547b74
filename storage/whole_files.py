"""Files in a folder or an object store (fsspec), there whole or not at all; hashed as they are written and read."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from mmap import mmap

import fsspec
from fsspec.implementations.local import LocalFileSystem

PIECE_BYTES = 1 << 20


class WholeFiles:
    """Paths are relative to a root, a folder or an fsspec URL. Errors are those of the store."""

    def __init__(self, url: str) -> None:
        self._files, self.root = fsspec.core.url_to_fs(url)
        self._local = isinstance(self._files, LocalFileSystem)

    def write(self, path: str, pieces: Iterable[bytes | memoryview]) -> tuple[str, int]:
        """The sha256 and the size of what was written."""
        full = f"{self.root}/{path}"
        digest, size = sha256(), 0

        def hashed() -> Iterator[bytes | memoryview]:
            nonlocal size
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
                yield piece

        self._files.makedirs(full.rsplit("/", 1)[0], exist_ok=True)
        if self._local:
            _write_to_disk(full, hashed())
        else:  # an object appears once it is closed; it may lack its end if that went wrong, as its hash then tells
            with self._files.open(full, "wb") as file:
                file.writelines(hashed())
        return digest.hexdigest(), size

    def read(self, path: str, most: int) -> tuple[memoryview, str]:
        """The bytes, which may be written to, and their sha256; of a file with more than `most` bytes so many and one.
        Raises FileNotFoundError."""
        data, filled, digest = _room(most + 1), 0, sha256()
        with self._files.open(f"{self.root}/{path}", "rb") as file:
            while count := file.readinto(data[filled : filled + PIECE_BYTES]):
                digest.update(data[filled : filled + count])
                filled += count
        return data[:filled], digest.hexdigest()

    def measure(self, path: str) -> tuple[str, int]:
        """A file's sha256 and its size, with a piece of it in memory at a time. Raises FileNotFoundError."""
        digest, size = sha256(), 0
        with self._files.open(f"{self.root}/{path}", "rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
        return digest.hexdigest(), size

    def has_folder(self, folder: str) -> bool:
        """False also where the store does not answer."""
        return bool(self._files.exists(f"{self.root}/{folder}"))

    def names(self, folder: str) -> list[str]:
        """Of the files in a folder; none where there is no such folder."""
        full = f"{self.root}/{folder}"
        if not self._files.exists(full):
            return []
        return [path.rsplit("/", 1)[-1] for path in self._files.ls(full, detail=False, refresh=True)]

    def remove(self, path: str) -> None:
        """Somebody else may have removed it before."""
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self.root}/{path}")


def _room(size: int) -> memoryview:
    """To be filled in place, outside Python's lock; what is not filled takes no memory. Raises MemoryError."""
    try:
        return memoryview(mmap(-1, size))
    except OSError as error:
        raise MemoryError(f"no room for {size:,} bytes") from error


def _write_to_disk(path: str, pieces: Iterable[bytes | memoryview]) -> None:
    """Under another name first; the right one is there only once the bytes are on the disk."""
    unfinished = f"{path}.unfinished"
    try:
        with open(unfinished, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):  # a part of a file helps nobody on a full disk
            os.remove(unfinished)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
