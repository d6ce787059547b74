"""What leaves: bytes and headers of the contract in Kafka, each revision once in Redis."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
import redis
from kafka import KafkaConsumer, TopicPartition
from redis.backoff import NoBackoff
from redis.retry import Retry

from storage.bulk import write_rows
from storage.database import Database
from storage.dead_letters import dead_letters
from storage.outbox import (
    AlertRow,
    DeadLetterRow,
    PredictionRow,
    RecommendationRow,
    RecommendedItemRow,
    dead_letters_after,
)
from storage.progress import Claim
from storage.redis_views import RedisViews
from streams.batch import OwnedPartition
from streams.contract import Alert, Recommendation
from streams.decode import decode_transactions
from streams.health import FlowMetrics
from streams.kafka import KafkaSettings, producer, topic_configurations
from streams.records import DecodeLimits
from streams.relay import Relay, SinkUnavailable
from streams.rows import KEPT_BYTES, RowEncoder
from streams.sinks import ALERTS, DEAD_LETTERS, PREDICTIONS, RECOMMENDATIONS, KafkaSink, RedisSink, alert_message
from tests.storage.rows import NOON, RowMaker
from tests.streams.topics import created

RECORD_SIZE_LIMIT = 100_000
TIMELINE = [
    {
        "event_id": "e1",
        "occurred_at": "2026-03-14T11:58:00Z",
        "amount": 12.5,
        "currency": "EUR",
        "merchant_id": "m1",
        "score": 0.125,
        "flagged": False,
    },
    {
        "event_id": "e2",
        "occurred_at": "2026-03-14T12:00:00.25Z",
        "amount": 9_900.01,
        "currency": "EUR",
        "merchant_id": "m2",
        "score": 0.9375,
        "flagged": True,
        "country": "FR",
    },
]
REASONS = [{"feature": "amount", "value": 9_900.01, "usual": 12.5, "contribution": 3.5, "text": "792 times the usual"}]


def alert_row(revision: int = 1, **changes: Any) -> AlertRow:
    values = {
        "alert_id": "A",
        "revision": revision,
        "sequence": revision,
        "status": "open",
        "event_ids": ["e2"],
        "account_id": "konto-ü",
        "occurred_at": NOON + timedelta(milliseconds=250),
        "scored_at": NOON + timedelta(seconds=1),
        "score": 0.9375,
        "score_kind": "probability",
        "threshold": 0.5,
        "severity": "critical",
        "model": "fraud:3",
        "reasons": REASONS,
        "timeline": TIMELINE,
    }
    return AlertRow(**values | changes)


@pytest.fixture
def topics(kafka_servers: str, topic_prefix: str) -> str:
    """The prefix of topics that exist, with one partition each."""
    created(kafka_servers, topic_configurations(topic_prefix, RECORD_SIZE_LIMIT))
    return topic_prefix


@pytest.fixture
def kafka_sink(kafka_servers: str, topics: str) -> KafkaSink:
    return KafkaSink(producer(KafkaSettings(kafka_servers)), topics)


def records(servers: str, topic: str) -> list[Any]:
    """All that a topic holds now."""
    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        end = consumer.end_offsets([place])[place]
        found: list[Any] = []
        for _ in range(100):
            if consumer.position(place) >= end:
                break
            found += consumer.poll(timeout_ms=200).get(place, [])
        return found
    finally:
        consumer.close()


def test_an_alert_in_kafka_has_the_contract_s_fields_under_its_account_s_key(
    kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    kafka_sink.publish("alerts", [alert_row(1), alert_row(2, status="closed")])
    first, second = records(kafka_servers, f"{topics}alerts")
    assert first.key == "konto-ü".encode()
    message = json.loads(first.value)
    assert list(message) == list(Alert.__struct_fields__)
    assert message == {
        "alert_id": "A",
        "revision": 1,
        "status": "open",
        "event_ids": ["e2"],
        "account_id": "konto-ü",
        "occurred_at": "2026-03-14T12:00:00.250000Z",
        "scored_at": "2026-03-14T12:00:01Z",
        "score": 0.9375,
        "score_kind": "probability",
        "threshold": 0.5,
        "severity": "critical",
        "model": "fraud:3",
        "reasons": REASONS,
        "timeline": [TIMELINE[0], TIMELINE[1] | {"occurred_at": "2026-03-14T12:00:00.250000Z"}],
    }
    assert json.loads(second.value) == message | {"revision": 2, "status": "closed"}
    assert b"9900.01" in first.value  # amounts are exact, not binary fractions


def test_a_row_that_breaks_the_contract_is_not_published() -> None:
    with pytest.raises(msgspec.ValidationError):
        alert_message(alert_row(status="half open"))


def test_a_dead_letter_in_kafka_is_the_original_record_with_its_coordinates_as_headers(
    kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    row = DeadLetterRow("transactions", 3, 41, "invalid_utf8", "byte 0xff: schräg", b"\xffkey", b"\xff{", 2, "ab" * 32)
    empty = DeadLetterRow("transactions", 3, 42, "null_value", "the record has no value", None, None, 0, None)
    kafka_sink.publish("dead_letters", [row, empty])
    first, second = records(kafka_servers, f"{topics}dead-letters")
    assert (first.key, first.value) == (b"\xffkey", b"\xff{")
    assert dict(first.headers) == {
        "source_topic": b"transactions",
        "source_partition": b"3",
        "source_offset": b"41",
        "error_code": b"invalid_utf8",
        "error_message": "byte 0xff: schräg".encode(),
        "payload_bytes": b"2",
        "sha256": b"ab" * 32,
    }
    assert (second.key, second.value, dict(second.headers)["source_offset"]) == (None, None, b"42")


def test_a_prediction_in_kafka_says_what_a_caller_decides_on(
    kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    kafka_sink.publish("predictions", [PredictionRow(7, "e1", "a1", 0.25, False, "fraud:3")])
    (record,) = records(kafka_servers, f"{topics}predictions")
    assert record.key == b"a1"
    assert json.loads(record.value) == {"event_id": "e1", "score": 0.25, "flagged": False, "model": "fraud:3"}


def slate_row(offset: int = 1, *, seconds: float = 0.0, user_id: str = "nutzer-ü") -> RecommendationRow:
    items = [RecommendedItemRow("i7", 1, 0.5, 1.5), RecommendedItemRow("i3", 2, 0.25, -0.5)]
    made_at = NOON + timedelta(seconds=seconds)
    return RecommendationRow(offset, f"r{offset}", user_id, made_at, "recommender:4", f"e{offset}", items)


def test_a_slate_in_kafka_has_the_contract_s_fields_under_its_user_s_key(
    kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    kafka_sink.publish("recommendations", [slate_row(1), slate_row(2)])
    first, second = records(kafka_servers, f"{topics}recommendations")
    assert first.key == "nutzer-ü".encode()
    message = json.loads(first.value)
    assert list(message) == list(Recommendation.__struct_fields__)
    assert message == {
        "recommendation_id": "r1",
        "user_id": "nutzer-ü",
        "made_at": "2026-03-14T12:00:00Z",
        "policy": "recommender:4",
        "items": [
            {"item_id": "i7", "position": 1, "propensity": 0.5, "score": 1.5},
            {"item_id": "i3", "position": 2, "propensity": 0.25, "score": -0.5},
        ],
        "cause": "e1",
    }
    assert json.loads(second.value)["recommendation_id"] == "r2"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_kafka_that_is_away_is_a_sink_that_did_not_confirm() -> None:
    settings = KafkaSettings(f"127.0.0.1:{closed_port()}")
    sink = KafkaSink(producer(settings, **{"delivery.timeout.ms": 300}), "")
    with pytest.raises(SinkUnavailable):
        sink.publish("alerts", [alert_row()])


def test_a_topic_that_refuses_a_message_is_a_sink_that_did_not_confirm(
    kafka_sink: KafkaSink,
) -> None:
    with pytest.raises(SinkUnavailable):
        kafka_sink.publish("alerts", [alert_row(model="x" * 3_000_000)])


@pytest.fixture
def views(redis_url: str) -> Iterator[RedisViews]:
    with redis.Redis.from_url(redis_url) as client:
        yield RedisViews(client, prefix="p:", ttl_seconds=600, stream_length=100)


def test_redis_holds_each_revision_once_with_the_same_bytes_as_kafka(
    redis_url: str, views: RedisViews, kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    rows = [alert_row(1), alert_row(2, score=0.96)]
    sink = RedisSink(views)
    sink.publish("alerts", rows)
    sink.publish("alerts", rows)
    sink.publish("alerts", rows[:1])
    kafka_sink.publish("alerts", rows)
    with redis.Redis.from_url(redis_url) as client:
        stream = [fields for _, fields in client.xrange("p:alerts")]
        assert [(entry[b"alert_id"], entry[b"revision"]) for entry in stream] == [(b"A", b"1"), (b"A", b"2")]
        assert client.hget("p:alert:A", "revision") == b"2"
        assert client.get("p:risk:konto-ü") == b"0.96"
    assert [entry[b"payload"] for entry in stream] == [
        record.value for record in records(kafka_servers, f"{topics}alerts")
    ]


def test_redis_holds_each_user_s_current_slate_with_the_same_bytes_as_kafka(
    redis_url: str, views: RedisViews, kafka_servers: str, topics: str, kafka_sink: KafkaSink
) -> None:
    """Also after a crash between publishing and the cursor, which brings old slates once more."""
    rows = [slate_row(1), slate_row(2, user_id="other"), slate_row(3, seconds=0.25)]
    sink = RedisSink(views)
    sink.publish("recommendations", rows)
    sink.publish("recommendations", rows[:2])
    kafka_sink.publish("recommendations", rows)
    with redis.Redis.from_url(redis_url) as client:
        stored = [client.get("p:recs:other"), client.get("p:recs:nutzer-ü")]
        assert sorted(client.keys()) == sorted([b"p:recs:other", "p:recs:nutzer-ü".encode()])
    assert stored == [record.value for record in records(kafka_servers, f"{topics}recommendations")[1:]]


def test_a_redis_that_is_away_is_a_sink_that_did_not_confirm() -> None:
    with redis.Redis(port=closed_port(), retry=Retry(NoBackoff(), 0)) as client:
        sink = RedisSink(RedisViews(client, prefix="p:", ttl_seconds=600, stream_length=100))
        with pytest.raises(SinkUnavailable, match="Redis"):
            sink.publish("alerts", [alert_row()])


def test_stored_rows_reach_kafka_and_redis_as_they_are_in_sql(
    database: Database,
    rows: RowMaker,
    kafka_servers: str,
    topics: str,
    kafka_sink: KafkaSink,
    redis_url: str,
    views: RedisViews,
) -> None:
    for revision in (1, 2):
        rows.alert("A", ["e2"], revision=revision, sequence=revision, reasons=REASONS, timeline=TIMELINE)
    rows.dead_letter(source_offset=5, payload=b"\x00\xff", record_key=None, sha256=sha256(b"\x00\xff").hexdigest())
    rows.prediction("e2", source_offset=6, flagged=True)
    rows.slate("r1", source_offset=6)
    owner = OwnedPartition(Claim("transactions", 1, 0, 1, 7), "uuid", 1, 7, 7)
    both = [
        Relay(
            kafka_sink,
            [ALERTS, DEAD_LETTERS, PREDICTIONS, RECOMMENDATIONS],
            database,
            FlowMetrics(),
            clock=lambda: NOON,
        ),
        Relay(RedisSink(views), [ALERTS, RECOMMENDATIONS], database, FlowMetrics(), clock=lambda: NOON),
    ]
    for relay in both:
        relay.start()
        relay.wake(owner)
    for relay in both:
        relay.stop(30.0)
    published = records(kafka_servers, f"{topics}alerts")
    assert [json.loads(record.value)["revision"] for record in published] == [1, 2]
    alert = msgspec.json.decode(published[0].value, type=Alert)
    assert alert.occurred_at == NOON
    assert alert.timeline[1].occurred_at == datetime(2026, 3, 14, 12, 0, 0, 250_000, tzinfo=UTC)
    (letter,) = records(kafka_servers, f"{topics}dead-letters")
    assert (letter.key, letter.value) == (None, b"\x00\xff")
    (prediction,) = records(kafka_servers, f"{topics}predictions")
    assert json.loads(prediction.value)["flagged"] is True
    (slate,) = records(kafka_servers, f"{topics}recommendations")
    assert msgspec.json.decode(slate.value, type=Recommendation).cause == "cause of r1"
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("p:recs:u1") == slate.value


@dataclass(frozen=True)
class Arrived:
    """A record of the input topic."""

    key: bytes
    value: bytes
    offset: int = 0
    timestamp: int = 1_773_489_600_000


@pytest.mark.parametrize("size", [RECORD_SIZE_LIMIT - 10, RECORD_SIZE_LIMIT + 1, 20 * RECORD_SIZE_LIMIT])
@pytest.mark.parametrize("large", ["key", "value"])
def test_every_record_that_arrives_fits_into_the_topic_of_dead_letters(
    sqlite_database: Database, kafka_servers: str, topics: str, kafka_sink: KafkaSink, size: int, large: str
) -> None:
    """Also one that only its compression brought through the input topic's limit."""
    key, value = (b"k" * size, b"{") if large == "key" else (b"k", b"{" * size)
    dead = decode_transactions([Arrived(key, value)], DecodeLimits(RECORD_SIZE_LIMIT)).dead
    with sqlite_database.begin() as connection:
        write_rows(connection, RowEncoder("sqlite").dead_letters(Claim("transactions", 1, 0, 1, 0), dead))
    with sqlite_database.reading() as connection:
        stored = dead_letters_after(connection, 1, 0, 0, 10)
        (seen,) = dead_letters(connection, limit=1, code=None, replayed=None)
    kafka_sink.publish("dead_letters", stored)
    (letter,) = records(kafka_servers, f"{topics}dead-letters")
    kept = size if size < RECORD_SIZE_LIMIT else KEPT_BYTES
    assert (letter.key, letter.value) == (key[:kept], value[:kept])
    assert dict(letter.headers)["sha256"] == sha256(value).hexdigest().encode()
    assert seen.is_whole == (size < RECORD_SIZE_LIMIT)
