"""The schema that the migrations make is the one of storage/tables.py, however often and by whomever they run."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from storage.database import Database, SchemaOutdated, head_revision, open_database, upgrade
from storage.day_partitions import PARTITIONED, partitions_of
from storage.tables import Base
from storage.views import VIEW_NAMES

UPGRADE = "import sys; from storage.database import upgrade; print(upgrade(sys.argv[1]))"


def partition_names(database: Database) -> set[str]:
    with database.reading() as connection:
        return {partition.name for table in PARTITIONED for partition in partitions_of(connection, table)}


def test_an_upgrade_makes_every_table_and_view(database: Database) -> None:
    inspector = sqlalchemy.inspect(database.engine)
    partitions = partition_names(database)
    assert set(inspector.get_table_names()) - partitions == {*Base.metadata.tables, "alembic_version"}
    assert set(inspector.get_view_names()) == set(VIEW_NAMES)
    database.check()


def differences(database: Database, *changes: str) -> list[Any]:
    """Between the database's schema, changed, and the models'; partitions are no tables of their own."""
    partitions = partition_names(database)
    options = {
        "compare_server_default": True,
        "include_name": lambda name, kind, _: not (kind == "table" and name in partitions),
    }
    with database.begin() as connection:
        for change in changes:
            connection.execute(sqlalchemy.text(change))
        return compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)


def test_the_migrated_schema_is_the_models_schema(database: Database) -> None:
    assert differences(database) == []


def test_the_comparison_would_see_a_difference(database: Database) -> None:
    (difference,) = differences(database, "ALTER TABLE duplicates ADD COLUMN surplus TEXT")
    assert difference[0] == "remove_column"


def test_an_upgrade_of_an_upgraded_database_changes_nothing(empty_database_url: str) -> None:
    assert upgrade(empty_database_url) == head_revision()
    assert upgrade(empty_database_url) == head_revision()


@pytest.mark.slow
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
