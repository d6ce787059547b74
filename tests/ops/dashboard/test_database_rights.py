"""The console works as the writer, and says in one line what a user with fewer rights lacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.clock import utc_now
from storage.database import open_database, upgrade
from storage.database_roles import WRITER_ROLE
from storage.registry import ModelRegistry
from storage.views import READER_ROLE
from tests.ops.dashboard.conftest import StartConsole
from tests.roles import PASSWORD, roles_of
from tests.storage.rows import RowMaker


@pytest.fixture
def database_url(postgres_url: str) -> str:
    upgrade(postgres_url)
    return postgres_url


@pytest.fixture
def users(database_url: str, rows: RowMaker) -> Iterator[dict[str, str]]:
    rows.scored("e1")
    rows.alert("a1", ["e1"])
    with roles_of(database_url) as urls:
        yield urls


#: What reads SQL, with the ids of the rows above.
PAGES = [
    "/api/alerts",
    "/api/alerts/budget",
    "/api/alerts/a1",
    "/api/predictions",
    "/api/predictions/e1",
    "/api/detection",
    "/api/drifts",
    "/api/views",
    "/api/dead-letters",
    "/api/models",
    "/api/models/fraud/1",
    "/api/runs",
    "/api/rewards",
    "/api/items",
    "/api/coverage",
    "/api/status",
]


def register(database_url: str, folder: Path) -> None:
    """Two versions; the second is champion."""
    database = open_database(database_url)
    registry = ModelRegistry(database, str(folder))
    for version in (1, 2):
        registry.register("fraud", "detector", b"weights", feature_schema=1, metrics={}, clock=utc_now)
        registry.promote("fraud", version, "finds more", utc_now)
    database.engine.dispose()


def test_a_console_as_writer_reads_everything_and_changes_the_champion(
    start_console: StartConsole, database_url: str, users: dict[str, str], tmp_path: Path
) -> None:
    register(database_url, tmp_path / "models")
    console = start_console(users[WRITER_ROLE])
    for page in PAGES:
        console.get(page)
    assert console.post("/api/models/fraud/rollback", {"why": "it alerts too much"})


def test_a_console_with_the_readers_rights_is_refused_in_one_line(
    start_console: StartConsole, users: dict[str, str]
) -> None:
    problem = start_console(users[READER_ROLE]).error("/api/alerts", 503)

    assert "permission denied for table" in problem["message"]
    assert "`headgate db roles`" in problem["message"]
    assert "\n" not in problem["message"]
    assert PASSWORD not in problem["message"]
