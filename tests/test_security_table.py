"""docs/security.md promises a test for each defence: each must exist, under that name."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_security_page_names_exists() -> None:
    named = NAMED.findall((ROOT / "docs/security.md").read_text())
    missing = [f"{path}::{name}" for path, name in named if name not in _tests_of(ROOT / path)]
    assert missing == []


def test_every_row_of_the_security_page_names_a_test() -> None:
    rows = [
        line
        for line in (ROOT / "docs/security.md").read_text().splitlines()
        if line.startswith("|") and not line.startswith(("| threat", "|--", "| --", "|:", "| setting"))
    ]
    table = [row for row in rows if row.count("|") == 4]
    assert [row for row in table if not NAMED.search(row)] == []


def _tests_of(path: Path) -> set[str]:
    if not path.exists():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
