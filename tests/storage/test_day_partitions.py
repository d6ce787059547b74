"""Each day gets its partition ahead of time; a row that comes without one is stored all the same."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from storage.database import Database, open_database, upgrade
from storage.day_partitions import (
    DAYS_AHEAD,
    LONGEST_PAUSE,
    PARTITIONED,
    DayPartition,
    ensure_days,
    missing_days,
    partitions_of,
)
from storage.tables import Base, LogKey
from tests.storage.days import ONE_DAY, day_of_schema
from tests.storage.rows import RowMaker

DAYS = st.dates(date(2026, 1, 1), date(2027, 12, 31))


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    yield database
    database.engine.dispose()


@pytest.fixture
def today(database: Database) -> date:
    return day_of_schema(database)


@pytest.fixture
def rows(database: Database) -> RowMaker:
    return RowMaker(database)


def transaction_days(database: Database) -> dict[str, list[date]]:
    """Partition -> the days of its rows."""
    found: dict[str, list[date]] = {}
    with database.reading() as connection:
        for row in connection.execute(
            text("SELECT tableoid::regclass::text AS name, day FROM transactions ORDER BY day")
        ):
            found.setdefault(row.name, []).append(row.day)
    return found


def partition_ends(connection: Connection, table: str) -> list[tuple[date | None, date | None]]:
    return [(partition.first, partition.end) for partition in partitions_of(connection, table)]


def test_all_tables_by_log_key_are_partitioned() -> None:
    by_log_key = {mapper.class_.__tablename__ for mapper in Base.registry.mappers if issubclass(mapper.class_, LogKey)}
    assert set(PARTITIONED) == by_log_key


@given(today=DAYS, ends=st.lists(DAYS, max_size=3), ahead=st.integers(0, 9))
def test_days_that_are_missing_go_on_where_partitions_end(today: date, ends: Sequence[date], ahead: int) -> None:
    there = [DayPartition("t", "t_1", None, end) for end in ends] + [DayPartition("t", "t_default", None, None)]
    ranges = missing_days(there, today, ahead)
    covered = max(ends, default=today)
    for first, end in ranges:
        assert first == covered < end
        assert end - first == ONE_DAY or (end == today and end - first > LONGEST_PAUSE * ONE_DAY)
        covered = end
    assert covered > today + ahead * ONE_DAY
    assert missing_days([DayPartition("t", "t_1", None, covered)], today, ahead) == []


def test_today_and_the_days_ahead_get_partitions_once(database: Database, rows: RowMaker, today: date) -> None:
    made = ensure_days(database, today)
    assert len(made) == DAYS_AHEAD * len(PARTITIONED)  # today is still covered by what was there before
    assert ensure_days(database, today) == []
    with database.reading() as connection:
        for table in PARTITIONED:
            days = [today + ahead * ONE_DAY for ahead in range(1, DAYS_AHEAD + 1)]
            expected = [(None, days[0]), *((day, day + ONE_DAY) for day in days), (None, None)]
            assert partition_ends(connection, table) == expected
    for day in (today - 400 * ONE_DAY, today, today + ONE_DAY, today + 30 * ONE_DAY):
        rows.transaction(f"event of {day}", day=day)
    assert transaction_days(database) == {
        "transactions_before": [today - 400 * ONE_DAY, today],
        f"transactions_{today + ONE_DAY:%Y%m%d}": [today + ONE_DAY],
        "transactions_default": [today + 30 * ONE_DAY],
    }


def test_a_partition_has_the_tables_indexes(database: Database, today: date) -> None:
    ensure_days(database, today)
    inspector = sqlalchemy.inspect(database.engine)
    for table in PARTITIONED:
        parent, child = (
            sorted(
                (tuple(index["column_names"]), index.get("dialect_options", {}).get("postgresql_using"))
                for index in inspector.get_indexes(name)
            )
            for name in (table, f"{table}_{today + ONE_DAY:%Y%m%d}")
        )
        assert parent == child
        key = inspector.get_pk_constraint(table)["constrained_columns"]
        assert key == inspector.get_pk_constraint(f"{table}_{today + ONE_DAY:%Y%m%d}")["constrained_columns"] != []


def test_rows_that_came_before_their_day_had_a_partition_move_into_it(
    database: Database, rows: RowMaker, today: date
) -> None:
    rows.transaction("early", day=today + 3 * ONE_DAY)
    rows.transaction("much too early", day=today + 900 * ONE_DAY)
    assert list(transaction_days(database)) == ["transactions_default"]
    ensure_days(database, today)
    assert transaction_days(database) == {
        f"transactions_{today + 3 * ONE_DAY:%Y%m%d}": [today + 3 * ONE_DAY],
        "transactions_default": [today + 900 * ONE_DAY],
    }


def test_a_day_with_too_many_rows_stays_where_it_is(
    database: Database, rows: RowMaker, monkeypatch: pytest.MonkeyPatch, today: date
) -> None:
    monkeypatch.setattr("storage.day_partitions.MOST_MOVED", 1)
    for number in range(2):
        rows.transaction(f"e{number}", day=today + 3 * ONE_DAY)
    made = ensure_days(database, today)
    assert len(made) == DAYS_AHEAD * len(PARTITIONED) - 1
    assert transaction_days(database) == {"transactions_default": [today + 3 * ONE_DAY] * 2}
    assert ensure_days(database, today) == []


def test_a_long_pause_is_one_partition(database: Database, today: date) -> None:
    later = today + 200 * ONE_DAY
    ensure_days(database, later)
    with database.reading() as connection:
        ends = partition_ends(connection, "predictions")
    assert ends[1] == (today + ONE_DAY, later)
    assert len(ends) == 2 + DAYS_AHEAD + 1 + 1


def test_workers_that_make_partitions_at_once_do_not_disturb_each_other(database: Database, today: date) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = [name for some in threads.map(lambda _: ensure_days(database, today), range(4)) for name in some]
    made += ensure_days(database, today)
    assert len(made) == len(set(made)) == DAYS_AHEAD * len(PARTITIONED)


def test_a_table_that_somebody_reads_for_long_gets_its_days_later(
    database: Database, rows: RowMaker, today: date
) -> None:
    with database.begin() as reader:
        reader.execute(text("SELECT count(*) FROM transactions"))
        made = ensure_days(database, today)
        rows.transaction("tomorrow's", day=today + ONE_DAY)
    assert not any(name.startswith("transactions_") for name in made)
    assert len(made) == DAYS_AHEAD * (len(PARTITIONED) - 1)
    assert len(ensure_days(database, today)) == DAYS_AHEAD
    assert transaction_days(database) == {f"transactions_{today + ONE_DAY:%Y%m%d}": [today + ONE_DAY]}


def test_a_worker_that_may_not_change_the_schema_goes_on_without_partitions(
    database: Database, rows: RowMaker, today: date
) -> None:
    with database.begin() as connection:
        for statement in ("CREATE ROLE {role} NOLOGIN", "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"):
            connection.execute(text(statement.format(role=f"worker_of_{database.engine.url.database}")))
    limited = database.engine.url.update_query_dict({"options": f"-c role=worker_of_{database.engine.url.database}"})
    engine = sqlalchemy.create_engine(limited)
    try:
        assert ensure_days(Database(engine), today) == []
    finally:
        engine.dispose()
        with database.begin() as connection:
            connection.execute(text(f"DROP OWNED BY worker_of_{database.engine.url.database}"))
            connection.execute(text(f"DROP ROLE worker_of_{database.engine.url.database}"))


def test_sqlite_has_plain_tables(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'headgate.sqlite'}")
    database = open_database(f"sqlite:///{tmp_path / 'headgate.sqlite'}")
    assert ensure_days(database, date(2026, 3, 1)) == []
    with database.reading() as connection:
        assert partitions_of(connection, "transactions") == []


def files_of(connection: Connection) -> dict[str, int]:
    """Relation -> where its data lies, without the tables' and indexes' own names: a rewrite would move it."""
    rows = connection.execute(
        text(
            "SELECT relname, relfilenode FROM pg_class "
            "WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace"
        )
    )
    return {row.relname.replace("_before", ""): row.relfilenode for row in rows if not row.relname.endswith("default")}


def test_tables_with_rows_become_partitions_without_being_rewritten(postgres_url: str) -> None:
    upgrade(postgres_url, "0006")
    database = open_database(postgres_url)
    rows = RowMaker(database)
    with database.reading() as connection:
        today = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    days = [today - 40 * ONE_DAY, today, today + 2 * ONE_DAY]
    for day in days:
        rows.scored(f"event of {day}", day=day)
        rows.slate(f"slate of {day}", day=day)
        rows.engagement(f"answer of {day}", day=day, recommendation_id=f"slate of {day}")
    hot = [f"{table}{suffix}" for table in PARTITIONED for suffix in ("", "_pkey")]
    with database.begin() as connection:
        views = {
            name: connection.execute(text(f"SELECT * FROM {name}")).all() for name in ("v_predictions", "slate_answers")
        }
        before = {name: file for name, file in files_of(connection).items() if name in hot or name.startswith("ix_")}
    upgrade(postgres_url)
    ensure_days(database, today)
    with database.begin() as connection:
        after = files_of(connection)
        del before["ix_predictions_event_id"]  # which a later version has no use for
        assert {name: after[name] for name in before} == before
        for name, expected in views.items():
            assert sorted(connection.execute(text(f"SELECT * FROM {name}")).all()) == sorted(expected) != []
    assert transaction_days(database) == {
        "transactions_before": days[:2],
        f"transactions_{days[2]:%Y%m%d}": days[2:],
    }
    rows.scored("event of tomorrow", day=today + ONE_DAY)
    with database.begin() as connection:
        assert len(connection.execute(text("SELECT * FROM v_predictions")).all()) == 4
    database.engine.dispose()
