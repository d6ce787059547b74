"""The libraries that the console carries in its folder `vendor`, as the README there lists them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "dashboard" / "static" / "vendor"
ROW = re.compile(
    r"^\| `(?P<file>[\w.-]+)` \| .+? \| (?P<version>[\d.]+) \| (?P<licence>\w[\w. ]*) \(`(?P<text>[\w.-]+)`\) \|",
    re.MULTILINE,
)
SPDX = {"MIT": "MIT", "Apache 2.0": "Apache-2.0"}


@dataclass(frozen=True, slots=True)
class VendoredLibrary:
    """package: in the npm registry; licence: SPDX; the paths are relative to the checkout."""

    name: str
    package: str
    version: str
    licence: str
    file: str
    licence_file: str
    sha256: str


def vendored_libraries() -> Iterator[VendoredLibrary]:
    for found in ROW.finditer((FOLDER / "README.md").read_text()):
        package = found["text"].removeprefix("LICENSE-").removesuffix(".txt")
        yield VendoredLibrary(
            name=found["file"],
            package=package,
            version=found["version"],
            licence=SPDX[found["licence"]],
            file=named(found["file"]),
            licence_file=named(found["text"]),
            sha256=sha256((FOLDER / found["file"]).read_bytes()).hexdigest(),
        )


def named(file: str) -> str:
    return str((FOLDER / file).relative_to(FOLDER.parents[3]))
