"""Every library that speaks to Kafka comes in by every door, and is refused where it should be, or refuses itself."""

import gc
import ssl
from collections.abc import Callable, Iterator

import aiokafka.errors
import pytest
from confluent_kafka.admin import AclOperation

from streams import kafka, kafka_security
from streams.kafka import (
    KafkaRefused,
    KafkaSettings,
    KafkaUnavailable,
    create_topics,
    describe_topics,
    publish_confirmed,
)
from streams.kafka_logs import has_records, newest_keys
from streams.kafka_rights import Needed, check_rights, lacking_rights
from streams.kafka_tokens import tokens_of
from tests.deployment import wait_until
from tests.secured_clients import CLIENTS, Doors, by_aiokafka, by_librdkafka
from tests.secured_kafka import ANY_GROUP, ANY_TOPIC, KEY_PASSWORD, SecuredKafka, password_of

# aiokafka waits for no socket that it closes.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def nothing_left_for_other_tests() -> Iterator[None]:
    """What aiokafka dropped is collected while this module's filters hold."""
    yield
    gc.collect()


WAYS_IN: dict[str, Callable[[Doors], KafkaSettings]] = {
    "TLS": lambda doors: doors.tls(),
    "a certificate": lambda doors: doors.mutual("worker"),
    "a certificate with an encrypted key": lambda doors: doors.mutual("encrypted", KEY_PASSWORD),
    "PLAIN over TLS": lambda doors: doors.password("PLAIN"),
    "SCRAM-SHA-256": lambda doors: doors.password("SCRAM-SHA-256"),
    "SCRAM-SHA-512": lambda doors: doors.password("SCRAM-SHA-512"),
    "SCRAM on this machine": lambda doors: doors.in_clear("SCRAM-SHA-512"),
    "a token": lambda doors: doors.token(),
}
#: What is refused, with the reason, and what the one line says.
REFUSED: dict[str, tuple[Callable[[Doors], KafkaSettings], str, str]] = {
    "wrong authority": (
        lambda doors: doors.tls(authorities=doors.kafka.stranger.file),
        "tls",
        "unable to get local issuer certificate",
    ),
    "expired certificate": (lambda doors: doors.tls("EXPIRED"), "tls", "certificate has expired"),
    "wrong host name": (lambda doors: doors.tls("ELSEWHERE"), "tls", "certificate is not valid for '127.0.0.1'"),
    "no certificate": (lambda doors: doors.tls("MTLS"), "tls", "SSL alert"),
    "certificate of a stranger": (lambda doors: doors.mutual("unknown"), "tls", "SSL alert"),
    "own certificate expired": (lambda doors: doors.mutual("outdated"), "tls", "SSL alert"),
    "wrong password by PLAIN": (lambda doors: doors.password("PLAIN", password="x"), "authentication", "Invalid"),
    "wrong password by SCRAM": (
        lambda doors: doors.password("SCRAM-SHA-512", password="x"),
        "authentication",
        "invalid credentials",
    ),
    "unknown user": (
        lambda doors: doors.password("SCRAM-SHA-256", name="nobody"),
        "authentication",
        "invalid credentials",
    ),
    "wrong client secret": (lambda doors: doors.token(secret="x"), "authentication", "401 (invalid_client)"),
    "TLS to a listener without": (
        lambda doors: KafkaSettings(doors.kafka.admin_servers, security=doors.tls().security),
        "tls",
        "PLAINTEXT broker listener",
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("way", WAYS_IN)
def test_every_library_comes_in_by_every_protocol_and_mechanism(doors: Doors, way: str, client: str) -> None:
    CLIENTS[client](WAYS_IN[way](doors))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_told_at_once_in_one_line_without_secrets(doors: Doors, case: str) -> None:
    make, reason, says = REFUSED[case]

    with pytest.raises(KafkaRefused) as caught:
        by_librdkafka(make(doors))

    assert caught.value.reason == reason
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert password_of("worker") not in str(caught.value)


@pytest.mark.parametrize("client", ["kafka-python", "aiokafka"])
@pytest.mark.parametrize("case", REFUSED)
def test_no_library_comes_in_where_it_is_refused(doors: Doors, case: str, client: str) -> None:
    with pytest.raises((KafkaUnavailable, aiokafka.errors.KafkaConnectionError)):
        CLIENTS[client](REFUSED[case][0](doors))


def talk_to_a_broker_of_another_name(doors: Doors, client: str) -> None:
    """What somebody does who has a certificate of ours for a host of his own, and is on the way to the broker."""
    CLIENTS[client](doors.tls("ELSEWHERE"))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broker_of_another_name_is_refused(doors: Doors, client: str) -> None:
    with pytest.raises((KafkaUnavailable, aiokafka.errors.KafkaConnectionError)):
        talk_to_a_broker_of_another_name(doors, client)


@pytest.mark.parametrize("client", CLIENTS)
def test_without_the_look_at_the_name_a_broker_of_another_name_is_believed(
    doors: Doors, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, options = kafka_security.ssl_context, kafka_security.librdkafka_options

    def unchecked(tls: kafka_security.Tls) -> ssl.SSLContext:
        context = checked(tls)
        context.check_hostname = False
        return context

    monkeypatch.setattr("streams.kafka_security.ssl_context", unchecked)
    monkeypatch.setattr("streams.app.ssl_context", unchecked)
    monkeypatch.setattr(
        kafka, "librdkafka_options", lambda it: options(it) | {"ssl.endpoint.identification.algorithm": "none"}
    )

    talk_to_a_broker_of_another_name(doors, client)


@pytest.mark.parametrize("settings", ["mutual", "password", "token"])
def test_no_secret_shows_where_settings_are_printed(doors: Doors, settings: str) -> None:
    made = {
        "mutual": doors.mutual("encrypted", KEY_PASSWORD),
        "password": doors.password("PLAIN"),
        "token": doors.token(),
    }[settings]

    shown = f"{made!r} {made}"

    assert KEY_PASSWORD not in shown
    assert password_of("worker") not in shown
    assert made.servers in shown


def test_a_topic_that_is_denied_is_refused_with_what_is_lacking(
    secured: SecuredKafka, doors: Doors, topic_prefix: str
) -> None:
    inputs, outputs, group = f"{topic_prefix}in", f"{topic_prefix}out", f"{topic_prefix}group"
    create_topics(KafkaSettings(secured.admin_servers), {inputs: {}, outputs: {}}, partitions=1, replication=1)
    needed = Needed([inputs], [outputs], group)

    for settings in (doors.mutual("stranger"), doors.password("SCRAM-SHA-512", "stranger"), doors.token("stranger")):
        with pytest.raises(KafkaRefused) as caught:
            check_rights(settings, needed)
        assert caught.value.reason == "authorization"
        assert f"READ on topic {inputs}, WRITE on topic {outputs}, READ on group {group}" in str(caught.value)
        with pytest.raises(KafkaRefused, match="Topic authorization failed"):
            publish_confirmed(settings, outputs, b"key", b"value", 5.0)

    secured.allow("stranger", ANY_TOPIC, inputs, [AclOperation.READ])
    secured.allow("stranger", ANY_TOPIC, outputs, [AclOperation.WRITE])
    secured.allow("stranger", ANY_GROUP, group, [AclOperation.READ])
    wait_until("the rights are in force", lambda: lacking_rights(doors.mutual("stranger"), needed) == [])
    publish_confirmed(doors.token("stranger"), outputs, b"key", b"value", 5.0)


def test_keys_at_a_logs_end_are_looked_at_without_a_right_to_any_group(
    secured: SecuredKafka, doors: Doors, topic_prefix: str
) -> None:
    owner, place = KafkaSettings(secured.admin_servers), (f"{topic_prefix}looked-at", 0)
    create_topics(owner, {place[0]: {}}, partitions=1, replication=1)
    publish_confirmed(owner, place[0], b"alice", b"{}", 5.0)
    reader = doors.mutual("administrator")
    with pytest.raises(KafkaRefused, match="cannot describe topic"):
        describe_topics(reader, [place[0]])

    secured.allow("administrator", ANY_TOPIC, place[0], [AclOperation.READ])

    wait_until("the right is in force", lambda: lacking_rights(reader, Needed([place[0]])) == [])
    assert newest_keys(reader, [place], 10) == [("alice", 0)]
    assert has_records(reader, place, 0, 1)


def test_creating_a_topic_without_the_right_is_refused(doors: Doors, topic_prefix: str) -> None:
    with pytest.raises(KafkaRefused, match=f"cannot create topic {topic_prefix}new"):
        create_topics(doors.mutual("stranger"), {f"{topic_prefix}new": {}}, partitions=1, replication=1)


def test_all_clients_of_a_login_share_one_token(doors: Doors) -> None:
    tokens_of.cache_clear()
    before = len(doors.kafka.tokens.asked)

    for client in CLIENTS.values():
        client(doors.token())

    asked = doors.kafka.tokens.asked[before:]
    assert asked == [{"grant_type": "client_credentials", "scope": "kafka"}]


def follow_a_redirect(doors: Doors) -> None:
    """The endpoint sends the client, with its secret, to another server."""
    tokens_of.cache_clear()
    doors.kafka.tokens.answer = (302, {"Location": "http://127.0.0.1:1/mine"}, b"")
    try:
        by_librdkafka(doors.token())
    finally:
        doors.kafka.tokens.answer = None
        tokens_of.cache_clear()


def test_a_token_endpoint_that_sends_elsewhere_is_refused(doors: Doors) -> None:
    with pytest.raises(KafkaRefused, match="answers 302: it sends elsewhere"):
        follow_a_redirect(doors)


def test_a_token_endpoint_that_is_away_is_waited_for_and_not_a_refusal(doors: Doors) -> None:
    tokens_of.cache_clear()
    doors.kafka.tokens.answer = (503, {}, b"later")
    try:
        with pytest.raises(KafkaUnavailable, match="answers 503") as caught:
            by_librdkafka(doors.token())
        with pytest.raises(aiokafka.errors.KafkaConnectionError):
            by_aiokafka(doors.token())
    finally:
        doors.kafka.tokens.answer = None
        tokens_of.cache_clear()

    assert not isinstance(caught.value, KafkaRefused)
