"""The folder of snapshots of a deployment under test, which can be filled up.

Root gives it a small file system of its own, in memory. Others cannot: there, full means that it may not be written.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE = "256m"
PIECE = bytes(1 << 16)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """mounted: it is a file system of its own."""

    path: Path
    mounted: bool

    def snapshots(self) -> dict[Path, list[Path]]:
        """A partition's folder -> its files of snapshots, oldest first; only partitions that have any."""
        found: dict[Path, list[Path]] = {}
        for file in sorted(self.path.rglob("*.safetensors")):
            found.setdefault(file.parent, []).append(file)
        return found

    def fill(self) -> None:
        if not self.mounted:
            for folder in [self.path, *(one for one in self.path.rglob("*") if one.is_dir())]:
                folder.chmod(0o555)
            return
        with self._filling.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(PIECE)
            except OSError:
                """It is full."""

    def empty(self) -> None:
        """Makes room again; what was written of snapshots stays."""
        if self.mounted:
            self._filling.unlink(missing_ok=True)
            return
        for folder in [self.path, *(one for one in self.path.rglob("*") if one.is_dir())]:
            folder.chmod(0o755)

    @property
    def _filling(self) -> Path:
        return self.path / "filling"


@contextmanager
def state_folder(path: Path) -> Iterator[StateFolder]:
    """A new folder; what was mounted is unmounted at the end."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield StateFolder(path, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True)
