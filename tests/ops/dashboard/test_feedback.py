"""Verdicts and rewards reach the topic, keyed as the contract says, or are not given at all; dead letters go back."""

import json
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from ops.dashboard.routes.feedback import CONFIRM_SECONDS
from ops.jobs.dead_letters import REPLAY
from storage.database import Database
from storage.dead_letters import dead_letter, dead_letters
from storage.exclusive import exclusively
from streams.decode import decode_feedback
from streams.kafka import topic_configurations
from streams.reading import FetchedRecord
from streams.records import DecodeLimits
from tests.ops.dashboard.conftest import Console, StartConsole
from tests.storage.rows import NOON, RowMaker
from tests.streams.topics import created

LIMITS = DecodeLimits(1_000_000, 300_000)


def records_of(servers: str, topic: str, count: int) -> list[Any]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[Any] = []
        while len(found) < count:
            found += consumer.consume(count, timeout=30)
        return found
    finally:
        consumer.close()


@pytest.fixture
def topics(kafka_servers: str, topic_prefix: str) -> str:
    """Their prefix."""
    created(kafka_servers, topic_configurations(topic_prefix, 1_000_000))
    return topic_prefix


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def console(start_console: StartConsole, database_url: str, kafka_servers: str, topics: str) -> Console:
    return start_console(database_url, kafka=kafka_servers, topic_prefix=topics)


@pytest.fixture
def console_alone(start_console: StartConsole, database_url: str) -> Console:
    """Without Kafka."""
    return start_console(database_url)


def test_feedback_arrives_in_the_topic_as_the_worker_reads_it(
    console: Console, rows: RowMaker, kafka_servers: str, topics: str
) -> None:
    rows.alert("a", ["e1"], account_id="anna")
    rows.scored("e2", account_id="ben")
    rows.slate("r1", ["i1"], user_id="uma")
    given = [
        {"kind": "label", "alert_id": "a", "label": "fraud"},
        {"kind": "label", "event_id": "e2", "label": "legitimate", "source": "customer"},
        {"kind": "reward", "recommendation_id": "r1", "item_id": "i1", "value": 2.5, "feedback_id": "own-1"},
    ]

    taken = [console.post("/api/feedback", body, 202)["feedback_id"] for body in given]

    records = records_of(kafka_servers, f"{topics}feedback", 3)
    assert [record.key() for record in records] == [b"anna", b"ben", b"uma"]
    decoded = decode_feedback(
        [FetchedRecord(record.offset(), record.timestamp()[1], record.key(), record.value()) for record in records],
        LIMITS,
    )
    assert decoded.dead == []
    assert [message.feedback_id for message in decoded.messages] == taken
    assert taken[2] == "own-1"
    assert taken[0] != taken[1]
    assert [(m.label, m.value, m.source) for m in decoded.messages] == [
        ("fraud", None, "analyst"),
        ("legitimate", None, "customer"),
        (None, 2.5, "analyst"),
    ]
    assert {message.given_at for message in decoded.messages} == {NOON}


REFUSED: list[tuple[Any, int]] = [
    ({"kind": "label", "alert_id": "nothing", "label": "fraud"}, 404),
    ({"kind": "label", "event_id": "nothing", "label": "fraud"}, 404),
    ({"kind": "reward", "recommendation_id": "nothing", "item_id": "i1", "value": 1}, 404),
    ({"kind": "reward", "recommendation_id": "r1", "item_id": "i9", "value": 1}, 422),
    ({"kind": "reward", "recommendation_id": "r1", "item_id": "i1", "value": 1e13}, 422),
    ({"kind": "reward", "recommendation_id": "r1", "item_id": "i1"}, 422),
    ({"kind": "label", "alert_id": "a", "label": "perhaps"}, 422),
    ({"kind": "label", "label": "fraud"}, 422),
    ({"kind": "label", "alert_id": "a", "event_id": "e1", "label": "fraud"}, 422),
    ({"kind": "label", "alert_id": "a", "label": "fraud", "source": "x" * 201}, 422),
    ({"kind": "label", "alert_id": "a\x00", "label": "fraud"}, 422),
    ({"kind": "label", "alert_id": "a", "label": "fraud", "surplus": 1}, 422),
    ({"kind": "guess"}, 422),
    ([], 422),
]


def test_feedback_that_is_wrong_or_about_nothing_is_refused(console_alone: Console, rows: RowMaker) -> None:
    rows.alert("a", ["e1"])
    rows.slate("r1", ["i1"])
    for body, status in REFUSED:
        error = console_alone.error("/api/feedback", status, body)
        assert error["code"] == {404: "not_found", 422: "invalid"}[status], body


@pytest.mark.slow
def test_feedback_without_kafka_is_refused_within_seconds(console_alone: Console, rows: RowMaker) -> None:
    rows.alert("a", ["e1"])
    begun = time.monotonic()
    error = console_alone.error("/api/feedback", 503, {"kind": "label", "alert_id": "a", "label": "fraud"})
    assert error["code"] == "unavailable"
    assert "HEADGATE_KAFKA" in error["message"]
    assert time.monotonic() - begun < 10 * CONFIRM_SECONDS, "it waits for a bounded time"


def test_a_dead_letter_is_sent_again_once(
    console: Console, rows: RowMaker, database: Database, kafka_servers: str, topics: str
) -> None:
    stored = rows.dead_letter(topic=f"{topics}transactions", payload=b"{", payload_bytes=1)
    place = f"1/0/{stored['source_offset']}"

    assert console.post(f"/api/dead-letters/{place}/replay") == {"replayed_at": "2026-03-14T12:00:00Z"}
    assert console.post(f"/api/dead-letters/{place}/replay") == {"replayed_at": "2026-03-14T12:00:00Z"}

    (record,) = records_of(kafka_servers, f"{topics}transactions", 1)
    assert (record.key(), record.value()) == (b"a1", b"{")
    (end,) = console.context.sources.broker.ends([(f"{topics}transactions", 0)]).values()
    assert end == 1
    with database.reading() as connection:
        letter = dead_letter(connection, (1, 0, stored["source_offset"]))
    assert letter is not None
    assert letter.replayed_at == NOON


def test_a_dead_letter_that_was_kept_in_part_or_is_unknown_is_not_sent(console_alone: Console, rows: RowMaker) -> None:
    stored = rows.dead_letter(error_code="too_large", payload=b"begin", payload_bytes=2_000_000)
    path = f"/api/dead-letters/1/0/{stored['source_offset']}/replay"
    assert console_alone.error(path, 409, {})["code"] == "conflict"
    assert console_alone.error("/api/dead-letters/1/0/999/replay", 404, {})["code"] == "not_found"
    assert json.dumps(console_alone.get("/api/dead-letters")).count('"replayed_at": null') == 1


def test_a_dead_letter_is_not_replayed_while_another_process_replays(
    console_alone: Console, rows: RowMaker, database: Database
) -> None:
    stored = rows.dead_letter(payload=b"{", payload_bytes=1)
    with exclusively(database, REPLAY):
        error = console_alone.error(f"/api/dead-letters/1/0/{stored['source_offset']}/replay", 409, {})
    assert "another replay is running" in error["message"]


def test_a_list_of_dead_letters_reads_no_content_and_knows_which_are_whole(rows: RowMaker, database: Database) -> None:
    rows.dead_letter(payload=b"{", payload_bytes=1)
    rows.dead_letter(error_code="too_large", payload=b"begin", payload_bytes=2_000_000)
    with database.reading() as connection:
        listed = dead_letters(connection, limit=5, code=None, replayed=None, content=False)
    assert {(letter.payload, letter.record_key, letter.is_whole) for letter in listed} == {
        (None, None, True),
        (None, None, False),
    }


@pytest.mark.slow
def test_a_dead_letter_that_kafka_does_not_take_stays_one(console_alone: Console, rows: RowMaker) -> None:
    stored = rows.dead_letter()
    path = f"/api/dead-letters/1/0/{stored['source_offset']}"
    assert console_alone.error(f"{path}/replay", 503, {})["code"] == "unavailable"
    assert console_alone.get(path)["replayed_at"] is None
