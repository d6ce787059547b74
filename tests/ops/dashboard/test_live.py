"""The status, and server-sent events: alerts as they are published, what was missed, what operators are told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import insert

from ops.redis_settings import redis_views
from ops.settings import Settings
from storage import tables
from storage.database import Database
from storage.redis_views import AlertView, RedisViews
from streams import contract
from streams.kafka import topic_configurations
from tests.deployment import wait_until
from tests.ops.dashboard.conftest import SECONDS, Console, StartConsole
from tests.storage.rows import NOON, RowMaker
from tests.streams.topics import created, numbered, produce

Event = dict[str, str]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
def console(start_console: StartConsole, database_url: str, redis_url: str) -> Console:
    return start_console(database_url, redis=SecretStr(redis_url), redis_prefix="p:")


@pytest.fixture
def views(redis_url: str) -> RedisViews:
    return redis_views(Settings(redis=SecretStr(redis_url), redis_prefix="p:", _env_file=None))


def publish(views: RedisViews, rows: RowMaker, alert_id: str, revision: int = 1, stored: bool = True) -> None:
    if stored:
        rows.alert(alert_id, ["e1"], revision=revision)
    message = contract.Alert(
        *(alert_id, revision, "open", ["e1"], "a1", NOON, NOON, 0.9, "probability", 0.5, "high", "detector:1"),
        reasons=[contract.Reason("amount", 1.0, 0.1, 2.0, "ten times the usual")],
        timeline=[],
    )
    assert views.publish_alerts([AlertView(alert_id, revision, "a1", 0.9, contract.encode(message))]) == [True]


@contextmanager
def listening(console: Console, after: str | None = None) -> Iterator[Iterator[Event]]:
    """The events, once the stream has begun."""
    headers = {} if after is None else {"Last-Event-ID": after}
    with console.client.stream("GET", "/api/live", headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = parsed(answer.iter_lines())
        assert next(events)["event"] == "status", "the first one comes at once"
        yield events


def parsed(lines: Iterator[str]) -> Iterator[Event]:
    event: Event = {}
    for line in lines:
        if not line and event:
            yield event
            event = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def only(kind: str, events: Iterator[Event], count: int) -> list[Event]:
    found = []
    while len(found) < count:
        event = next(events)
        if event["event"] == kind:
            found.append(event)
    return found


def test_an_alert_is_told_as_soon_as_it_is_published(console: Console, views: RedisViews, rows: RowMaker) -> None:
    with listening(console) as events:
        publish(views, rows, "a")
        (told,) = only("alert", events, 1)

    alert = json.loads(told["data"])
    assert (alert["alert_id"], alert["amount_at_risk"], alert["reason"]) == ("a", 12.5, "ten times the usual")
    assert alert.keys() == console.get("/api/alerts")["alerts"][0].keys()


def test_who_comes_back_is_told_what_he_missed_and_nothing_twice(
    console: Console, views: RedisViews, rows: RowMaker
) -> None:
    with listening(console) as events:
        publish(views, rows, "a")
        publish(views, rows, "b")
        first, second = only("alert", events, 2)
    publish(views, rows, "c")
    publish(views, rows, "a", revision=2)

    with listening(console, after=first["id"]) as events:
        missed = only("alert", events, 3)
        publish(views, rows, "d")
        (live,) = only("alert", events, 1)

    assert [json.loads(event["data"])["alert_id"] for event in (*missed, live)] == ["b", "c", "a", "d"]
    assert missed[0]["id"] == second["id"]


def test_who_was_told_no_alert_comes_back_with_the_place_of_a_status(
    console: Console, views: RedisViews, rows: RowMaker
) -> None:
    publish(views, rows, "a")
    with listening(console) as events:
        status = next(event for event in events if "id" in event)
    publish(views, rows, "b")

    with listening(console, after=status["id"]) as events:
        (missed,) = only("alert", events, 1)
        (later,) = only("status", events, 1)
        publish(views, rows, "c")
        (live,) = only("alert", events, 1)

    assert [json.loads(event["data"])["alert_id"] for event in (missed, live)] == ["b", "c"]
    assert (status["event"], later["id"]) == ("status", missed["id"])


def test_an_alert_is_told_from_its_message_while_sql_does_not_know_it(
    console: Console, views: RedisViews, rows: RowMaker
) -> None:
    with listening(console) as events:
        publish(views, rows, "a", stored=False)
        (told,) = only("alert", events, 1)
    assert json.loads(told["data"])["amount_at_risk"] is None
    assert json.loads(told["data"])["reason"] == "ten times the usual"


def test_operators_messages_are_told(console: Console, views: RedisViews, redis_url: str) -> None:
    with listening(console) as events, redis.Redis.from_url(redis_url) as client:
        wait_until("the console listens", lambda: client.pubsub_numsub("p:operator")[0][1], SECONDS)
        views.tell_operator(b'{"worker": "w1", "message": "model fraud:3 is refused"}')
        views.tell_operator(b"no\njson")
        found = only("operator", events, 2)
    assert json.loads(found[0]["data"])["message"] == "model fraud:3 is refused"
    assert json.loads(found[1]["data"]) == {"message": "no\njson"}


def test_the_server_ends_although_somebody_listens(console: Console) -> None:
    with listening(console) as events:
        console.server.should_exit = True
        assert [event for event in events if event["event"] != "status"] == []


def progress(database: Database, topic: str, **values: Any) -> None:
    defaults = {
        "topic_generation": 1,
        "partition": 0,
        "topic": topic,
        "topic_uuid": topic,
        "epoch": 1,
        "owner": "worker-1",
        "start_offset": 0,
        "next_offset": 10,
        "applied": 10,
        "duplicates": 0,
        "dead_letters": 0,
        "gaps": 0,
        "updated_at": datetime.now(UTC),
    }
    with database.begin() as connection:
        connection.execute(insert(tables.StreamProgress), defaults | values)


def test_a_status_without_kafka_and_redis_has_what_sql_knows(
    start_console: StartConsole, database_url: str, rows: RowMaker, database: Database
) -> None:
    console = start_console(database_url)
    for number in range(10):
        recorded = NOON - timedelta(seconds=number)
        rows.transaction(f"e{number}", source_offset=number, recorded_at=recorded)
        rows.prediction(f"e{number}", source_offset=number)
    rows.alert("a", ["e1"])
    rows.dead_letter(source_offset=100)
    rows.dead_letter(source_offset=101, replayed_at=NOON)
    progress(database, "transactions", updated_at=NOON - timedelta(seconds=3))

    def known() -> Any:
        status = console.get("/api/status")
        return status if status["latency"] and status["alerts_open"] else None

    status = wait_until("the console has looked", known, SECONDS)

    assert status["services"] == {"sql": True, "kafka": False, "redis": False}
    assert status["lag"] is None
    assert status["latency"] == {"p50": 5.0, "p99": 9.0, "samples": 10}
    assert (status["alerts_open"], status["alerts_today"], status["dead_letters"]) == (1, 1, 1)
    (worker,) = status["workers"]
    assert worker["worker"] == "worker-1"
    (partition,) = worker["partitions"]
    assert (partition["next_offset"], partition["lag"], partition["idle_seconds"]) == (10, None, 3.0)
    assert console.client.get("/health/ready").status_code == 200


def test_lag_is_what_kafka_holds_and_sql_has_not_passed(
    start_console: StartConsole, database_url: str, database: Database, kafka_servers: str, topic_prefix: str
) -> None:
    topics = topic_configurations(topic_prefix, 1_000_000)
    created(kafka_servers, topics)
    produce(kafka_servers, f"{topic_prefix}transactions", numbered(0, 25))
    produce(kafka_servers, f"{topic_prefix}items", numbered(0, 4))
    progress(database, f"{topic_prefix}transactions")
    console = start_console(database_url, kafka=kafka_servers, topic_prefix=topic_prefix, now=None)

    def lag() -> Any:
        status = console.get("/api/status")
        return status if status["lag"] is not None else None

    status = wait_until("the console has looked", lag, SECONDS)

    assert status["lag"] == 15 + 4
    assert status["workers"][0]["partitions"][0]["lag"] == 15
    assert status["services"]["kafka"]


def test_without_sql_there_are_nulls_and_503_but_no_failure(
    start_console: StartConsole, database_url: str, redis_url: str
) -> None:
    console = start_console("postgresql://nobody@127.0.0.1:1/nothing", redis=SecretStr(redis_url))
    wait_until("Redis answers", lambda: console.get("/api/status")["services"]["redis"], SECONDS)

    status = console.get("/api/status")

    assert status["services"] == {"sql": False, "kafka": False, "redis": True}
    assert status["events_per_second"] is None
    assert status["workers"] == []
    for path in ("/api/alerts", "/api/views"):
        error = console.error(path, 503)
        assert (error["code"], "HEADGATE_DATABASE" in error["message"]) == ("unavailable", True)
    assert console.client.get("/health/ready").status_code == 503
    assert console.client.get("/health").json()["ready"] is False
    assert console.client.get("/health/live").text == "live\n"
    assert 'figures="progress"' in console.client.get("/metrics").text
