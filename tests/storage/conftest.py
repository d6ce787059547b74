"""A migrated database for each test, on SQLite and on PostgreSQL, and makers of rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database, open_database, upgrade
from tests.storage.rows import RowMaker

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An existing database without any tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=BOTH)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        upgrade(url)
    else:
        url = request.getfixturevalue("sqlite_url")
    database = open_database(url)
    yield database
    database.engine.dispose()


@pytest.fixture
def rows(database: Database) -> RowMaker:
    return RowMaker(database)
