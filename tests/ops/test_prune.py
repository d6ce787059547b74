"""Pruning removes old days, and none that recovery, labels, the relay or training still need."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, insert, select, text

from ops.jobs.prune import Pruned, RetentionRules, in_words, run_prune
from storage import tables
from storage.cold_states import write_cold_states
from storage.database import Database, open_database, upgrade
from storage.database_roles import MIGRATOR_ROLE
from storage.day_partitions import PARTITIONED, ensure_days, partitions_of
from storage.exclusive import AlreadyRunning, exclusively
from storage.partition_counts import rescale, settle_count
from storage.progress import Advance, Claim, advance, claim_cursor, claim_partitions, latest_control
from storage.retention import PAUSE_SECONDS, PRUNED_CONTROL, TABLES, Removed, remove_days
from storage.snapshots import Manifest, SegmentRef, SnapshotFiles, latest_snapshots, publish_snapshot, segment_name
from storage.training_data import stored_transactions
from tests.roles import roles_of
from tests.storage.days import day_of_schema
from tests.storage.rows import RowMaker

ONE_DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()
NOW = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
#: Ten days with a row each, at offsets 0 to 9; those before the third are older than they are kept.
DAYS = [TODAY - back * ONE_DAY for back in range(9, -1, -1)]
RULES = RetentionRules(7 * ONE_DAY, {"transactions": ONE_DAY, "engagements": ONE_DAY})
OLD = 2
IN_POSTGRES = ("in partitions of a day", "in partitions of more days", "as the migrator")


@pytest.fixture(params=["sqlite", *(pytest.param(way, marks=pytest.mark.service) for way in IN_POSTGRES)])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Ten days of both topics, with all that lets the first of them go."""
    if request.param == "sqlite":
        url = request.getfixturevalue("sqlite_url")
    else:
        url = request.getfixturevalue("postgres_url")
        upgrade(url)
    database = open_database(url)
    if request.param == "in partitions of a day":
        with database.begin() as connection:
            for table in (name for names in TABLES.values() for name in names):
                connection.execute(text(f"DROP TABLE {table}_before"))
        ensure_days(database, DAYS[0])
        ensure_days(database, TODAY)
    with ExitStack() as cleanup:
        if request.param == "as the migrator":
            database.engine.dispose()
            database = open_database(cleanup.enter_context(roles_of(url))[MIGRATOR_ROLE])
        _fill(database)
        yield database
        database.engine.dispose()


def _fill(database: Database) -> None:
    rows = RowMaker(database)
    for offset, day in enumerate(DAYS):
        place = {"day": day, "source_offset": offset, "occurred_at": NOW - (9 - offset) * ONE_DAY}
        rows.scored(f"event-{offset}", **place)
        rows.slate(f"slate-{offset}", topic_generation=2, **place)
        rows.engagement(f"answer-{offset}", topic_generation=2, recommendation_id=f"slate-{offset}", **place)


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(str(tmp_path / "states"))


def claimed(database: Database, topic: str) -> Claim:
    """All ten records are read."""
    claims = claim_partitions(
        database, topic=topic, topic_uuid=topic, start_offsets={0: 0}, owner="w", backend_pid=None, now=NOW
    )
    claim = claims[0]
    if claim.next_offset == 0:
        with database.begin() as connection:
            advance(connection, [Advance(claim.topic_generation, 0, claim.epoch, 0, 10, applied=10)], NOW)
    return claim


def snapshot(database: Database, files: SnapshotFiles, claim: Claim, next_offset: int) -> Manifest:
    name = segment_name(claim.epoch, next_offset, "base")
    place = claim.topic_generation, claim.partition
    segment = files.write_segment(*place, name, {"a": np.arange(3)}, rows=3)
    manifest = Manifest(*place, claim.epoch, next_offset, claim.topic, "accounts:1", None, None, (segment,))
    with database.begin() as connection:
        assert publish_snapshot(connection, manifest, *files.write_manifest(manifest), NOW)
    return manifest


def count_labels(database: Database, until: int = 10, matured: datetime = NOW) -> None:
    values = {"version": until, "known_at": NOW, "matured_until": matured, "positions": {"1:0": until}, "made_at": NOW}
    with database.begin() as connection:
        connection.execute(insert(tables.LabelVersion), {**values, "events": 0, "frauds": 0, "corrections": 0})


def lets_go(database: Database, files: SnapshotFiles, *, snapshots: tuple[int, ...] = (5, 8)) -> tuple[Claim, Claim]:
    """Nobody needs the first days of either topic."""
    claims = claimed(database, "transactions"), claimed(database, "shop.engagements")
    for claim in claims:
        for next_offset in snapshots:
            snapshot(database, files, claim, next_offset)
    count_labels(database)
    return claims


def days_left(database: Database) -> dict[str, list[date]]:
    with database.reading() as connection:
        return {
            model.__tablename__: sorted(set(connection.execute(select(model.day)).scalars()))
            for model in (tables.Transaction, tables.Prediction, tables.Engagement, tables.Recommendation)
        }


def prune(database: Database, files: SnapshotFiles, rules: RetentionRules = RULES, **options: Any) -> Pruned:
    return run_prune(database, files, rules, NOW, **options)


def all_of(transactions: list[date], engagements: list[date]) -> dict[str, list[date]]:
    return {
        "transactions": transactions,
        "predictions": transactions,
        "engagements": engagements,
        "recommendations": engagements,
    }


def test_days_that_nobody_needs_go_and_views_and_restores_go_on(database: Database, files: SnapshotFiles) -> None:
    transactions, _ = lets_go(database, files)
    result = prune(database, files)
    assert result.kept == {"transactions": [], "engagements": []}
    assert days_left(database) == all_of(DAYS[OLD:], DAYS[OLD:])
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM v_predictions")).scalar() == 10 - OLD
        assert connection.execute(text("SELECT sum(slates) FROM v_recommendation_reward")).scalar() == 10 - OLD
        assert connection.execute(select(func.count()).select_from(tables.RecommendationItem)).scalar() == 2 * (
            10 - OLD
        )
        for record in latest_snapshots(connection, 1, 0, 10):
            assert same_manifest(files, record.path, record.sha256)
            rest = stored_transactions(
                connection, topic_generation=1, partition=0, from_offset=record.next_offset, before_offset=10
            )
            assert [offset for part in rest for offset in part.source_offset] == list(range(record.next_offset, 10))
    assert complete_from(database, transactions) == 5
    snapshot(database, files, transactions, 9)
    again = prune(database, files)
    assert complete_from(database, transactions) == 5
    assert sum(table.rows + len(table.partitions) for table in again.tables) == 0


def complete_from(database: Database, claim: Claim) -> int | None:
    with database.reading() as connection:
        control = latest_control(connection, claim.topic_generation, 0, PRUNED_CONTROL)
    return None if control is None else control.from_offset


def same_manifest(files: SnapshotFiles, path: str, digest: str) -> bool:
    manifest = files.read_manifest(path, digest)
    return all(files.read_segment(1, 0, segment)["a"].tolist() == [0, 1, 2] for segment in manifest.segments)


def test_a_dry_run_counts_what_would_go_and_removes_nothing(database: Database, files: SnapshotFiles) -> None:
    claim, _ = lets_go(database, files)
    result = prune(database, files, dry_run=True)
    assert {table.table: table.rows for table in result.tables} == {
        "transactions": OLD,
        "predictions": OLD,
        "shadow_predictions": 0,
        "engagements": OLD,
        "recommendations": OLD,
        "recommendation_items": 2 * OLD,
        "duplicates": 0,
    }
    assert days_left(database) == all_of(DAYS, DAYS)
    assert complete_from(database, claim) is None
    assert any("would be removed" in line for line in in_words(result))


def test_days_that_the_older_snapshot_is_restored_with_stay(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files, snapshots=(1, 8))
    assert prune(database, files).kept == {
        "transactions": [f"transactions/0 is restored from offset 1 on, since {DAYS[1]}"],
        "engagements": [f"shop.engagements/0 is restored from offset 1 on, since {DAYS[1]}"],
    }
    assert days_left(database) == all_of(DAYS[1:], DAYS[1:])


def spoil(file: Path, broken: str) -> None:
    data = file.read_bytes()
    if broken == "torn segment":
        file.write_bytes(data[:-1])
    elif broken == "damaged segment":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file.unlink()


@pytest.mark.parametrize("broken", ["one snapshot", "no manifest", "no segment", "torn segment", "damaged segment"])
def test_without_two_snapshots_that_can_be_read_nothing_of_the_topic_goes(
    database: Database, files: SnapshotFiles, tmp_path: Path, broken: str
) -> None:
    lets_go(database, files, snapshots=(8,) if broken == "one snapshot" else (5, 8))
    if broken == "one snapshot":
        snapshot(database, files, claimed(database, "shop.engagements"), 9)
    else:
        suffix = "json" if broken == "no manifest" else "safetensors"
        (file,) = (tmp_path / "states" / "1" / "0").glob(f"*5*.{suffix}")
        spoil(file, broken)
    result = prune(database, files)
    assert result.kept["transactions"] == [
        f"transactions/0 has fewer than 2 snapshots that can be read, since {DAYS[0]}"
    ]
    assert any(line.startswith("kept of transactions: transactions/0 has fewer") for line in in_words(result))
    assert days_left(database) == all_of(DAYS, DAYS[OLD:])


def test_a_file_that_both_snapshots_share_is_read_once(
    database: Database, files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, _ = lets_go(database, files)
    older = snapshot(database, files, claim, 8)
    newer = replace(older, next_offset=9)
    with database.begin() as connection:
        assert publish_snapshot(connection, newer, *files.write_manifest(newer), NOW)
    read, verify = [], files.verify_segment

    def noted(generation: int, partition: int, segment: SegmentRef) -> None:
        read.append((generation, segment.name))
        verify(generation, partition, segment)

    monkeypatch.setattr(files, "verify_segment", noted)
    assert prune(database, files).kept["transactions"] == []
    assert [name for generation, name in read if generation == 1] == [older.segments[0].name]


def test_snapshots_that_a_worker_replaces_while_they_are_read_are_looked_for_again(
    database: Database, files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, _ = lets_go(database, files)
    verify = files.verify_segment

    def too_late(generation: int, partition: int, segment: SegmentRef) -> None:
        monkeypatch.setattr(files, "verify_segment", verify)
        kept = [snapshot(database, files, claim, next_offset) for next_offset in (9, 10)]
        files.prune(1, 0, kept, claim.epoch)
        verify(generation, partition, segment)

    monkeypatch.setattr(files, "verify_segment", too_late)
    assert prune(database, files).kept["transactions"] == []
    assert complete_from(database, claim) == 9


def claim_second(database: Database) -> Claim:
    topic = {"topic": "transactions", "topic_uuid": "transactions"}
    return claim_partitions(database, **topic, start_offsets={1: 0}, owner="w", backend_pid=None, now=NOW)[1]


def test_a_partition_that_nothing_ever_came_from_keeps_nothing(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files)
    claim_second(database)
    assert prune(database, files).kept["transactions"] == []


def rescaled(database: Database, partitions: int) -> None:
    """All ten records were read by then."""
    claimed(database, "transactions")
    topic = {"topic": "transactions", "topic_uuid": "transactions"}
    seen, _ = settle_count(database, **topic, partitions=1, keyed=True, by="w", now=NOW)
    rescale(database, **topic, seen=seen, partitions=partitions, partitioner="murmur2", by="w", now=NOW)


@pytest.mark.parametrize("second", ["never claimed", "idle", "one snapshot"])
def test_after_a_rescale_nothing_of_the_topic_goes_until_each_partition_has_two_snapshots(
    database: Database, files: SnapshotFiles, second: str
) -> None:
    rescaled(database, 2)
    lets_go(database, files)
    if second != "never claimed":
        claim = claim_second(database)
        if second == "one snapshot":
            with database.begin() as connection:
                advance(connection, [Advance(1, 1, claim.epoch, 0, 3, gaps=3)], NOW)
            snapshot(database, files, claim, 2)
    assert prune(database, files).kept == {
        "transactions": [
            f"transactions was rescaled and transactions/1 has fewer than 2 snapshots that can be read, since {DAYS[0]}"
        ],
        "engagements": [],
    }
    assert days_left(database) == all_of(DAYS, DAYS[OLD:])
    if second == "one snapshot":
        snapshot(database, files, claim, 3)
        assert prune(database, files).kept["transactions"] == []
        assert days_left(database) == all_of(DAYS[OLD:], DAYS[OLD:])


def test_partitions_of_a_topic_that_was_created_anew_keep_nothing(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files)
    claims = claim_partitions(
        database, topic="transactions", topic_uuid="anew", start_offsets={0: 0}, owner="w", backend_pid=None, now=NOW
    )
    assert claims[0].topic_generation == 3
    with database.begin() as connection:
        connection.execute(text("DELETE FROM snapshots WHERE topic_generation = 1"))
    assert prune(database, files).kept["transactions"] == []
    assert days_left(database) == all_of(DAYS[OLD:], DAYS[OLD:])


def test_events_that_labels_have_yet_to_count_stay(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files)
    with database.begin() as connection:
        connection.execute(text("DELETE FROM label_versions"))
    assert "what labels say has yet to count" in prune(database, files).kept["transactions"][0]
    count_labels(database, until=1)
    assert prune(database, files).kept["transactions"] == [
        f"what labels say has yet to count events of transactions/0, since {DAYS[1]}"
    ]
    assert days_left(database) == all_of(DAYS[1:], DAYS[OLD:])


def test_slates_that_a_sink_has_yet_to_confirm_stay(database: Database, files: SnapshotFiles) -> None:
    _, claim = lets_go(database, files)
    with database.begin() as connection:
        claim_cursor(connection, "recommendations", "redis", claim, NOW)
        connection.execute(text("UPDATE relay_cursors SET position = 1"))
    assert prune(database, files).kept["engagements"] == [
        f"slates of shop.engagements/0 are not published to redis yet, since {DAYS[1]}"
    ]
    assert days_left(database) == all_of(DAYS[OLD:], DAYS[1:])


def test_days_that_training_reads_stay(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files)
    rules = RetentionRules(7 * ONE_DAY, {"transactions": ONE_DAY, "engagements": 7.5 * ONE_DAY})
    assert prune(database, files, rules).kept["engagements"] == [f"training reads them, since {DAYS[1]}"]
    assert days_left(database) == all_of(DAYS[OLD:], DAYS[1:])


def test_states_that_no_restore_asks_for_are_removed(database: Database, files: SnapshotFiles) -> None:
    lets_go(database, files)
    with database.begin() as connection:
        write_cold_states(connection, 1, 0, ["a"] * 3, np.array([2, 5, 6]), [b"2", b"5", b"6"], "accounts:1")
    assert prune(database, files).cold_states == 1  # one begins at 5 and needs the state of then
    with database.reading() as connection:
        assert sorted(connection.execute(select(tables.ColdState.as_of)).scalars()) == [5, 6]


def test_two_do_not_prune_at_once(database: Database, files: SnapshotFiles) -> None:
    with exclusively(database, "prune"), pytest.raises(AlreadyRunning, match="another prune"):
        prune(database, files)


@pytest.fixture
def days_ahead(postgres_url: str) -> Iterator[Database]:
    """With a first partition and days ahead, which a test lets go, on PostgreSQL."""
    upgrade(postgres_url)
    database = open_database(postgres_url)
    ensure_days(database, day_of_schema(database))
    yield database
    database.engine.dispose()


def test_whole_days_are_dropped_where_they_have_partitions(days_ahead: Database) -> None:
    database, today = days_ahead, day_of_schema(days_ahead)
    removed = list(remove_days(database, "transactions", today + 2 * ONE_DAY))
    assert [one.partition for one in removed] == ["transactions_before", f"transactions_{today + ONE_DAY:%Y%m%d}"]
    RowMaker(database).transaction("of an old day", day=DAYS[0])
    with database.reading() as connection:
        assert partitions_of(connection, "transactions")[0].first == today + 2 * ONE_DAY
    assert days_left(database)["transactions"] == [DAYS[0]]
    assert list(remove_days(database, "transactions", today)) == [Removed("transactions", "transactions_default", 1)]


def test_days_of_a_table_that_is_read_without_a_pause_are_left_and_the_other_tables_days_go(
    days_ahead: Database, files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.retention.ATTEMPTS", 3)
    database, today = days_ahead, day_of_schema(days_ahead)
    now = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    rules = RetentionRules(-3 * ONE_DAY, {"transactions": -5 * ONE_DAY, "engagements": -5 * ONE_DAY})
    pauses: list[float] = []
    with database.begin() as reader:
        reader.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        reader.execute(text("SELECT count(*) FROM transactions"))
        result = run_prune(database, files, rules, now, sleep=pauses.append)
    dropped = {table.table: len(table.partitions) for table in result.tables}
    assert pauses == [PAUSE_SECONDS] * 2
    assert dropped == dict.fromkeys(PARTITIONED, 3) | {"transactions": 0}
    assert result.left[0] == (
        "transactions_before: transactions is read without a pause; it goes when the readers are done"
    )
    assert f"left for the next time: {result.left[0]}" in list(in_words(result))
    again = run_prune(database, files, rules, now, sleep=pauses.append)
    assert (len(again.tables[0].partitions), again.left) == (3, [])


def test_a_day_goes_once_a_reader_is_done_within_the_pauses(
    days_ahead: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.retention.ATTEMPTS", 3)
    database, today = days_ahead, day_of_schema(days_ahead)
    with database.connect() as reader:
        reader.execute(text("SELECT count(*) FROM transactions"))
        (removed,) = remove_days(database, "transactions", today + ONE_DAY, lambda seconds: reader.rollback())
    assert removed == Removed("transactions", "transactions_before", 0)
