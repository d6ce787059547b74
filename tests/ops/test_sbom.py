"""The bill of materials is what the product has: valid by CycloneDX's schema, no more and no less."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from ops import sbom
from ops.distributions import installed, needed, product_requirements
from ops.sbom import Document, SbomFailed, bill_of_materials, image_components, only, problem_with, vendored_components

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> Document:
    """Made as `make sbom` does, with its own environment, which this prepares once."""
    prepare = [sys.executable, "-I", str(CHECKOUT / "ops" / "environment.py"), "--sbom"]
    done = subprocess.run(prepare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return bill_of_materials(sys.executable)


def test_it_is_valid_by_the_schema_and_what_is_not_is_found(document: Document) -> None:
    assert problem_with(document) == ""
    first = document["components"][0]
    assert problem_with({**document, "components": [{**first, "type": "no such type"}]}) != ""
    assert problem_with({**document, "components": [first, first]}) != ""
    assert problem_with({**document, "unknown": 1}) != ""


def test_it_names_every_package_that_the_product_has_in_the_version_that_is_installed_and_no_other(
    document: Document,
) -> None:
    found = {one["purl"]: one for one in document["components"] if one["purl"].startswith("pkg:pypi/")}
    product = needed(product_requirements(), installed())
    assert {re.sub(r"[-_.]+", "-", one["name"]).lower() for one in found.values()} == product
    assert all(one["version"] == version(one["name"]) for one in found.values())
    assert all(one["licenses"] for one in found.values())


def test_what_depends_on_what_leads_from_the_product_to_every_package(document: Document) -> None:
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in document["dependencies"]}
    waiting, reached = [document["metadata"]["component"]["bom-ref"]], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += edges[name]
    packages = {one["bom-ref"] for one in document["components"] if one["purl"].startswith("pkg:pypi/")}
    assert packages <= reached


def test_it_names_every_image_that_is_deployed() -> None:
    services = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
    named = {service["image"] for service in services.values()} - {"headgate:0.1.0"}
    found = {f"{one['name']}:{one['version']}" for one in image_components()}
    assert named < found
    assert {image.partition(":")[0] for image in found - named} == {"python"}


def test_it_names_what_the_console_carries_with_the_hash_of_its_file(document: Document) -> None:
    found = {one["bom-ref"]: one for one in document["components"]}
    vendored = list(vendored_components())
    assert len(vendored) == 3
    assert all(found[one["bom-ref"]] == one for one in vendored)
    assert {one["purl"] for one in vendored} == {"pkg:npm/preact@11.2.0", "pkg:npm/htm@3.1.1"}


def test_it_is_the_same_whenever_it_is_made(document: Document) -> None:
    assert bill_of_materials(sys.executable) == document


def test_what_the_product_does_not_need_is_left_out_with_what_leads_to_it() -> None:
    whole = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"name": "A_b", "bom-ref": "a"}, {"name": "tests", "bom-ref": "t"}],
        "dependencies": [
            {"ref": "root", "dependsOn": ["a", "t"]},
            {"ref": "a", "dependsOn": ["t"]},
            {"ref": "t", "dependsOn": ["a"]},
        ],
    }
    assert only(whole, {"a-b"}) == {
        **whole,
        "components": [{"name": "A_b", "bom-ref": "a"}],
        "dependencies": [{"ref": "root", "dependsOn": ["a"]}, {"ref": "a", "dependsOn": []}],
    }


def test_without_its_environment_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "sbom_environment_folder", lambda: tmp_path)
    with pytest.raises(SbomFailed, match="`make sbom` installs it"):
        bill_of_materials(sys.executable)


def test_a_document_that_is_not_valid_is_not_given_out(document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "of_environment", lambda python: document)
    monkeypatch.setattr(sbom, "image_components", lambda: [{"type": "image"}])
    with pytest.raises(SbomFailed, match=r"not valid CycloneDX 1\.6"):
        bill_of_materials(sys.executable)
