"""Topics and brokers as the commands see them, on a real broker."""

import socket

import pytest

from streams.kafka import (
    SIZE_MARGIN,
    KafkaSettings,
    KafkaUnavailable,
    TopicMissing,
    check_broker,
    create_topics,
    delete_topics,
    describe_topics,
    producer,
    topic_configurations,
)
from streams.kafka_logs import has_records, log_bounds
from tests.deployment import wait_until
from tests.streams.topics import SECONDS, created, described

LIMIT = 100_000


def absent() -> KafkaSettings:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return KafkaSettings(f"127.0.0.1:{probe.getsockname()[1]}")


def test_topics_are_created_once_and_described_with_their_uuid(kafka_servers: str, topic_prefix: str) -> None:
    settings, wanted = KafkaSettings(kafka_servers), topic_configurations(topic_prefix, LIMIT)
    check_broker(settings)
    assert sorted(create_topics(settings, wanted, partitions=3, replication=1)) == sorted(wanted)
    assert create_topics(settings, wanted, partitions=3, replication=1) == []
    topics = created(kafka_servers, wanted, partitions=3)
    assert {topic.partitions for topic in topics.values()} == {3}
    assert len({topic.uuid for topic in topics.values()}) == len(wanted)
    assert describe_topics(settings, wanted) == topics


def test_a_topic_that_was_created_anew_has_another_uuid(kafka_servers: str, topic_prefix: str) -> None:
    settings, name = KafkaSettings(kafka_servers), f"{topic_prefix}transactions"
    first = created(kafka_servers, {name: {}})[name]
    delete_topics(settings, [name])
    wait_until(f"{name} is gone", lambda: described(kafka_servers, name) is None, SECONDS)
    delete_topics(settings, [name])  # no error
    with pytest.raises(TopicMissing, match="headgate topics create"):
        describe_topics(settings, [name])
    assert created(kafka_servers, {name: {}})[name].uuid != first.uuid


def test_a_record_just_above_the_size_limit_still_arrives_to_become_a_dead_letter(
    kafka_servers: str, topic_prefix: str
) -> None:
    name = f"{topic_prefix}transactions"
    created(kafka_servers, topic_configurations(topic_prefix, LIMIT))
    errors: list[object] = []
    sender = producer(KafkaSettings(kafka_servers))
    for size in (LIMIT + 1, LIMIT + SIZE_MARGIN + 1):
        sender.produce(name, b"x" * size, on_delivery=lambda error, _: errors.append(error and error.name()))
    assert sender.flush(20) == 0
    assert errors == [None, "MSG_SIZE_TOO_LARGE"]


def test_the_ends_of_transactions_and_what_they_aborted_are_no_records(kafka_servers: str, topic_prefix: str) -> None:
    settings, place = KafkaSettings(kafka_servers), (f"{topic_prefix}transactions", 0)
    created(kafka_servers, {place[0]: {}})
    sender = producer(settings, **{"transactional.id": topic_prefix})
    sender.init_transactions(SECONDS)
    for commits in (True, False):
        sender.begin_transaction()
        for _ in range(3):
            sender.produce(place[0], b"x", partition=place[1])
        sender.flush(SECONDS)
        (sender.commit_transaction if commits else sender.abort_transaction)(SECONDS)
    _, end = log_bounds(settings, [place])[place]
    assert end == 8
    assert {first: has_records(settings, place, first, end) for first in (0, 2, 3, 4, 7)} == {
        0: True,
        2: True,
        3: False,
        4: False,
        7: False,
    }
    sender.begin_transaction()
    sender.produce(place[0], b"x", partition=place[1])
    sender.commit_transaction(SECONDS)
    assert has_records(settings, place, 3, 10)
    assert not has_records(settings, place, 3, end), "what came after the look at the log's end"


def test_a_broker_that_is_absent_is_said_to_be_so_with_its_address() -> None:
    settings = absent()
    with pytest.raises(KafkaUnavailable, match=settings.servers):
        check_broker(settings, timeout=0.5)
