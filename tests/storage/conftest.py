"""A migrated database for each test, on SQLite and on PostgreSQL, and makers of rows."""

from pathlib import Path

import pytest

from storage.database import Database
from tests.storage.rows import RowMaker

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An existing database without any tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'headgate.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def rows(database: Database) -> RowMaker:
    return RowMaker(database)
