"""What live consumers read from Redis is written once per revision, and never stays for ever."""

from collections.abc import Iterator

import pytest
import redis

from storage.redis_views import AlertView, RedisViews, SlateView

PREFIX = "hg:"
TTL_SECONDS = 600


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def views(client: "redis.Redis") -> RedisViews:
    return RedisViews(client, prefix=PREFIX, ttl_seconds=TTL_SECONDS, stream_length=1_000)


def view(alert_id: str, revision: int, score: float = 0.9, account_id: str = "a1") -> AlertView:
    return AlertView(alert_id, revision, account_id, score, f'{{"revision":{revision}}}'.encode())


def entries(client: "redis.Redis") -> list[tuple[bytes, bytes, bytes]]:
    return [
        (entry[b"alert_id"], entry[b"revision"], entry[b"payload"]) for _, entry in client.xrange(f"{PREFIX}alerts")
    ]


def test_a_revision_is_in_the_stream_the_hash_and_the_risk(client: "redis.Redis", views: RedisViews) -> None:
    assert views.publish_alerts([view("A", 1, score=0.1234567890123456)]) == [True]
    payload = b'{"revision":1}'
    assert entries(client) == [(b"A", b"1", payload)]
    assert client.hgetall(f"{PREFIX}alert:A") == {b"alert_id": b"A", b"revision": b"1", b"payload": payload}
    assert float(client.get(f"{PREFIX}risk:a1") or 0) == 0.1234567890123456


def test_a_revision_is_published_once(client: "redis.Redis", views: RedisViews) -> None:
    batch = [view("A", 1), view("B", 1), view("A", 2)]
    assert views.publish_alerts(batch) == [True, True, True]
    assert views.publish_alerts(batch) == [False, False, False]
    assert views.publish_alerts([view("A", 2), view("A", 3)]) == [False, True]
    assert [entry[:2] for entry in entries(client)] == [(b"A", b"1"), (b"B", b"1"), (b"A", b"2"), (b"A", b"3")]


def test_an_older_revision_changes_nothing(client: "redis.Redis", views: RedisViews) -> None:
    views.publish_alerts([view("A", 10, score=0.9)])
    hash_before = client.hgetall(f"{PREFIX}alert:A")
    assert views.publish_alerts([view("A", 9, score=0.1)]) == [False]  # as numbers: as text, 9 is the larger
    assert client.hgetall(f"{PREFIX}alert:A") == hash_before
    assert client.get(f"{PREFIX}risk:a1") == b"0.9"
    assert len(entries(client)) == 1


def test_every_key_has_the_prefix_and_a_time_to_live(client: "redis.Redis", views: RedisViews) -> None:
    views.publish_alerts([view("A", 1), view("B", 1, account_id="a2"), view("A", 2)])
    keys = set(client.keys())
    names = ("alerts", "alert:A", "alert:B", "risk:a1", "risk:a2")
    assert keys == {f"{PREFIX}{name}".encode() for name in names}
    assert all(0 < client.ttl(key) <= TTL_SECONDS for key in keys)


def test_a_new_revision_renews_the_time_to_live(client: "redis.Redis", views: RedisViews) -> None:
    views.publish_alerts([view("A", 1)])
    keys = [f"{PREFIX}{name}" for name in ("alerts", "alert:A", "risk:a1")]
    for key in keys:
        client.expire(key, 5)
    views.publish_alerts([view("A", 2)])
    assert all(client.ttl(key) > 5 for key in keys)


def test_the_stream_is_trimmed_to_about_its_length(client: "redis.Redis") -> None:
    views = RedisViews(client, prefix=PREFIX, ttl_seconds=TTL_SECONDS, stream_length=100)
    node = int(client.config_get("stream-node-max-entries")["stream-node-max-entries"])
    views.publish_alerts([view(f"A{number}", 1) for number in range(100 + 5 * node)])
    assert 100 <= client.xlen(f"{PREFIX}alerts") <= 100 + node
    assert entries(client)[-1][0] == f"A{100 + 5 * node - 1}".encode()


def test_a_new_revision_nudges_the_channel_with_its_alert_id(client: "redis.Redis", views: RedisViews) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(f"{PREFIX}alerts")
        assert channel.get_message(timeout=10) is None  # the confirmation of the subscription
        views.publish_alerts([view("A", 1)])
        views.publish_alerts([view("A", 1)])
        views.publish_alerts([view("B", 1)])
        nudges = [channel.get_message(timeout=10) for _ in range(2)]
    assert [nudge and nudge["data"] for nudge in nudges] == [b"A", b"B"]


def test_publishing_goes_on_after_redis_forgot_its_scripts(client: "redis.Redis", views: RedisViews) -> None:
    views.publish_alerts([view("A", 1)])
    client.script_flush()
    assert views.publish_alerts([view("A", 1), view("A", 2)]) == [False, True]


def test_everything_is_rebuilt_after_redis_lost_its_data(client: "redis.Redis", views: RedisViews) -> None:
    views.publish_alerts([view("A", 2)])
    client.flushdb()
    assert views.publish_alerts([view("A", 2)]) == [True]
    assert entries(client) == [(b"A", b"2", b'{"revision":2}')]


def test_nothing_to_publish_asks_redis_for_nothing() -> None:
    nowhere = redis.Redis(port=1)
    assert RedisViews(nowhere, prefix="", ttl_seconds=1, stream_length=1).publish_alerts([]) == []
    nowhere.close()


def test_an_absent_redis_is_an_error_that_can_be_told() -> None:
    nowhere = redis.Redis(port=1)
    with pytest.raises(redis.ConnectionError):
        RedisViews(nowhere, prefix="", ttl_seconds=1, stream_length=1).publish_alerts([view("A", 1)])
    nowhere.close()


def slate(made_at: str, user_id: str = "u1", name: str = "r") -> SlateView:
    return SlateView(user_id, f'{{"recommendation_id":"{name}","made_at":"{made_at}","items":[]}}'.encode())


def test_a_user_s_slate_is_the_message_itself_and_does_not_stay_for_ever(
    client: "redis.Redis", views: RedisViews
) -> None:
    shown = slate("2026-03-14T12:00:00Z", "benutzer-ü")
    assert views.publish_slates([shown]) == [True]
    assert client.get(f"{PREFIX}recs:benutzer-ü") == shown.payload
    assert client.keys() == [f"{PREFIX}recs:benutzer-ü".encode()]
    assert 0 < client.ttl(f"{PREFIX}recs:benutzer-ü") <= TTL_SECONDS


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-03-14T12:00:00Z", "2026-03-14T12:00:01Z"),
        ("2026-03-14T12:00:00Z", "2026-03-14T12:00:00.250000Z"),
        ("2026-03-14T12:00:00.250000Z", "2026-03-14T12:00:01Z"),
        ("2026-03-14T12:00:00.250000Z", "2026-03-14T12:00:00.251000Z"),
        ("2026-03-14T23:59:59.999000Z", "2026-03-15T00:00:00Z"),
    ],
)
def test_an_older_slate_replaces_no_newer_one(
    client: "redis.Redis", views: RedisViews, earlier: str, later: str
) -> None:
    assert views.publish_slates([slate(earlier), slate(later)]) == [True, True]
    assert views.publish_slates([slate(earlier), slate(earlier, "u2")]) == [False, True]
    assert client.get(f"{PREFIX}recs:u1") == slate(later).payload
    assert views.publish_slates([slate(later, name="again")]) == [True]


@pytest.mark.parametrize("strange", [b"", b"{", b"[1]", b"7", b"null", b'{"made_at":7}', b'{"made_at":"soon"}'])
def test_what_is_no_slate_is_replaced(client: "redis.Redis", views: RedisViews, strange: bytes) -> None:
    client.set(f"{PREFIX}recs:u1", strange)
    assert views.publish_slates([slate("2026-03-14T12:00:00Z")]) == [True]
    assert client.get(f"{PREFIX}recs:u1") == slate("2026-03-14T12:00:00Z").payload


def test_no_slates_ask_redis_for_nothing() -> None:
    nowhere = redis.Redis(port=1)
    assert RedisViews(nowhere, prefix="", ttl_seconds=1, stream_length=1).publish_slates([]) == []
    nowhere.close()
