"""Kafka clients for everyone who needs one, and what must be known of topics.

One place builds producers, admin clients and the readers' consumers from one set of settings; the member of the
consumer group is the Faust transport's. How they log in is kafka_security.py's.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.admin import KafkaAdminClient
from kafka.errors import GroupAuthorizationFailedError
from kafka.errors import KafkaError as KafkaPythonError

from streams.kafka_refusals import Reason, refusal_of
from streams.kafka_security import KafkaSecurity, certificate_problem, kafka_python_options, librdkafka_options
from streams.kafka_tokens import TokenLogin, TokenRefused, TokenUnavailable, tokens_of

REQUEST_SECONDS = 15.0
#: For a first answer of a broker; what the client complains of meanwhile is listened to after these, and twice that.
CONNECT_SECONDS = 5.0
LISTEN_SECONDS = 0.25
#: For the answers about records that were given up.
PURGE_SECONDS = 1.0
#: For the reason why nothing was confirmed.
REASON_SECONDS = 1.0
#: Room above the record size limit, so that a record just above it arrives and becomes a dead letter.
SIZE_MARGIN = 1_048_576


#: What a topic's reader holds of records that wait, beyond which it fetches no more; what a fetch brings (8 MiB, before
#: it is unpacked) comes on top.
QUEUED_KILOBYTES = 32_768


class KafkaUnavailable(Exception):
    """No broker answered at the configured address."""


class KafkaRefused(KafkaUnavailable):
    """A broker answered, and does not accept us, or we do not trust it, or may not do this. reason: for metrics."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TopicMissing(Exception):
    """A topic that Headgate reads or writes does not exist."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Everything that a client has to know; shows no secret."""

    servers: str
    client_id: str = "headgate"
    security: KafkaSecurity = field(default_factory=KafkaSecurity)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    name: str
    uuid: str
    partitions: int


#: Hears what a client of librdkafka complains of, each time that it is polled: it tries on for ever.
OnError = Callable[[KafkaError], object]


def client_options(settings: KafkaSettings, on_error: OnError | None) -> dict[str, Any]:
    """on_error: None where nobody polls the client all the time, since what is not heard is kept."""
    return {
        "bootstrap.servers": settings.servers,
        "client.id": settings.client_id,
        **({} if on_error is None else {"error_cb": on_error}),
        **librdkafka_options(settings.security),
    }


def producer(settings: KafkaSettings, **overrides: object) -> Producer:
    """An idempotent producer that does not linger: for alerts, not for bulk. What it is refused its deliveries tell."""
    return Producer(
        {
            **client_options(settings, None),
            "enable.idempotence": True,
            "linger.ms": 0,
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": 20_000,
            "message.max.bytes": 8_000_000,
            "log_level": 2,
            **overrides,
        },
        logger=None,
    )


def records_consumer(settings: KafkaSettings, group: str, on_error: OnError | None = None) -> Consumer:
    """Reads what it is told to, committed records only, and joins no group: its name is for permissions and logs. It
    reports the end of each log, and a position outside of it instead of going on elsewhere."""
    return Consumer(
        {
            **client_options(settings, on_error),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "check.crcs": True,
            "queued.max.messages.kbytes": QUEUED_KILOBYTES,
            "fetch.message.max.bytes": 1_048_576,
            "fetch.max.bytes": 8 * 1_048_576,
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1_000,
            "log_level": 2,
        }
    )


def admin_client(settings: KafkaSettings, timeout: float = CONNECT_SECONDS) -> AdminClient:
    """One that has reached a broker and was accepted. Raises KafkaUnavailable, and KafkaRefused as soon as a broker
    refuses or is not trusted."""
    _check_token(settings)
    heard: list[KafkaError] = []
    try:
        client = AdminClient({**client_options(settings, heard.append), "log_level": 0})
    except KafkaException as error:
        raise KafkaUnavailable(f"no Kafka client can be made: {error.args[0].str()}") from None
    deadline, patience = time.monotonic() + timeout, LISTEN_SECONDS
    while True:
        try:
            client.list_topics(timeout=min(patience, timeout))
            return client
        except KafkaException as error:
            client.poll(0)
            for each in heard:
                if refusal_of(each) is not None:
                    raise refused(settings, each) from None
            if time.monotonic() >= deadline:
                reason = error.args[0].str()
                raise KafkaUnavailable(f"no Kafka broker answers at {settings.servers}: {reason}") from None
        patience = max(min(2 * patience, deadline - time.monotonic()), LISTEN_SECONDS)


def _check_token(settings: KafkaSettings) -> None:
    """Before librdkafka asks for one, which does not tell an endpoint that is away from one that refuses."""
    if isinstance(settings.security.login, TokenLogin):
        try:
            tokens_of(settings.security.login).current()
        except TokenRefused as error:
            raise KafkaRefused("authentication", str(error)) from None
        except TokenUnavailable as error:
            raise KafkaUnavailable(str(error)) from None


def refused(settings: KafkaSettings, error: KafkaError, what: str = "") -> KafkaUnavailable:
    """The error in words; KafkaRefused where it is a refusal. what: was not possible."""
    refusal, tls = refusal_of(error), settings.security.tls
    if refusal is None:
        return KafkaUnavailable(f"{what}: {error.str()}")
    if refusal.reason == "tls" and tls is not None:
        text = certificate_problem(settings.servers, tls) or refusal.text
        return KafkaRefused("tls", f"no trusted connection to Kafka at {settings.servers}: {text}")
    if refusal.reason == "authentication":
        return KafkaRefused("authentication", f"Kafka at {settings.servers} does not let us in: {refusal.text}")
    return KafkaRefused(refusal.reason, f"Kafka at {settings.servers} refuses: {what}: {refusal.text}")


class _GroupAdmin(KafkaAdminClient):  # type: ignore[misc]  # kafka-python has no types
    """kafka-python's, which leaves its thread and its sockets behind when it does not come in."""

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except BaseException:
            if hasattr(self, "_net"):
                self._closed = False
                with suppress(KafkaPythonError, OSError, RuntimeError):  # what it was refused for says more
                    self.close()
            raise


@contextmanager
def group_admin(settings: KafkaSettings, timeout: float) -> Iterator[KafkaAdminClient]:
    """kafka-python's client, for what librdkafka does not offer. Raises KafkaUnavailable for all that goes wrong."""
    try:
        admin = _GroupAdmin(
            bootstrap_servers=[server.strip() for server in settings.servers.split(",")],
            client_id=settings.client_id,
            request_timeout_ms=round(timeout * 1000),
            bootstrap_timeout_ms=round(timeout * 1000),
            **kafka_python_options(settings.security),
        )
        try:
            yield admin
        finally:
            admin.close()
    except GroupAuthorizationFailedError as error:
        raise KafkaRefused("authorization", f"Kafka at {settings.servers} refuses: {error}") from None
    except (KafkaPythonError, OSError, TokenUnavailable) as error:
        raise KafkaUnavailable(f"Kafka at {settings.servers}: {error}") from error


def check_broker(settings: KafkaSettings, timeout: float = CONNECT_SECONDS) -> None:
    """Raises as admin_client."""
    admin_client(settings, timeout)


def publish_confirmed(settings: KafkaSettings, topic: str, key: bytes, value: bytes, seconds: float) -> None:
    """Sends one record and waits until all replicas in sync have it. Raises KafkaUnavailable after so many seconds;
    what was not on its way by then is not sent later."""
    answers: list[KafkaError | None] = []

    def answered(error: KafkaError | None, _message: object) -> None:
        answers.append(error)

    _check_token(settings)
    own = producer(settings, **{"delivery.timeout.ms": max(round(seconds * 1000), 1)})
    own.produce(topic, value, key, on_delivery=answered)
    if own.flush(seconds):
        own.purge()
        own.flush(PURGE_SECONDS)
    if not answers or answers[0] is not None:  # compared with == it leaves an exception behind
        what = f"{settings.servers} did not confirm a record of {topic}"
        error = answers[0] if answers else None
        if error is not None and refusal_of(error) is not None:
            raise refused(settings, error, what)
        check_broker(settings, REASON_SECONDS)
        raise KafkaUnavailable(f"{what}: {'no answer' if error is None else error.str()}")


def describe_topics(settings: KafkaSettings, names: Iterable[str]) -> dict[str, TopicDescription]:
    """The topics' UUIDs and partition counts; raises TopicMissing."""
    wanted = sorted(set(names))
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.describe_topics(TopicCollection(wanted), request_timeout=REQUEST_SECONDS)
    described = {}
    for name in wanted:
        try:
            topic = futures[name].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(f"topic {name} does not exist; run `headgate topics create`") from None
            raise refused(settings, error.args[0], f"cannot describe topic {name}") from None
        described[name] = TopicDescription(name, str(topic.topic_id), len(topic.partitions))
    return described


def create_topics(
    settings: KafkaSettings, topics: Mapping[str, Mapping[str, str]], *, partitions: int, replication: int
) -> list[str]:
    """Creates those that are missing (name -> topic configuration); returns the created names."""
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.create_topics(
        [
            NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config))
            for name, config in topics.items()
        ],
        request_timeout=REQUEST_SECONDS,
    )
    created = []
    for name, future in futures.items():
        try:
            future.result(REQUEST_SECONDS)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise refused(settings, error.args[0], f"cannot create topic {name}") from None
    return created


def delete_topics(settings: KafkaSettings, names: Iterable[str]) -> None:
    """Deletes topics with all that is in them; one that is gone already is no error."""
    admin = admin_client(settings)  # kept until the answers are in
    futures = admin.delete_topics(list(names), request_timeout=REQUEST_SECONDS)
    for name, future in futures.items():
        try:
            future.result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise refused(settings, error.args[0], f"cannot delete topic {name}") from None


def topic_configurations(prefix: str, record_size_limit: int) -> dict[str, dict[str, str]]:
    """Every topic of the contract that this version reads or writes, with its configuration."""
    sized = {"max.message.bytes": str(record_size_limit + SIZE_MARGIN)}
    return {
        f"{prefix}transactions": sized,
        f"{prefix}engagements": sized,
        f"{prefix}items": sized | {"cleanup.policy": "compact"},
        f"{prefix}feedback": sized,
        f"{prefix}alerts": sized,
        f"{prefix}recommendations": {},
        f"{prefix}predictions": {},
        f"{prefix}dead-letters": sized,
        f"{prefix}model-updates": {"cleanup.policy": "compact"},
    }
