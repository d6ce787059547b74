"""Simulated traffic through a real broker: keyed by account, and without a single dead letter when decoded."""

import os
import signal
import threading
import time

import pytest

from ops.simulate import kafka
from ops.simulate.cards import SimulatedTransactions, SimulationConfig, simulate
from ops.simulate.kafka import KafkaOutput, Produced
from ops.simulate.labels import LabelDelay, Labels, labels_of
from streams.kafka import KafkaSettings, KafkaUnavailable, TopicMissing, create_topics
from tests.ops.simulate.topics import Topics

DAY = 86_400_000


def history_until_now() -> tuple[SimulatedTransactions, Labels]:
    now = time.time_ns() // 1_000_000
    config = SimulationConfig(
        accounts=100, merchants=40, start=now - 30 * DAY, end=now - 8 * DAY, events=3_000, fraud_share=0.1
    )
    transactions = simulate(config)
    return transactions, labels_of(transactions, LabelDelay(0, 7 * DAY))


def test_everything_arrives_and_decodes_without_dead_letters(kafka_servers: str, topic_prefix: str) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    transactions, labels = history_until_now()

    with KafkaOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix) as output:
        output.send(transactions, labels)
        produced = output.flush()

    assert produced == Produced(3_000, 3_000)
    decoded, feedback = topics.transactions(), topics.feedback()
    assert [part.dead for part in (*decoded, *feedback)] == [[]] * 4
    assert sorted(event for part in decoded for event in part.event_id) == transactions.event_ids()
    given = {m.event_id: m.label for part in feedback for m in part.messages}
    assert given == dict(zip(labels.event_ids(), labels.label_names(), strict=True))


def test_keys_are_accounts_whose_order_is_kept(kafka_servers: str, topic_prefix: str) -> None:
    topics = Topics.created(kafka_servers, topic_prefix)
    transactions, labels = history_until_now()

    with KafkaOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix) as output:
        output.send(transactions, labels)

    first, second = topics.transactions()
    assert set(first.account_id) & set(second.account_id) == set()
    assert len(first) > 0 < len(second)
    assert first.event_id == sorted(first.event_id)
    account = dict(zip(transactions.event_ids(), transactions.columns()["account_id"], strict=True))
    for part in topics.feedback():
        assert part.entity_id == [account[str(message.event_id)] for message in part.messages]


def test_a_missing_topic_is_one_clear_error(kafka_servers: str, topic_prefix: str) -> None:
    create_topics(KafkaSettings(kafka_servers), {f"{topic_prefix}transactions": {}}, partitions=1, replication=1)

    with pytest.raises(
        TopicMissing, match=f"topic {topic_prefix}feedback does not exist; run `headgate topics create`"
    ):
        KafkaOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix)


def test_a_message_that_the_broker_refuses_fails_the_output(kafka_servers: str, topic_prefix: str) -> None:
    """Its topic takes only tiny messages."""
    small = {"max.message.bytes": "10"}
    wanted = {f"{topic_prefix}transactions": small, f"{topic_prefix}feedback": small}
    create_topics(KafkaSettings(kafka_servers), wanted, partitions=1, replication=1)
    transactions, labels = history_until_now()

    with (
        pytest.raises(KafkaUnavailable, match=f"a message for {topic_prefix}[a-z]+ was not delivered to .* too large"),
        KafkaOutput(KafkaSettings(kafka_servers), topic_prefix=topic_prefix) as output,
    ):
        output.send(transactions, labels)


@pytest.mark.timeout(15)
def test_ctrl_c_ends_the_wait_for_a_broker_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "describe_topics", lambda settings, topics: None)
    monkeypatch.setattr(kafka, "check_rights", lambda settings, needed: None)
    output = KafkaOutput(KafkaSettings("127.0.0.1:9"))
    output.produce("transactions", [("a1", b"{}")])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
    ctrl_c = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    ctrl_c.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            output.deliver()
    finally:
        ctrl_c.join()
        signal.signal(signal.SIGINT, before)
    output._producer.purge()
