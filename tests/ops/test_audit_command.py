"""`headgate audit`, and the commands that write into it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import cli
from ops.terminal import cli_user
from storage.audit import AuditEntry, record_audit
from storage.database import Database, open_database
from storage.registry import ModelRegistry
from tests.storage.rows import NOON


@pytest.fixture
def database(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_DATABASE", sqlite_url)
    monkeypatch.setenv("HEADGATE_MODELS", str(tmp_path / "models"))
    return open_database(sqlite_url)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_promotion_rollback_and_shadow_by_command_are_written_down_with_who(database: Database, tmp_path: Path) -> None:
    registry = ModelRegistry(database, str(tmp_path / "models"))
    for _ in range(3):
        registry.register("fraud", "detector", b"x", feature_schema=1, metrics={}, clock=lambda: NOON)
    run("models", "promote", "fraud:1")
    run("models", "promote", "fraud:2", "--why", "finds more")
    run("models", "shadow", "fraud:3")
    run("models", "shadow", "--off")
    run("models", "rollback")
    found = json.loads(run("audit", "--json").splitlines()[-1])["entries"]
    assert [(entry["action"], entry["subject"]) for entry in found] == [
        ("model.rollback", "model:fraud:1"),
        ("model.end_shadow", "model:fraud:3"),
        ("model.shadow", "model:fraud:3"),
        ("model.promote", "model:fraud:2"),
        ("model.promote", "model:fraud:1"),
    ]
    assert {entry["who"] for entry in found} == {cli_user()}
    assert found[3]["detail"] == {"why": "finds more"}


def test_what_somebody_wrote_moves_no_cursor_of_who_reads_it(database: Database) -> None:
    with database.begin() as connection:
        record_audit(connection, AuditEntry("cli:anna", "x.y", "alert:\x1b[2J\u202ea", {"why": "a\nb"}, NOON))
    assert run("audit") == (
        "2026-03-14 12:00:00  cli:anna             x.y                  alert:\\x1b[2J\\u202ea  why='a\\nb'\n"
    )


def test_the_list_is_narrowed_by_who_and_what_and_by_number(database: Database) -> None:
    with database.begin() as connection:
        for number in range(6):
            record_audit(connection, AuditEntry(f"cli:{number % 2}", f"act.{number % 3}", str(number), {}, NOON))
    assert [line.split()[-1] for line in run("audit", "--limit", "2").splitlines()] == ["5", "4"]
    assert [line.split()[-1] for line in run("audit", "--who", "cli:0", "--action", "act.1").splitlines()] == ["4"]
