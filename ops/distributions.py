"""Installed packages: which of them the product needs, and under which licence each stands.

Reads what packages say of themselves, nothing else; which licences are fine is decided in ops/licences.py.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
#: What packages without an SPDX expression write in its place.
SPDX = {
    "0BSD": "0BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "BSD": "LicenseRef-BSD",
    "BSD 2-Clause License": "BSD-2-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "BSD License": "LicenseRef-BSD",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSD-derived (Repoze)": "LicenseRef-Repoze",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MPL-2.0": "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def installed() -> dict[str, Distribution]:
    """Every package that this Python sees but Headgate itself, by its canonical name."""
    found = {str(canonicalize_name(one.metadata["Name"])): one for one in distributions()}
    return {name: found[name] for name in sorted(found) if name != "headgate"}


def product_requirements() -> list[str]:
    """What `pip install` of the project asks for, without extras."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return [str(requirement) for requirement in project["dependencies"]]


def needed(requirements: Iterable[str], there: Mapping[str, Distribution]) -> set[str]:
    """The names of what these requirements bring with them on this machine, and what that brings. Raises KeyError for
    one that is not installed."""
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in wanted(requirements, {""})]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        asked = wanted(there[name].requires or (), {"", *extras})
        waiting += [(canonicalize_name(one.name), frozenset(one.extras)) for one in asked]
    return {name for name, _ in seen}


def wanted(requirements: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    """Those whose markers hold here, with one of the extras."""
    every = [Requirement(text) for text in requirements]
    return [one for one in every if one.marker is None or any(one.marker.evaluate({"extra": x}) for x in extras)]


def licence_of(distribution: Distribution) -> str | None:
    """An SPDX expression; None where the package does not say, or not in words that are known here."""
    fields = distribution.metadata
    for expression in fields.get_all("License-Expression") or ():
        return str(expression)
    for said in fields.get_all("License") or ():
        if said.strip() in SPDX:
            return SPDX[said.strip()]
    classifiers = [text for text in fields.get_all("Classifier") or () if text.startswith("License :: ")]
    names = [re.split(r" :: ", text)[-1] for text in classifiers]
    known = sorted({SPDX[name] for name in names if name in SPDX})
    return " AND ".join(known) if known else None
