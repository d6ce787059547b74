"""A migrated database for each test, on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from storage.database import Database, open_database, upgrade

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.service)]


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
