"""What the flow reads of the hot tables opens the partitions of the days that matter, and misses no row."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from storage.alert_history import stored_transactions_at
from storage.database import Database, open_database, upgrade
from storage.day_partitions import days_from, ensure_days
from storage.engagement_history import stored_engagements, stored_slates
from storage.outbox import predictions_after, recommendations_after
from storage.policy_data import logged_engagements, logged_slates, policy_cut
from storage.score_sketches import predictions_between
from storage.tables import Base, Transaction
from storage.training_data import history_cut, labelled_transactions, stored_transactions
from tests.storage.rows import RowMaker

ONE_DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()
#: Rows of each table: two a day, at offsets that count up. Those of the days after today are in partitions of a day.
DAYS = [TODAY + ahead * ONE_DAY for ahead in range(-5, 8)]
LAST = 2 * len(DAYS)
#: The first offset of the day before the last.
RECENT = LAST - 4
PLACE = {"topic_generation": 1, "partition": 0}


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    upgrade(postgres_url)
    database = open_database(postgres_url)
    ensure_days(database, TODAY)
    rows = RowMaker(database)
    for number, day in enumerate(sorted(DAYS * 2)):
        place = {"day": day, "source_offset": number}
        rows.scored(f"event-{number}", occurred_at=noon(day), **place)
        rows.slate(f"slate-{number}", ["i1"], occurred_at=noon(day), made_at=noon(day), **place)
        rows.engagement(f"answer-{number}", occurred_at=noon(day), recommendation_id=f"slate-{number}", **place)
    yield database
    database.engine.dispose()


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def since(connection: Connection, read: Callable[..., Any], cut: Callable[..., Any], **more: Any) -> int:
    """How many rows a training reads from the day before the last on."""
    found = read(connection, since=noon(DAYS[-2]), cut=cut(connection, noon(DAYS[-1]) + ONE_DAY), **more)
    return sum(len(getattr(one, "label", one)) for one in found)


#: What is read, how many rows of it, on how many days, the newest, they may lie, and in which other partitions.
READS: dict[str, tuple[Callable[[Connection], int], int, int, set[str]]] = {
    "relay, slates": (lambda c: len(recommendations_after(c, 1, 0, RECENT, 100)), 4, 2, set()),
    "relay, predictions": (lambda c: len(predictions_after(c, 1, 0, RECENT, 100)), 4, 8, {"before"}),
    "recount": (lambda c: len(predictions_between(c, 1, 0, RECENT, LAST)["detector:1"].score), 4, 2, set()),
    "fold, transactions": (
        lambda c: sum(map(len, stored_transactions(c, **PLACE, from_offset=RECENT, before_offset=LAST))),
        4,
        2,
        set(),
    ),
    "fold, engagements": (
        lambda c: sum(map(len, stored_engagements(c, **PLACE, from_offset=RECENT, before_offset=LAST))),
        4,
        2,
        set(),
    ),
    "fold, slates": (
        lambda c: sum(len(one.user_id) for one in stored_slates(c, **PLACE, from_offset=RECENT, before_offset=LAST)),
        4,
        2,
        set(),
    ),
    "timeline": (
        lambda c: len(stored_transactions_at(c, 1, 0, [((DAYS[-2] - date(1970, 1, 1)).days, RECENT)])),
        1,
        2,
        set(),
    ),
    "training, transactions": (lambda c: since(c, labelled_transactions, history_cut), 4, 3, {"default"}),
    "training, engagements": (lambda c: since(c, logged_engagements, policy_cut), 4, 3, {"default"}),
    "training, slates": (lambda c: since(c, logged_slates, policy_cut, reward_window=ONE_DAY), 4, 3, {"default"}),
}


def statements_of(database: Database, read: Callable[[Connection], Any]) -> list[tuple[str, Any]]:
    """The statements of a read, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _k: Any, statement: str, values: Any, _x: Any, _m: Any) -> None:
        statements.append((statement, values))

    with database.begin() as connection:
        event.listen(database.engine, "before_cursor_execute", note)
        try:
            read(connection)
        finally:
            event.remove(database.engine, "before_cursor_execute", note)
    return statements


def partitions_in_plans(database: Database, read: Callable[[Connection], int]) -> tuple[int, list[set[str]]]:
    """What the read gives, and the partitions that the plan of each of its statements names."""
    found: list[int] = []
    statements = statements_of(database, lambda connection: found.append(read(connection)))
    plans = []
    with database.begin() as connection:
        for statement, values in statements:
            if statement.lstrip().startswith(("SELECT", "WITH")):
                lines = connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars()
                plans.append(set(re.findall(r" on (\w+_(?:\d{8}|before|default))\b", "\n".join(lines))))
    return found[0], plans


@pytest.mark.parametrize("what", READS)
def test_a_read_of_the_newest_rows_opens_no_partition_of_the_days_before(database: Database, what: str) -> None:
    read, expected, reach, others = READS[what]
    found, plans = partitions_in_plans(database, read)
    assert found == expected
    # An item of a slate is looked up in the partition of the slate's day, which is known only then.
    tables = ("transactions", "predictions", "engagements", "recommendations")
    opened = {name.rsplit("_", 1)[1] for name in plans[-1] if name.startswith(tables)}
    assert opened <= {f"{day:%Y%m%d}" for day in DAYS[-reach:]} | others
    assert opened != set()


def test_a_timeline_reads_its_own_rows_alone_though_the_day_s_table_was_never_analysed(database: Database) -> None:
    rows, day = RowMaker(database), DAYS[-1]
    for number in range(LAST, LAST + 300):
        rows.scored(f"event-{number}", occurred_at=noon(day), day=day, source_offset=number)
    wanted = [((day - date(1970, 1, 1)).days, LAST + number) for number in range(0, 300, 20)]
    statements = statements_of(database, lambda connection: stored_transactions_at(connection, 1, 0, wanted))
    with database.begin() as connection:
        ((statement, values),) = statements
        lines = list(connection.exec_driver_sql(f"EXPLAIN ANALYZE {statement}", values).scalars())
    scans = re.findall(r" on (?:transactions|predictions)_\d{8} .*actual .*rows=(\d+) loops=(\d+)", "\n".join(lines))
    assert sum(int(count) * int(loops) for count, loops in scans) == 2 * len(wanted), "\n".join(lines)


def test_a_prediction_is_found_by_its_event_by_way_of_the_key_that_it_shares_with_its_transaction(
    database: Database,
) -> None:
    RowMaker(database).scored("seed", occurred_at=noon(DAYS[-1]), day=DAYS[-1], source_offset=LAST)
    with database.begin() as connection:
        for table in ("transactions", "predictions"):
            columns = [column.name for column in Base.metadata.tables[table].c]
            others = {"event_id": "event_id || n", "source_offset": "source_offset + n"}
            values = ", ".join(others.get(column, column) for column in columns)
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, generate_series(1, 20000) n "
                "WHERE event_id = 'seed'"
            )
        connection.exec_driver_sql("ANALYZE transactions, predictions")
        wanted = "SELECT score FROM v_predictions WHERE event_id = 'seed7000'"
        lines = list(connection.exec_driver_sql(f"EXPLAIN ANALYZE {wanted}").scalars())
    day = f"{DAYS[-1]:%Y%m%d}"
    scans = re.findall(rf" on (?:transactions|predictions)_{day} .*actual .*rows=(\d+) loops=(\d+)", "\n".join(lines))
    assert sum(int(count) * int(loops) for count, loops in scans) == 2, "\n".join(lines)


def test_late_rows_of_old_days_are_found_from_their_offset_on(database: Database) -> None:
    rows = RowMaker(database)
    rows.transaction("late", day=DAYS[0], source_offset=LAST)
    rows.transaction("early", day=TODAY + 500 * ONE_DAY, source_offset=LAST + 1)
    rows.transaction("elsewhere", day=DAYS[1], source_offset=LAST, source_partition=1)
    with database.reading() as connection:
        assert sorted(days_from(connection, Transaction, 1, 0, LAST - 1)) == [DAYS[0], DAYS[-1], TODAY + 500 * ONE_DAY]
        assert days_from(connection, Transaction, 1, 0, LAST + 2) == []
        assert sorted(days_from(connection, Transaction, 1, 0, 0)) == [*DAYS, TODAY + 500 * ONE_DAY]
        read = stored_transactions(connection, **PLACE, from_offset=LAST, before_offset=LAST + 2)
        assert [name for one in read for name in one.event_id] == ["late", "early"]
