"""The console's pages hold together without a build step: imports exist, nothing needs another host or a looser
content security policy, and every address of the API that they name is one of its contract."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "ops" / "dashboard" / "static"
VENDOR = STATIC / "vendor"
SCRIPTS = sorted(STATIC.glob("**/*.js"))
OWN_SCRIPTS = [path for path in SCRIPTS if VENDOR not in path.parents]
STYLES = sorted(STATIC.glob("**/*.css"))
LICENCES = {"MIT": "Permission is hereby granted", "Apache 2.0": "Apache License"}

#: What the service answers pages with; {} is a part that varies.
ADDRESSES = {
    "/api/audit",
    "/api/alerts",
    "/api/alerts/budget",
    "/api/alerts/{}",
    "/api/coverage",
    "/api/dead-letters",
    "/api/dead-letters/{}/{}/{}",
    "/api/dead-letters/{}/{}/{}/replay",
    "/api/detection",
    "/api/drifts",
    "/api/feedback",
    "/api/items",
    "/api/items/{}",
    "/api/live",
    "/api/models",
    "/api/models/{}/rollback",
    "/api/models/{}/{}",
    "/api/models/{}/{}/promote",
    "/api/predictions",
    "/api/predictions/{}",
    "/api/recommendations/{}",
    "/api/rewards",
    "/api/runs",
    "/api/session",
    "/api/views",
}

IMPORT = re.compile(r"""(?:^|;)(?:import|export)\b[^;"'`=]*?\bfrom\s*["']([^"']+)["']""", re.MULTILINE)
NAMED_IMPORT = re.compile(r"""import \{([^}]*)\} from "([^"]+)";""")
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)|^export \{([^}]*)\}", re.MULTILINE)
TEXT = re.compile(r"""["'`](/api/[^"'`]*)["'`]""")
INTERPOLATION = re.compile(r"\$\{(?:[^{}]|\{[^{}]*\})*\}")


def named(path: Path) -> str:
    return str(path.relative_to(STATIC))


class Page(HTMLParser):
    """Elements with their attributes, and the text inside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inline: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "style") and data.strip():
            self.inline.append(data)


PAGE = Page((STATIC / "index.html").read_text())


def imports(path: Path) -> list[str]:
    return IMPORT.findall(path.read_text())


def exports(path: Path) -> set[str]:
    found: set[str] = set()
    for name, several in EXPORT.findall(path.read_text()):
        found |= {name} if name else {part.split(" as ")[-1].strip() for part in several.split(",")}
    return found


def without_comments(path: Path) -> str:
    return re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_every_module_that_is_imported_lies_beside_the_one_that_imports_it(path: Path) -> None:
    for address in imports(path):
        assert address.startswith("."), f"{address} is no relative address: browsers would not find it"
        assert (path.parent / address).resolve().is_relative_to(STATIC)
        assert (path.parent / address).is_file(), address


@pytest.mark.parametrize("path", OWN_SCRIPTS, ids=named)
def test_every_name_that_is_imported_is_exported_there(path: Path) -> None:
    for names, address in NAMED_IMPORT.findall(path.read_text()):
        asked = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
        target = path.parent / address
        known = exports(target) if target.parent != VENDOR else vendored_exports(target)
        assert asked <= known, f"{address} does not export {sorted(asked - known)}"


def vendored_exports(path: Path) -> set[str]:
    """Of a minified module: the last export, with its names."""
    (several,) = re.findall(r"export\{([^}]*)\}", path.read_text())
    return {part.split(" as ")[-1].strip() for part in several.split(",")}


def test_every_module_is_used() -> None:
    used = {(path.parent / address).resolve() for path in SCRIPTS for address in imports(path)}

    assert {path for path in SCRIPTS if path not in used} == {STATIC / "app.js"}


def test_the_page_names_only_files_of_its_own_that_exist() -> None:
    addresses = [attributes[name] for _, attributes in PAGE.elements for name in ("src", "href") if name in attributes]

    assert {"/static/app.js", "/static/icon.svg"} <= set(addresses)
    for address in addresses:
        assert address.startswith("/static/")
        assert (STATIC / address.removeprefix("/static/")).is_file(), address


def test_every_style_sheet_is_on_the_page() -> None:
    linked = {attributes["href"] for _, attributes in PAGE.elements if attributes.get("rel") == "stylesheet"}

    assert linked == {f"/static/{named(path)}" for path in STYLES}


def test_the_page_has_no_script_style_or_handler_of_its_own() -> None:
    assert PAGE.inline == []
    for tag, attributes in PAGE.elements:
        assert tag != "style"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
    assert all("src" in attributes for tag, attributes in PAGE.elements if tag == "script")


@pytest.mark.parametrize("path", OWN_SCRIPTS, ids=named)
def test_no_module_writes_markup_or_what_the_policy_forbids(path: Path) -> None:
    text = without_comments(path)

    for forbidden in (
        r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|srcdoc",
        r"\beval\b|new Function|setTimeout\(\s*[\"'`]|javascript:",
        r"""\bstyle=["']""",
        r"""\bon[a-z]+=["']""",
        r"cssText|createElement\(",
        r"document\.cookie",
    ):
        assert re.search(forbidden, text) is None, forbidden


@pytest.mark.parametrize("path", [*OWN_SCRIPTS, *STYLES, STATIC / "index.html"], ids=named)
def test_nothing_comes_from_another_host(path: Path) -> None:
    assert re.findall(r"""(?:https?:|wss?:)?//[\w.-]+\.\w+|@import|url\(""", without_comments(path)) == []


def test_pictures_that_are_not_files_name_no_other_host_but_the_one_of_their_format() -> None:
    assert set(re.findall(r"https?://[^\"]+", (STATIC / "icon.svg").read_text())) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_no_module_asks_for_a_source_map_that_is_not_there(path: Path) -> None:
    assert "sourceMappingURL" not in path.read_text()


def test_every_address_of_the_api_is_one_of_its_contract() -> None:
    found = {
        (INTERPOLATION.sub("{}", address), named(path))
        for path in OWN_SCRIPTS
        for address in TEXT.findall(path.read_text())
    }

    assert {place for place in found if place[0] not in ADDRESSES} == set()
    assert {address for address, _ in found} == ADDRESSES


def test_only_one_module_knows_addresses() -> None:
    assert [named(path) for path in OWN_SCRIPTS if TEXT.search(path.read_text())] == ["api.js"]


@pytest.mark.parametrize("path", [*OWN_SCRIPTS, *STYLES], ids=named)
def test_every_file_begins_with_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("// " if path.suffix == ".js" else "/* ")


def test_each_library_is_listed_with_version_and_a_licence_that_lies_beside_it() -> None:
    listed = dict(re.findall(r"^\| `([\w.]+\.js)` \|(.*)$", (VENDOR / "README.md").read_text(), re.MULTILINE))

    assert set(listed) == {path.name for path in VENDOR.glob("*.js")}
    for entry in listed.values():
        assert re.search(r"\| \d+\.\d+\.\d+ \|", entry)
        (licence, file), *_ = re.findall(r"([\w. ]+?) \(`(LICENSE-[\w.-]+)`\)", entry)
        assert LICENCES[licence.strip()] in (VENDOR / file).read_text()


def test_every_module_is_fetched_at_once_and_not_one_after_the_other() -> None:
    modules = {f"/static/{path.relative_to(STATIC).as_posix()}" for path in STATIC.rglob("*.js")} - {"/static/app.js"}
    preloaded = re.findall(r'<link rel="modulepreload" href="([^"]+)">', (STATIC / "index.html").read_text())
    assert sorted(preloaded) == sorted(modules)
