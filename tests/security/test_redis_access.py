"""Redis over TLS and by ACL: whoever is not the Redis that the address names learns nothing, and each user of it may do
what docs/security.md says and nothing else.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from ops import worker
from ops.doctor import check_redis
from ops.redis_settings import redis_views
from ops.service_addresses import UnsafeAddress, check_redis_address
from ops.settings import Settings
from storage.outbox import AlertRow
from storage.redis_refusals import REMEDIES, refusal_of
from storage.redis_views import AlertView, SlateView
from streams.health import FlowMetrics
from streams.relay import SinkUnavailable
from streams.sinks import RedisSink
from tests.certificates import Authority
from tests.secured_stores import (
    PASSWORD,
    documented_users,
    make_redis_users,
    redis_url,
    refused_by_redis,
    secured_redis,
)
from tests.streams.test_sinks import alert_row

PREFIX = "shop:"
WORKER, CONSOLE, CONSUMER = "headgate-worker", "headgate-console", "headgate-consumer"
ERASURE = "headgate-erasure"
ALERT = AlertView("a-1", 1, "alice", 0.9, b'{"alert_id": "a-1"}')
SLATE = SlateView("bob", b'{"made_at": "2026-01-01T00:00:00Z"}')
SECRET_ROW = "who-was-robbed"


@dataclass(frozen=True, slots=True)
class Place:
    """Ports with TLS, by what is wrong with the server there."""

    trusted: Authority
    strange: Authority
    administrator: str
    good: int
    elsewhere: int
    expired: int
    without_tls: int

    def url(self, user: str = WORKER, **changes: str) -> str:
        return redis_url(self.good, self.trusted.file, user, **changes)


@pytest.fixture(scope="module")
def place(services_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("certificates")
    trusted, strange = Authority(folder / "trusted", "trusted"), Authority(folder / "strange", "strange")
    ca, folder = trusted.file, services_folder
    other, old = trusted.issue("other", ["redis.example.com"]), trusted.issue("old", lifetime=timedelta(-1))
    with (
        secured_redis(folder / "redis-good", trusted.issue("server"), ca) as (good, good_port),
        secured_redis(folder / "redis-other", other, ca) as (_, elsewhere),
        secured_redis(folder / "redis-old", old, ca) as (expired_one, expired),
    ):
        make_redis_users(good.url, PREFIX)
        yield Place(trusted, strange, good.url, good_port, elsewhere, expired, expired_one.port)


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def settings_of(url: str, prefix: str = PREFIX) -> Settings:
    return Settings(redis=SecretStr(url), redis_prefix=prefix)


def publish(settings: Settings, row: AlertRow) -> None:
    with closing(redis_views(settings)) as views:
        RedisSink(views).publish("alerts", [row])


def read(client: redis.Redis) -> str:
    """What Redis has of the alert, by a user who may read it."""
    with client:
        return bytes(client.hget(f"{PREFIX}alert:a-1", "payload") or b"").decode()


def test_a_worker_publishes_over_tls_with_the_rights_of_the_page(place: Place) -> None:
    alert = AlertView("a-1", int(uuid.uuid4().int % 10**9) + 1, ALERT.account_id, ALERT.score, ALERT.payload)
    with (
        closing(redis_views(settings_of(place.url()))) as views,
        redis.Redis.from_url(place.administrator) as administrator,
    ):
        administrator.acl_log_reset()
        assert views.publish_alerts([alert]) == [True]
        assert views.publish_slates([SLATE]) == [True]
        views.tell_operator(b"hello")
        assert refused_by_redis(administrator) == []
    assert read(redis.Redis.from_url(place.url(CONSUMER))) == ALERT.payload.decode()
    assert {check.status for check in check_redis(settings_of(place.url()))} == {"ok"}


def test_a_consumer_reads_stream_hash_risk_slate_and_channel(place: Place) -> None:
    with (
        closing(redis_views(settings_of(place.url()))) as views,
        redis.Redis.from_url(place.url(CONSUMER)) as client,
        client.pubsub() as channel,
    ):
        channel.subscribe(f"{PREFIX}alerts")
        assert channel.get_message(timeout=10) is not None
        alert = AlertView("a-2", int(uuid.uuid4().int % 10**9) + 1, "carol", 0.5, b"{}")
        views.publish_alerts([alert])
        views.publish_slates([SLATE])
        message = channel.get_message(timeout=10)
        assert message is not None
        assert message["data"] == b"a-2"
        assert client.get(f"{PREFIX}risk:carol") == b"0.5"
        assert client.hgetall(f"{PREFIX}alert:a-2")[b"payload"] == b"{}"
        assert client.get(f"{PREFIX}recs:bob") is not None
        for found in (client.xrevrange(f"{PREFIX}alerts"), client.xread({f"{PREFIX}alerts": "0"})):
            assert "a-2" in str(found)


def test_an_erasure_finds_and_removes_what_there_is_with_the_rights_of_the_page(place: Place) -> None:
    with closing(redis_views(settings_of(place.url()))) as views:
        views.publish_alerts([AlertView("a-3", 1, "dora", 0.5, b'{"account_id": "dora"}')])
        views.publish_slates([SlateView("dora", SLATE.payload)])
    with closing(redis_views(settings_of(place.url(ERASURE)))) as eraser:
        assert eraser.forget_accounts(["dora"]) == 3, "the stream's entry, the alert and the risk"
        assert eraser.forget_users(["dora"]) == 1
    with redis.Redis.from_url(place.administrator) as administrator:
        assert administrator.keys(f"{PREFIX}*dora*") == []


BEYOND: dict[str, tuple[str, tuple[str, ...]]] = {
    "a worker empties Redis": (WORKER, ("FLUSHALL",)),
    "a worker looks at all keys": (WORKER, ("KEYS", "*")),
    "a worker writes another service's key": (WORKER, ("SET", "other:key", "1")),
    "a worker tells another service's channel": (WORKER, ("PUBLISH", "other", "1")),
    "a worker changes the configuration": (WORKER, ("CONFIG", "SET", "dir", "/tmp")),
    "a worker writes another service's key by a script": (
        WORKER,
        ("EVAL", "return redis.call('SET', 'other:key', 1)", "0"),
    ),
    "a console writes": (CONSOLE, ("SET", f"{PREFIX}recs:bob", "1")),
    "a console runs a script": (CONSOLE, ("EVALSHA", "0" * 40, "0")),
    "an erasure writes": (ERASURE, ("SET", f"{PREFIX}recs:bob", "1")),
    "a consumer writes": (CONSUMER, ("HSET", f"{PREFIX}alert:a-1", "payload", "forged")),
    "a consumer adds to the stream": (CONSUMER, ("XADD", f"{PREFIX}alerts", "*", "payload", "forged")),
    "a consumer tells the channel": (CONSUMER, ("PUBLISH", f"{PREFIX}alerts", "forged")),
    "a consumer makes a user": (CONSUMER, ("ACL", "SETUSER", "me", "on", "nopass", "+@all", "~*")),
}


def go_beyond(place: Place, user: str, command: tuple[str, ...]) -> object:
    """The attack: a stolen password is used for something else than what its user is for."""
    with redis.Redis.from_url(place.url(user)) as client:
        return client.execute_command(*command)


@pytest.mark.parametrize("case", BEYOND)
def test_to_go_beyond_the_rights_of_the_page_is_refused(place: Place, case: str) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        go_beyond(place, *BEYOND[case])
    assert refusal_of(caught.value) == "authorization"


def test_without_the_rights_of_the_page_the_same_password_forges_alerts(place: Place) -> None:
    """A user for everything, as one without an ACL is."""
    with redis.Redis.from_url(place.administrator) as administrator:
        administrator.execute_command("ACL SETUSER", "everything", "on", f">{PASSWORD}", "+@all", "~*", "&*")
        for case in ("a consumer adds to the stream", "a consumer tells the channel", "a worker looks at all keys"):
            go_beyond(place, "everything", BEYOND[case][1])
        administrator.delete(f"{PREFIX}alerts")


REFUSED: dict[str, tuple[Callable[[Place], str], str]] = {
    "another authority": (lambda place: redis_url(place.good, place.strange.file, WORKER), "tls"),
    "another host": (lambda place: redis_url(place.elsewhere, place.trusted.file, WORKER), "tls"),
    "an expired certificate": (lambda place: redis_url(place.expired, place.trusted.file, WORKER), "tls"),
    "a wrong password": (lambda place: place.url(password=f"{PASSWORD}-not"), "authentication"),
    "an unknown user": (lambda place: place.url("headgate-nobody"), "authentication"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_redis_that_is_not_what_the_address_says_is_refused_in_one_line(place: Place, case: str) -> None:
    """By the doctor, by a worker that waits, and by the relay: named, counted, without the password."""
    url_of, reason = REFUSED[case]
    settings = settings_of(url_of(place))
    (check,) = check_redis(settings)
    assert (check.name, check.status) == ("redis", "fail")
    metrics, stopping = FlowMetrics(), threading.Event()

    def look() -> None:
        stopping.set()
        with redis.Redis.from_url(settings.redis.get_secret_value()) as client:
            client.ping()

    with capture_logs() as logs:
        assert not worker._wait_for("HEADGATE_REDIS", look, metrics, stopping)
    (entry,) = logs
    assert REMEDIES[reason] in entry["problem"]
    assert REMEDIES[reason] in check.found
    labels = {"store": "redis", "reason": reason}
    assert metrics.registry.get_sample_value("headgate_store_refusals_total", labels) == 1
    with pytest.raises(SinkUnavailable) as caught:
        publish(settings, alert_row(account_id=SECRET_ROW))
    assert caught.value.refused == reason
    for line in (check.found, str(logs), str(caught.value)):
        assert PASSWORD not in line
        assert SECRET_ROW not in line
        assert "\n" not in line


def test_a_redis_without_tls_is_refused_in_one_line(place: Place) -> None:
    """It waits for a line's end, which a greeting by TLS does not have, so that all one hears of it is silence."""
    settings = settings_of(redis_url(place.without_tls, place.trusted.file, WORKER))
    (check,) = check_redis(settings)
    assert (check.status, check.found) == ("fail", "no answer: Timeout connecting to server")
    assert "does not answer rediss://" in check.remedy
    with pytest.raises(SinkUnavailable, match="Timeout") as caught:
        publish(settings, alert_row(account_id=SECRET_ROW))
    assert SECRET_ROW not in str(caught.value)


def test_a_publication_beyond_the_rights_is_named_without_what_was_published(place: Place) -> None:
    with pytest.raises(SinkUnavailable, match=r"docs/security\.md has the ACL") as caught:
        publish(settings_of(place.url(), prefix="other:"), alert_row(account_id=SECRET_ROW))
    assert caught.value.refused == "authorization"
    assert SECRET_ROW not in str(caught.value)


def test_a_script_that_reaches_beyond_its_users_rights_is_named_too(place: Place) -> None:
    """Keys are looked at before a script begins, what it does with them and its channel only then."""
    with redis.Redis.from_url(place.administrator) as administrator:
        administrator.execute_command("ACL SETUSER", WORKER, "-publish")
        try:
            with pytest.raises(SinkUnavailable) as caught:
                publish(settings_of(place.url()), alert_row(alert_id="told"))
            assert caught.value.refused == "authorization"
        finally:
            make_redis_users(place.administrator, PREFIX)


def talk_to_the_impostor(place: Place, **changes: str) -> bool:
    """The attack: somebody else answers where Redis was, and is told the password and every alert."""
    parameters = "".join(f"&{name}={value}" for name, value in changes.items())
    with redis.Redis.from_url(redis_url(place.good, place.strange.file, WORKER) + parameters) as client:
        return bool(client.ping())


def test_talking_to_the_impostor_is_refused(place: Place) -> None:
    with pytest.raises(redis.ConnectionError) as caught:
        talk_to_the_impostor(place)
    assert refusal_of(caught.value) == "tls"


def test_without_verification_talking_to_the_impostor_goes_through(place: Place) -> None:
    """Which the settings refuse to leave out, for hosts elsewhere."""
    assert talk_to_the_impostor(place, ssl_cert_reqs="none")
    with pytest.raises(UnsafeAddress):
        check_redis_address("rediss://redis.example.com/0?ssl_cert_reqs=none", frozenset())


def test_the_page_has_a_user_for_each_who_needs_one() -> None:
    users = documented_users()
    assert set(users) == {WORKER, CONSOLE, CONSUMER, ERASURE}
    for rules in users.values():
        assert ">PASSWORD" in rules
        assert "-@all" in rules
        assert not {"nopass", "allkeys", "allcommands", "+@all", "~*", "&*"} & set(rules)
