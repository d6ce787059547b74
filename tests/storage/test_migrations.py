"""The schema that the migrations make is the one of storage/tables.py, however often and by whomever they run."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from storage.database import Database, SchemaOutdated, head_revision, open_database, upgrade
from storage.tables import Base
from storage.views import VIEW_NAMES

UPGRADE = "import sys; from storage.database import upgrade; print(upgrade(sys.argv[1]))"


def test_an_upgrade_makes_every_table_and_view(database: Database) -> None:
    inspector = sqlalchemy.inspect(database.engine)
    assert set(inspector.get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    assert set(inspector.get_view_names()) == set(VIEW_NAMES)
    database.check()


def test_the_migrated_schema_is_the_models_schema(database: Database) -> None:
    with database.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_comparison_would_see_a_difference(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE duplicates ADD COLUMN surplus TEXT"))
        (difference,) = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert difference[0] == "remove_column"


def test_an_upgrade_of_an_upgraded_database_changes_nothing(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == head_revision()
    assert upgrade(empty_database_url) == head_revision()


def test_two_processes_may_upgrade_at_once(empty_database_url: str) -> None:
    def run(_: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-W", "error", "-c", UPGRADE, empty_database_url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as threads:
        ended = list(threads.map(run, range(2)))
    assert [(each.returncode, each.stdout.strip(), each.stderr) for each in ended] == [(0, head_revision(), "")] * 2
    database = open_database(empty_database_url)
    database.check()
    database.engine.dispose()


def test_a_database_without_the_schema_says_which_command_makes_it(empty_database_url: str) -> None:
    database = open_database(empty_database_url)
    with pytest.raises(SchemaOutdated, match=r"has schema nothing.*run `headgate db upgrade`"):
        database.check()
    database.engine.dispose()
