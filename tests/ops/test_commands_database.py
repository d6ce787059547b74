"""`headgate db`: the schema and its roles by command, as often as one likes, with one line where it cannot be."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from ops.cli import cli
from storage.database import DatabaseRefused, open_database
from storage.database_roles import MIGRATOR_ROLE, ROLES, WRITER_ROLE
from tests.roles import PASSWORD, roles_of


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def users(postgres_url: str) -> Iterator[dict[str, str]]:
    with roles_of(postgres_url) as urls:
        yield urls


def headgate(database: str, *arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments), env={"HEADGATE_DATABASE": database})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_an_administrator_makes_the_roles_again_and_again(postgres_url: str) -> None:
    assert headgate(postgres_url, "db", "upgrade").startswith("schema is at ")
    first = headgate(postgres_url, "db", "roles")
    assert [line.split()[0] for line in first.splitlines()[:3]] == list(ROLES)
    assert headgate(postgres_url, "db", "roles") == first
    assert json.loads(headgate(postgres_url, "db", "roles", "--json").splitlines()[-1]) == {"roles": ROLES}
    database = open_database(postgres_url)
    with database.reading() as connection:
        owners = connection.execute(text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        assert owners.scalars().all() == [MIGRATOR_ROLE]
        without = text("SELECT count(*) FROM pg_authid WHERE rolname = ANY(:roles) AND rolpassword IS NULL")
        assert connection.execute(without, {"roles": list(ROLES)}).scalar() == len(ROLES)
    database.engine.dispose()


def test_a_migrator_upgrades_with_days_and_a_writer_may_neither_upgrade_nor_make_roles(users: dict[str, str]) -> None:
    assert "partitions were made" in headgate(users[MIGRATOR_ROLE], "db", "upgrade")
    for command in ("upgrade", "roles"):
        with pytest.raises(DatabaseRefused) as caught:
            headgate(users[WRITER_ROLE], "db", command)
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)


def test_sqlite_has_no_roles_and_says_so(tmp_path: Path) -> None:
    assert "has no roles" in headgate(f"sqlite:///{tmp_path / 'headgate.sqlite'}", "db", "roles")
