"""The documentation and the code say the same: settings, commands, metrics, views, files and links."""

import re
from pathlib import Path

import pytest
import sqlalchemy

from ops.documentation import COMMAND, DOCS, GENERATED, command_paths, commands, metrics, with_generated_part
from ops.secret_files import FILE_SUFFIX
from ops.settings import secret_names, settings_table, variable
from storage.database import open_database, upgrade
from storage.views import ANALYST_VIEWS, AUDIT_VIEW

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
    files = {f"{variable(name)}{FILE_SUFFIX}" for name in secret_names()}
    settings = {name for name, _, _ in settings_table()} | files | TEST_VARIABLES
    found = {
        (name, named(path))
        for path in [*PAGES, *CODE, *OTHER]
        for name in re.findall(r"\bHEADGATE_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }

    assert {place for place in found if place[0] not in settings} == set()
    assert settings <= set(re.findall(r"HEADGATE_[A-Z_]*[A-Z]", (DOCS / "settings.md").read_text()))


def test_every_command_that_is_named_anywhere_exists() -> None:
    leaves = set(command_paths())
    known = leaves | {path.rpartition(" ")[0] for path in leaves}
    # In backticks, or at the beginning of a line of a code block.
    pattern = re.compile(r"(?:`|^(?:#\s+)?|&& )(headgate [a-z][a-z-]*)( [a-z][a-z-]*)?", re.MULTILINE)
    unknown = {
        (match.group().strip("`"), named(path))
        for path in [*PAGES, *CODE, *OTHER]
        if path.name != Path(__file__).name
        for match in pattern.finditer(path.read_text())
        if match[1] not in leaves and match[1] + (match[2] or "") not in known
    }

    assert unknown == set()


def options_in(page: Path) -> list[tuple[str, str]]:
    """(command, option) of the command lines in a page's blocks of code."""
    blocks = "".join(re.findall(r"^```\w+\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^headgate [^#\n]*", blocks.replace("\\\n", " "), re.MULTILINE)
    found = []
    for line in lines:
        command = max((path for path in command_paths() if f"{line} ".startswith(f"{path} ")), key=len)
        found += [(command, option) for option in re.findall(r"(?<= )--[a-z-]+", line)]
    return found


def test_every_option_in_a_pages_command_lines_exists() -> None:
    help_texts = dict(re.findall(r"^## (headgate [^\n]+)\n\n```text\n(.*?)^```", commands(), re.DOTALL | re.MULTILINE))
    known = {command: set(re.findall(r"--[a-z-]+", help_text)) for command, help_text in help_texts.items()}
    unknown = {
        (command, option, named(page))
        for page in PAGES
        for command, option in options_in(page)
        if option not in known[command]
    }

    assert len(options_in(ROOT / "README.md")) >= 5
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


def test_every_metric_that_the_code_makes_is_on_the_metrics_page() -> None:
    page = (DOCS / "metrics.md").read_text()
    pattern = re.compile(r'\b(Counter|Gauge|Histogram|Summary)\(\s*"(headgate_\w+)"')
    made = {
        f"{name.removesuffix('_total')}_total" if kind == "Counter" else name
        for path in CODE
        for kind, name in pattern.findall(path.read_text())
    }

    assert len(made) >= 40
    assert {name for name in made if f"| `{name}` |" not in page} == set()


VIEWS = sorted(path.stem for path in (ROOT / "storage" / "views").glob("*.sql"))


def is_internal(view: str) -> bool:
    """Whether the comment at the top of a view's file says so."""
    return "Internal." in (ROOT / "storage" / "views" / f"{view}.sql").read_text().partition("CREATE VIEW")[0]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> sqlalchemy.Inspector:
    url = f"sqlite:///{tmp_path_factory.mktemp('schema')}/headgate.db"
    upgrade(url)
    return sqlalchemy.inspect(open_database(url).engine)


@pytest.mark.parametrize("view", [view for view in VIEWS if not is_internal(view)])
def test_every_view_for_users_is_on_the_sql_page_with_its_columns(view: str, schema: sqlalchemy.Inspector) -> None:
    _, heading, rest = (DOCS / "sql.md").read_text().partition(f"\n### {view}\n")
    described = re.findall(r"^\| `(\w+)` \|", rest.partition("\n## ")[0].partition("\n### ")[0], re.MULTILINE)

    assert heading
    assert described == [column["name"] for column in schema.get_columns(view)]
    assert view in (*ANALYST_VIEWS, AUDIT_VIEW)


def test_views_that_users_may_read_are_not_called_internal() -> None:
    assert {view for view in VIEWS if not is_internal(view)} == {*ANALYST_VIEWS, AUDIT_VIEW}


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    files = [*DOCS.glob("*.md"), DOCS / "asyncapi.json"]

    assert {path.name for path in files if path.name != "README.md" and f"]({path.name})" not in index} == set()
