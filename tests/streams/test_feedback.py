"""Feedback: each message once, joined with what it is about whenever that comes, expired when it never does."""

import json
from datetime import timedelta
from typing import Any

import pytest

from storage.database import Database
from streams.feedback import FeedbackProcessor
from streams.patience import Wait
from streams.records import DecodeLimits
from streams.rows import RowEncoder
from tests.storage.rows import RowMaker
from tests.streams.bench import NOW, Bench, KafkaRecord, Partitions, SometimesAway, give_up

TOPIC = "feedback"
DAY = 86_400.0


@pytest.fixture
def partitions(database: Database) -> Partitions:
    owned = Partitions(database, TOPIC)
    owned.claim(0, 1)
    return owned


def feedback(database: Database, partitions: Partitions, wait: Wait = give_up) -> Bench:
    """A worker's processor that has just started."""
    processor = FeedbackProcessor(
        database,
        RowEncoder(database.dialect),
        DecodeLimits(),
        wait=wait,
        owned=partitions.usable,
        expiry=timedelta(days=30),
    )
    return Bench(database, partitions, processor)


@pytest.fixture
def bench(database: Database, partitions: Partitions) -> Bench:
    return feedback(database, partitions)


def said(offset: int, feedback_id: str = "", *, seconds: float = 0.0, key: str = "a1", **fields: Any) -> KafkaRecord:
    """A label on event e1 unless told otherwise, given `seconds` after NOW."""
    at = round((NOW + seconds) * 1000)
    about = {} if {"alert_id", "recommendation_id"} & fields.keys() else {"event_id": "e1"}
    message = {"feedback_id": feedback_id or f"f{offset}", "given_at": at, "kind": "label", "label": "fraud"}
    wanted = {name: value for name, value in (message | about | fields).items() if value is not None}
    return KafkaRecord(offset, at, key.encode(), json.dumps(wanted).encode())


def stored(bench: Bench, column: str = "status") -> list[tuple[Any, ...]]:
    return bench.sql(f"SELECT feedback_id, {column} FROM feedback ORDER BY source_partition, source_offset")


def duplicates(bench: Bench) -> list[tuple[Any, ...]]:
    return bench.sql("SELECT source_offset, event_id FROM duplicates ORDER BY source_partition, source_offset")


def test_a_repeat_within_a_batch_is_a_duplicate(bench: Bench) -> None:
    batch = bench.run({0: [said(0, "f"), said(1, "f"), said(2, "g"), said(4, "f")]}, NOW)
    assert batch is not None
    step = batch.works[0].advance
    assert (step.applied, step.duplicates, step.gaps, step.next_offset) == (2, 2, 1, 5)
    assert [name for name, _ in stored(bench)] == ["f", "g"]
    assert duplicates(bench) == [(1, "f"), (4, "f")]


def test_a_repeat_across_batches_is_a_duplicate_also_before_the_first_is_in_sql(bench: Bench) -> None:
    first, second = bench.prepare({0: [said(0, "f")]}, NOW), bench.prepare({0: [said(1, "f")]}, NOW)
    third = bench.prepare({0: [said(2, "f")]}, NOW)
    for batch in (first, second, third):
        assert batch is not None
        bench.commit(batch)
    bench.run({0: [said(3, "f")]}, NOW)
    assert stored(bench) == [("f", "pending")]
    assert duplicates(bench) == [(1, "f"), (2, "f"), (3, "f")]


def test_a_repeat_after_a_restart_is_a_duplicate(database: Database, partitions: Partitions, bench: Bench) -> None:
    bench.run({0: [said(0, "f")]}, NOW)
    partitions.claim(0, 1)
    restarted = feedback(database, partitions)
    restarted.run({0: [said(1, "f"), said(2, "g")]}, NOW)
    assert [name for name, _ in stored(restarted)] == ["f", "g"]
    assert duplicates(restarted) == [(1, "f")]


def test_what_a_lost_batch_would_have_stored_is_no_duplicate_when_it_comes_again(
    database: Database, partitions: Partitions, bench: Bench
) -> None:
    abandoned = bench.prepare({0: [said(0, "f")]}, NOW)
    assert abandoned is not None
    partitions.claim(0, 1)
    bench.run({0: [said(0, "f")]}, NOW)
    assert bench.commit(abandoned).committed == []
    assert stored(bench) == [("f", "pending")]
    assert duplicates(bench) == []


def test_only_ids_that_sql_may_not_have_are_kept_in_memory(bench: Bench) -> None:
    for number in range(20):
        bench.run({0: [said(10 * number + row) for row in range(10)]}, NOW)
    state = bench.processor._partitions[0]  # type: ignore[attr-defined]
    assert len(state.in_flight) == 10


def test_a_label_on_a_stored_event_or_alert_is_joined_in_its_own_batch(bench: Bench, rows: RowMaker) -> None:
    rows.transaction("e1")
    rows.alert("A", ["e1"])
    bench.run({0: [said(0), said(1, alert_id="A"), said(2, event_id="unknown")]}, NOW)
    assert stored(bench) == [("f0", "joined"), ("f1", "joined"), ("f2", "pending")]
    joined = [at is not None for _, at in stored(bench, "joined_at")]
    assert joined == [True, True, False]


def test_a_label_that_came_first_is_joined_in_a_later_moment_of_quiet(bench: Bench, rows: RowMaker) -> None:
    bench.run({0: [said(0)], 1: [said(0, "g", alert_id="A")]}, NOW)
    assert bench.run({}, NOW + 3) is not None  # looked, found nothing
    assert stored(bench) == [("f0", "pending"), ("g", "pending")]
    rows.transaction("e1")
    rows.alert("A", ["e1"])
    assert bench.run({}, NOW + 4) is None  # not so soon again
    batch = bench.run({}, NOW + 6)
    assert batch is not None
    assert [work.advance.next_offset - work.advance.base_offset for work in batch.works] == [0, 0]
    assert stored(bench) == [("f0", "joined"), ("g", "joined")]
    assert bench.run({}, NOW + 9) is None  # nothing is pending


def test_a_busy_partition_does_not_keep_the_pending_feedback_of_another_waiting(bench: Bench, rows: RowMaker) -> None:
    bench.run({1: [said(0, "g")]}, NOW)
    rows.transaction("e1")
    bench.run({0: [said(0)]}, NOW + 1)
    bench.run({0: [said(1)]}, NOW + 4)
    assert ("g", "joined") in stored(bench)


def test_feedback_about_nothing_that_ever_comes_expires(bench: Bench, rows: RowMaker) -> None:
    bench.run({0: [said(0)]}, NOW)
    bench.run({}, NOW + 29 * DAY)
    assert stored(bench) == [("f0", "pending")]
    bench.run({}, NOW + 31 * DAY)
    assert stored(bench) == [("f0", "expired")]
    rows.transaction("e1")
    bench.run({0: [said(1, "f1", seconds=31 * DAY)]}, NOW + 31 * DAY)
    assert stored(bench) == [("f0", "expired"), ("f1", "joined")]


def test_a_reward_is_stored_with_its_value_and_its_item(bench: Bench) -> None:
    reward = {"kind": "reward", "label": None, "recommendation_id": "r", "item_id": "i", "value": 2.5}
    bench.run({0: [said(0, key="user-1", source="app", **reward, terminal=5)]}, NOW)
    columns = "kind, recommendation_id, item_id, value, label, source, entity_id, status"
    assert bench.sql(f"SELECT {columns} FROM feedback") == [("reward", "r", "i", 2.5, None, "app", "user-1", "pending")]
    ((extra,),) = bench.sql("SELECT extra FROM feedback")
    assert (json.loads(extra) if isinstance(extra, str) else extra) == {"terminal": 5}


def reward(offset: int, value: float = 2.5, **about: Any) -> KafkaRecord:
    """On item i1 of slate r1 unless told otherwise."""
    named = {"recommendation_id": "r1", "item_id": "i1"} | about
    return said(offset, key="u1", kind="reward", label=None, value=value, **named)


def test_a_reward_is_joined_with_a_stored_slate_that_holds_its_item(bench: Bench, rows: RowMaker) -> None:
    rows.slate("r1", ["i2", "i1"])
    rows.slate("r2", ["i3"])
    unknown = reward(1, recommendation_id="r9")
    elsewhere = reward(2, item_id="i3")
    bench.run({0: [reward(0), unknown, elsewhere, reward(3, item_id="i2")]}, NOW)
    assert stored(bench) == [("f0", "joined"), ("f1", "pending"), ("f2", "pending"), ("f3", "joined")]


def test_a_reward_that_came_before_its_slate_is_joined_later_and_counts(bench: Bench, rows: RowMaker) -> None:
    bench.run({0: [reward(0, 2.5)], 1: [reward(0, -1.0)]}, NOW)
    assert [status for _, status in stored(bench)] == ["pending", "pending"]
    rows.slate("r1", user_id="u1")
    assert bench.sql("SELECT slates, reward FROM v_recommendation_reward") == [(1, 0.0)]
    bench.run({}, NOW + 3)
    assert [status for _, status in stored(bench)] == ["joined", "joined"]
    assert bench.sql("SELECT slates, reward FROM v_recommendation_reward") == [(1, 1.5)]


def test_a_reward_of_an_unknown_recommendation_expires(bench: Bench, rows: RowMaker) -> None:
    bench.run({0: [reward(0)]}, NOW)
    bench.run({}, NOW + 31 * DAY)
    assert stored(bench) == [("f0", "expired")]
    rows.slate("r1")
    bench.run({}, NOW + 32 * DAY)
    assert stored(bench) == [("f0", "expired")]


def test_a_label_is_not_joined_by_a_slate_nor_a_reward_by_an_event(bench: Bench, rows: RowMaker) -> None:
    rows.transaction("e1")
    rows.slate("r1")
    bench.run({0: [reward(0, recommendation_id="r9", event_id="e1")]}, NOW)
    bench.run({0: [said(1, event_id="e9", recommendation_id="r1", item_id="i1")]}, NOW)
    assert stored(bench) == [("f0", "pending"), ("f1", "pending")]


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999", b"1e13", b"null"])
def test_a_reward_that_is_no_number_is_a_dead_letter(bench: Bench, rows: RowMaker, value: bytes) -> None:
    rows.slate("r1")
    good = reward(0, 2.5)
    assert good.value is not None
    broken = KafkaRecord(1, good.timestamp, good.key, good.value.replace(b"2.5", value).replace(b"f0", b"f1"))
    batch = bench.run({0: [good, broken]}, NOW)
    assert batch is not None
    step = batch.works[0].advance
    assert (step.applied, step.dead_letters) == (1, 1)
    assert stored(bench) == [("f0", "joined")]


def test_the_newest_given_label_wins_whichever_came_last(bench: Bench, rows: RowMaker) -> None:
    rows.scored("e1")
    newest = said(0, label="legitimate", seconds=10)
    bench.run({0: [newest]}, NOW)
    bench.run({0: [said(1, label="fraud", seconds=5)]}, NOW)
    assert bench.sql("SELECT event_id, label FROM v_predictions") == [("e1", "legitimate")]
    bench.run({0: [said(2, label="fraud", seconds=11)]}, NOW)
    assert bench.sql("SELECT event_id, label FROM v_predictions") == [("e1", "fraud")]
    assert len(stored(bench)) == 3


def test_a_label_on_an_alert_labels_all_its_events(bench: Bench, rows: RowMaker) -> None:
    rows.scored("e1", alert_id="A")
    rows.scored("e2", alert_id="A")
    rows.scored("e3")
    rows.alert("A", ["e1", "e2"])
    bench.run({0: [said(0, alert_id="A")]}, NOW)
    assert bench.sql("SELECT event_id, label FROM v_predictions ORDER BY event_id") == [
        ("e1", "fraud"),
        ("e2", "fraud"),
        ("e3", None),
    ]


def test_a_broken_message_is_a_dead_letter_and_harms_nothing_beside_it(bench: Bench) -> None:
    broken = KafkaRecord(1, round(NOW * 1000), b"a1", b'{"feedback_id":')
    batch = bench.run({0: [said(0), broken, said(2, label="perhaps"), said(3)]}, NOW)
    assert batch is not None
    step = batch.works[0].advance
    assert (step.applied, step.dead_letters) == (2, 2)
    assert batch.works[0].outboxes == {"dead_letters"}
    assert bench.sql("SELECT topic, source_offset, error_code FROM dead_letters ORDER BY source_offset") == [
        ("feedback", 1, "invalid_json"),
        ("feedback", 2, "invalid_field"),
    ]


def test_looks_into_the_database_wait_while_it_is_away(database: Database, partitions: Partitions) -> None:
    waits: list[str] = []
    away = SometimesAway(database.engine, ["at once", "at its end"])
    bench = feedback(away, partitions, wait=lambda failures, error: waits.append(str(error)))
    bench.run({0: [said(0, "f"), said(1, "f")]}, NOW)
    away.refusals.append("at once")
    bench.run({}, NOW + 10)
    assert waits == ["at once", "at its end", "at once"]
    assert stored(bench) == [("f", "pending")]


def test_chunks_of_a_revoked_partition_are_left_out(bench: Bench, partitions: Partitions) -> None:
    partitions.owned[0].revoked = True
    assert bench.run({0: [said(0)]}, NOW) is None
    assert stored(bench) == []
