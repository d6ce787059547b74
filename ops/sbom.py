"""A software bill of materials of the product as CycloneDX 1.6: what is installed for it, what its console carries, and
the images that docker-compose.yml and the Dockerfile name. `make sbom` runs it.

cyclonedx-bom looks at the environment, and its library holds the result to the schema; both live in an environment of
their own (ops/environment.py --sbom). The environment here has more than the product, for tests: what the project's
requirements do not bring along is left out.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from ops.distributions import PYPROJECT, installed, needed, product_requirements
from ops.environment import sbom_environment_folder
from ops.licences import licences
from ops.vendored import vendored_libraries

ROOT = PYPROJECT.parent
COMPOSE, DOCKERFILE = ROOT / "docker-compose.yml", ROOT / "ops" / "docker" / "Dockerfile"
SCHEMA_VERSION = "1.6"
#: Run by the tool's Python: prints what is wrong with the document on standard input, nothing where all is well.
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
print(problem or "")
"""

Document = dict[str, Any]


class SbomFailed(Exception):
    """The tool is missing, or what it made is no valid document."""


def bill_of_materials(python: str) -> Document:
    """Of the product in the environment of this Python, valid by the schema. Raises SbomFailed."""
    found = of_environment(python)
    names = needed(product_requirements(), installed())
    expressions = {one.package: one.expression for one in licences()}
    packages = with_licences(only(found, names), expressions)
    document = {**packages, "components": [*packages["components"], *vendored_components(), *image_components()]}
    problem = problem_with(document)
    if problem:
        raise SbomFailed(f"the bill of materials is not valid CycloneDX {SCHEMA_VERSION}: {problem[:500]}")
    return document


def of_environment(python: str) -> Document:
    """Everything that is installed there, as cyclonedx-bom says. The same for the same packages. Raises SbomFailed."""
    arguments = ["environment", "--output-format", "JSON", "--spec-version", SCHEMA_VERSION, "--output-reproducible"]
    made = run_tool("cyclonedx-py", [*arguments, "--pyproject", str(PYPROJECT), python])
    document: Document = json.loads(made)
    return document


def only(document: Document, names: set[str]) -> Document:
    """With the packages of these canonical names alone, and what the product and they depend on among them."""
    root = document["metadata"]["component"]["bom-ref"]
    kept = [one for one in document["components"] if canonicalize_name(one["name"]) in names]
    references = {one["bom-ref"] for one in kept}
    edges = [
        {**edge, "dependsOn": [name for name in edge.get("dependsOn", ()) if name in references]}
        for edge in document["dependencies"]
        if edge["ref"] in references | {root}
    ]
    return {**document, "components": kept, "dependencies": edges}


def with_licences(document: Document, expressions: Mapping[str, str]) -> Document:
    """With those of ops/licences.py for packages that do not say their own."""
    filled = [
        one if "licenses" in one else {**one, "licenses": [{"expression": expressions[canonicalize_name(one["name"])]}]}
        for one in document["components"]
    ]
    return {**document, "components": filled}


def vendored_components() -> Iterator[Document]:
    for one in vendored_libraries():
        yield {
            "type": "library",
            "bom-ref": one.file,
            "name": one.package,
            "version": one.version,
            "description": f"in the console as {one.file}",
            "hashes": [{"alg": "SHA-256", "content": one.sha256}],
            "licenses": [{"license": {"id": one.licence}}],
            "purl": f"pkg:npm/{one.package}@{one.version}",
        }


def image_components() -> Iterator[Document]:
    for image in images():
        name, _, version = image.rpartition(":")
        yield {
            "type": "container",
            "bom-ref": image,
            "name": name,
            "version": version,
            "purl": f"pkg:docker/{name}@{version}",
        }


def images() -> list[str]:
    """Of others, as name:version: those that Compose starts and the one that ours is built on."""
    named = re.findall(r"^\s+image:\s*(\S+)\s*$", COMPOSE.read_text(), re.MULTILINE)
    named += re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    return sorted({image for image in named if not image.startswith("headgate:")})


def problem_with(document: Mapping[str, Any]) -> str:
    """What the schema has against it; empty where nothing. Raises SbomFailed."""
    return run_tool("python", ["-c", VALIDATE], json.dumps(document)).strip()


def run_tool(program: str, arguments: list[str], given: str = "") -> str:
    """A program of the environment that has cyclonedx-bom. Raises SbomFailed."""
    path = sbom_environment_folder() / "bin" / program
    if not path.exists():
        raise SbomFailed("cyclonedx-bom is not installed; `make sbom` installs it, in an environment of its own")
    done = subprocess.run([str(path), *arguments], input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SbomFailed(f"{program} ended with {done.returncode}: {' '.join(done.stderr.split())[-500:]}")
    return done.stdout


def main() -> None:
    try:
        document = bill_of_materials(sys.executable)
    except SbomFailed as error:
        sys.exit(f"headgate: {error}")
    path = Path(sys.argv[1])
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    print(f"{path}: {len(document['components'])} components, valid CycloneDX {SCHEMA_VERSION}")


if __name__ == "__main__":
    main()
