"""docs/sql.md says what is there: every query of the page runs, every table and column is on it. The queries of
docs/operations.md run too."""

import re
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import text

from storage.database import Database, open_database, upgrade
from storage.tables import Base
from storage.views import ANALYST_VIEWS, AUDIT_VIEW, READER_ROLE
from tests.storage.rows import RowMaker

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "sql.md").read_text()
OPERATIONS = (DOCS / "operations.md").read_text()


def blocks(page: str) -> list[str]:
    return re.findall(r"```sql\n(.*?)```", page, re.DOTALL)


def section(heading: str) -> str:
    level = heading.split(" ")[0]
    _, _, rest = PAGE.partition(f"\n{heading}\n")
    return re.split(rf"\n#{{2,{len(level)}}} ", rest)[0]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """Flagged and missed frauds, alerts of two models, slates of two policies, an item, a dead letter, a training, a
    drift."""
    upgrade(postgres_url)
    database = open_database(postgres_url)
    rows = RowMaker(database)
    for number, model in product((1, 2, 3), ("detector:1", "detector:2")):
        event_id = f"event-{number}" if model == "detector:1" else f"other-{number}"
        rows.scored(event_id, account_id=f"account-{number}", flagged=number < 3, model=model)
        rows.shadow(rows.prediction(f"seen by a shadow, {event_id}"))
        rows.alert(f"alert of {event_id}", [event_id], account_id=f"account-{number}", model=model)
    for policy in ("recommender:1", "random"):
        rows.slate(f"slate of {policy}", policy=policy)
        rows.engagement(f"answer to {policy}", recommendation_id=f"slate of {policy}")
    rows.label("f1", "fraud", event_id="event-1")
    rows.label("f2", "legitimate", event_id="event-2")
    rows.label("f3", "fraud", event_id="event-3")
    rows.dead_letter()
    rows.item("i1")
    rows.model("detector", 1, alias="champion")
    rows.training_run("detector", 1)
    rows.drift("amount")
    yield database
    database.engine.dispose()


def test_the_page_has_its_queries() -> None:
    assert len(blocks(section("## Queries"))) >= 8
    assert len(blocks(section("## For operators"))) >= 9
    assert len(blocks(OPERATIONS)) >= 12


@pytest.mark.parametrize("query", blocks(section("## Queries")))
def test_a_reader_gets_an_answer_to_each_query(database: Database, query: str) -> None:
    with database.reading() as connection:
        connection.execute(text(f"SET LOCAL ROLE {READER_ROLE}"))
        assert connection.exec_driver_sql(query).all() != []


def test_operators_find_no_broken_partition_what_was_given_up_and_the_dead_letter(database: Database) -> None:
    audit, given_up, refused, *_ = blocks(section("## For operators"))
    with database.reading() as connection:
        assert connection.exec_driver_sql(audit).all() == []
        (row,) = connection.exec_driver_sql(refused).all()
        assert (row.topic, row.error_code, row.records) == ("transactions", "invalid_json", 1)
    with database.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(
            "INSERT INTO stream_progress SELECT 1, 0, 't', 'u', 1, 'w', NULL, 0, 5, 3, 1, 0, 0, now()"
        )
        assert len(connection.exec_driver_sql(audit).all()) == 1
        connection.exec_driver_sql("UPDATE stream_progress SET lost = 1")
        assert connection.exec_driver_sql(audit).all() == []
        connection.exec_driver_sql("INSERT INTO accepted_losses VALUES (1, 0, 3, 4, now(), 'anna', 'too late')")
        (row,) = connection.exec_driver_sql(given_up).all()
        assert (row.topic, row.records, row.accepted_by, row.why) == ("t", 1, "anna", "too late")
        transaction.rollback()


@pytest.mark.parametrize("query", blocks(section("## For operators"))[3:])
def test_an_operator_gets_an_answer_to_each_further_query(database: Database, query: str) -> None:
    with database.reading() as connection:
        assert connection.exec_driver_sql(query).all() != []


@pytest.mark.parametrize("query", blocks(OPERATIONS))
def test_each_query_for_an_incident_runs(database: Database, query: str) -> None:
    with database.reading() as connection:
        assert connection.exec_driver_sql(query).returns_rows


def test_the_share_of_the_catalogue_that_is_shown_counts_items_once(database: Database) -> None:
    RowMaker(database, count(1000)).item("never shown")
    with database.reading() as connection:
        (row,) = connection.exec_driver_sql(blocks(section("## For operators"))[-1]).all()
    assert (row.available, row.shown, float(row.coverage)) == (2, 1, 0.5)


def test_the_role_can_be_granted_and_made_as_the_page_says(database: Database) -> None:
    grant, create = blocks(section("## The read-only role"))
    unique = re.sub(r"\W", "_", str(database.engine.url.database))
    with database.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(grant.replace("anna", f"anna_{unique}"))
        connection.exec_driver_sql(f"SET LOCAL ROLE anna_{unique}")
        assert connection.exec_driver_sql("SELECT count(*) FROM v_alerts").scalar() == 6
        transaction.rollback()
    with database.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(create.replace(READER_ROLE, f"reader_{unique}"))
        for view in ANALYST_VIEWS:
            allowed = text("SELECT has_table_privilege(:role, :view, 'SELECT')")
            assert connection.execute(allowed, {"role": f"reader_{unique}", "view": view}).scalar()
        transaction.rollback()


@pytest.mark.parametrize("view", [*ANALYST_VIEWS, AUDIT_VIEW])
def test_every_column_of_a_view_is_on_the_page(database: Database, view: str) -> None:
    described = re.findall(r"^\| `(\w+)` \|", section(f"### {view}"), re.MULTILINE)
    columns = sqlalchemy.inspect(database.engine).get_columns(view)
    assert described == [column["name"] for column in columns]


def test_every_table_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", section("## Tables"), re.MULTILINE)) == set(Base.metadata.tables)
