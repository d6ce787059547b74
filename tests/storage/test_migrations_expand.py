"""Migrations expand: what a worker of the release before reads and writes stays as it is (docs/operations.md)."""

import ast
from pathlib import Path

import pytest

MIGRATIONS = Path(__file__).parents[2] / "storage" / "migrations" / "versions"
#: From the first release on. The ones before were made while nobody ran Headgate.
FIRST = "0010"
TAKES_AWAY = {"drop_column", "drop_table", "rename_table", "alter_column"}


def faults(source: str) -> list[str]:
    """Calls that a worker of the release before would not survive."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in TAKES_AWAY:
            found.append(f"line {call.lineno}: {name}")
        if name == "add_column":
            found += [f"line {call.lineno}: a column that old rows and old writers lack" for _ in required(call)]
    return found


def required(add_column: ast.Call) -> list[ast.Call]:
    """Its columns that must have a value and have no default."""
    columns = [node for node in ast.walk(add_column) if isinstance(node, ast.Call) and node is not add_column]
    options = [{option.arg: option.value for option in column.keywords} for column in columns]
    return [
        column
        for column, given in zip(columns, options, strict=True)
        if isinstance(given.get("nullable"), ast.Constant)
        and given["nullable"].value is False
        and "server_default" not in given
    ]


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ('op.add_column("t", sa.Column("c", sa.Text(), nullable=True))', True),
        ('op.add_column("t", sa.Column("c", sa.Text(), nullable=False, server_default="0"))', True),
        ('op.create_table("t", sa.Column("c", sa.Text(), nullable=False))', True),
        ('op.add_column("t", sa.Column("c", sa.Text(), nullable=False))', False),
        ('op.drop_column("t", "c")', False),
        ('op.rename_table("t", "u")', False),
    ],
)
def test_what_takes_something_away_is_seen(line: str, allowed: bool) -> None:
    assert (faults(line) == []) is allowed


def test_no_migration_takes_away_what_the_release_before_needs() -> None:
    later = sorted(path for path in MIGRATIONS.glob("0*.py") if path.name >= FIRST)

    assert {path.name: faults(path.read_text()) for path in later if faults(path.read_text())} == {}
