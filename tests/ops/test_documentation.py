"""The documentation and the code say the same: settings, commands, metrics, files and links."""

import re
from pathlib import Path

import pytest

from ops.documentation import COMMAND, DOCS, GENERATED, command_paths, commands, metrics, with_generated_part
from ops.settings import settings_table
from tests.ops.deploy.artefacts import COMING_COMMANDS, COMING_SETTINGS

ROOT = DOCS.parent
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
CODE = sorted(path for name in ("models", "ops", "storage", "streams") for path in ROOT.glob(f"{name}/**/*.py"))
OTHER = [ROOT / name for name in ("Makefile", "docker-compose.yml", ".ci/run", "pyproject.toml")]
#: Not settings: where tests find servers, and whether they must.
TEST_VARIABLES = {f"HEADGATE_{name}" for name in ("TEST_KAFKA", "TEST_DATABASE", "TEST_REDIS", "REQUIRE_SERVICES")}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_part_of_a_page_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()

    assert page == with_generated_part(page, GENERATED[name]()), f"docs/{name} is outdated; run: {COMMAND}"


def test_a_page_without_the_two_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        with_generated_part("# Settings\n", "anything")


def test_every_variable_that_is_named_anywhere_exists_and_is_on_the_settings_page() -> None:
    settings = {variable for variable, _, _ in settings_table()} | TEST_VARIABLES
    known = settings | COMING_SETTINGS
    found = {
        (name, named(path))
        for path in [*PAGES, *CODE, *OTHER]
        for name in re.findall(r"\bHEADGATE_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }

    assert {place for place in found if place[0] not in known} == set()
    assert settings <= set(re.findall(r"HEADGATE_[A-Z_]*[A-Z]", (DOCS / "settings.md").read_text()))


def test_every_command_that_is_named_anywhere_exists() -> None:
    leaves = set(command_paths()) | {f"headgate {name}" for name in COMING_COMMANDS}
    known = leaves | {path.rpartition(" ")[0] for path in leaves}
    # In backticks, or at the beginning of a line of a code block.
    pattern = re.compile(r"(?:`|^(?:#\s+)?|&& )(headgate [a-z][a-z-]*)( [a-z]+)?", re.MULTILINE)
    unknown = {
        (match.group().strip("`"), named(path))
        for path in [*PAGES, *CODE, *OTHER]
        if path.name != Path(__file__).name
        for match in pattern.finditer(path.read_text())
        if match[1] not in leaves and match[1] + (match[2] or "") not in known
    }

    assert unknown == set()


def test_every_option_in_the_readmes_commands_exists() -> None:
    lines = re.findall(r"^headgate [^#\n]*", (ROOT / "README.md").read_text(), re.MULTILINE)
    unknown = set()
    for line in lines:
        path = max((path for path in command_paths() if line.startswith(path)), key=len)
        _, _, rest = commands().partition(f"## {path}\n")
        known = set(re.findall(r"--[a-z-]+", rest.split("\n## ")[0]))
        unknown |= {(path, option) for option in re.findall(r"--[a-z-]+", line) if option not in known}

    assert len(lines) >= 5
    assert unknown == set()


def test_every_link_leads_somewhere() -> None:
    broken = {
        (target, named(page))
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not target.startswith("https://") and not exists(page, target)
    }

    assert broken == set()


def exists(page: Path, target: str) -> bool:
    """Whether a relative link leads to a file, and to one of its headings."""
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    if not path.is_file() or not anchor:  # a picture has no text to look into
        return path.is_file()
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_that_is_named_exists() -> None:
    pattern = re.compile(r"`((?:docs|models|ops|storage|streams|tests)/[\w./-]+\.\w+|pyproject\.toml)`")
    missing = {
        (name, named(page))
        for page in PAGES
        for name in pattern.findall(page.read_text())
        if not (ROOT / name).is_file()
    }

    assert missing == set()


def test_every_metric_in_the_advice_exists() -> None:
    page = (DOCS / "metrics.md").read_text()
    known = set(re.findall(r"^\| `(headgate_\w+)`", metrics(), re.MULTILINE))
    samples = {*known, *(f"{name}_{part}" for name in known for part in ("bucket", "sum", "count"))}

    assert set(re.findall(r"\bheadgate_\w+", page)) <= samples


def test_every_label_of_a_metric_is_explained() -> None:
    labels = {label for line in metrics().splitlines() for label in re.findall(r"`(\w+)`", line.split("|")[3])}
    _, _, rest = (DOCS / "metrics.md").read_text().partition("\n| label | values |\n")
    first_cells = [line.split("|")[1] for line in rest.split("\n\n")[0].splitlines()]

    assert labels == set(re.findall(r"`(\w+)`", "".join(first_cells)))
