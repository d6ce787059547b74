"""The checks of tests/faults/invariants.py complain: each breach is planted in real topics, SQL and Redis."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from tests.deployment import Deployment
from tests.faults.invariants import collect, figures, violations
from tests.faults.load import Load

Plant = Callable[[Deployment], None]


def sql(deployment: Deployment, statement: str, **values: Any) -> None:
    with deployment.database.begin() as connection:
        assert connection.execute(text(statement), values).rowcount > 0


def nth(deployment: Deployment, columns: str, table: str, number: int) -> tuple[Any, ...]:
    """One row of a table, a different one for each number, so that breaches do not hide each other."""
    return tuple(deployment.sql(f"SELECT {columns} FROM {table} ORDER BY {columns} LIMIT 1 OFFSET {number}")[0])


def lose_a_prediction(deployment: Deployment) -> None:
    partition, offset = nth(deployment, "source_partition, source_offset", "predictions WHERE NOT flagged", 0)
    place = "source_partition = :partition AND source_offset = :offset"
    sql(deployment, f"DELETE FROM predictions WHERE {place}", partition=partition, offset=offset)


def lose_an_applied_record(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "predictions WHERE NOT flagged", 3)
    sql(deployment, "DELETE FROM predictions WHERE event_id = :id", id=event_id)
    sql(deployment, "DELETE FROM transactions WHERE event_id = :id", id=event_id)


def apply_a_record_in_anothers_place(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "predictions WHERE NOT flagged", 6)
    sql(deployment, "UPDATE transactions SET event_id = 'other' WHERE event_id = :id", id=event_id)


def count_an_applied_record_as_a_duplicate_too(deployment: Deployment) -> None:
    columns = "day, topic_generation, source_partition, source_offset, event_id"
    sql(
        deployment,
        f"INSERT INTO duplicates ({columns}, entity_id, occurred_at, recorded_at) SELECT {columns}, account_id, "
        "occurred_at, recorded_at FROM transactions ORDER BY source_offset DESC LIMIT 1",
    )


def count_one_outcome_more(deployment: Deployment) -> None:
    sql(
        deployment,
        "UPDATE stream_progress SET applied = applied + 1, gaps = gaps - 1 WHERE topic = :topic AND partition = 0",
        topic=deployment.transactions,
    )


def move_past_the_log(deployment: Deployment) -> None:
    sql(
        deployment,
        "UPDATE stream_progress SET next_offset = next_offset + 1 WHERE topic = :topic AND partition = 1",
        topic=deployment.transactions,
    )


def lose_a_label(deployment: Deployment) -> None:
    sql(deployment, "DELETE FROM feedback WHERE feedback_id = :id", id=nth(deployment, "feedback_id", "feedback", 0)[0])


def lose_a_dead_letter(deployment: Deployment) -> None:
    partition, offset = nth(deployment, "source_partition, source_offset", "dead_letters", 0)
    place = "source_partition = :partition AND source_offset = :offset"
    sql(deployment, f"DELETE FROM dead_letters WHERE {place}", partition=partition, offset=offset)


def forget_a_flagged_event(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "predictions WHERE flagged", 0)
    sql(deployment, "UPDATE predictions SET flagged = false WHERE event_id = :id", id=event_id)


def change_a_stored_alert(deployment: Deployment) -> None:
    (alert_id,) = nth(deployment, "alert_id", "alerts", 0)
    sql(deployment, "UPDATE alerts SET score = 0.123 WHERE alert_id = :id", id=alert_id)


def add_a_redis_entry_twice(deployment: Deployment) -> None:
    with deployment.redis() as client:
        client.xadd(f"{deployment.prefix}alerts", deployment.redis_stream()[0])


def lose_a_redis_entry(deployment: Deployment) -> None:
    with deployment.redis() as client:
        entry = client.xrange(f"{deployment.prefix}alerts", count=2)[1][0]  # the first is there twice by now
        assert client.xdel(f"{deployment.prefix}alerts", entry) == 1


def set_a_redis_hash_back(deployment: Deployment) -> None:
    with deployment.redis() as client:
        key = next(client.scan_iter(f"{deployment.prefix}alert:*"))
        client.hset(key, "revision", 0)


def publish_an_alert_again_with_another_content(deployment: Deployment) -> None:
    record = deployment.records("alerts")[0]
    send(deployment, "alerts", record.key, json.loads(record.value) | {"severity": "low", "score": 0.0})


def publish_an_unknown_alert(deployment: Deployment) -> None:
    record = deployment.records("alerts")[0]
    send(deployment, "alerts", record.key, json.loads(record.value) | {"alert_id": "unheard of", "revision": 1})


def drop_alert_messages(deployment: Deployment) -> None:
    topic = f"{deployment.prefix}alerts"
    places = [TopicPartition(topic, number, 1) for number in range(deployment.partitions)]
    admin = AdminClient({"bootstrap.servers": deployment.kafka})  # kept until the answers are in
    for done in admin.delete_records(places).values():
        done.result(10)


def send(deployment: Deployment, topic: str, key: bytes, message: Any) -> None:
    producer = deployment.producer()
    producer.produce(f"{deployment.prefix}{topic}", key=key, value=json.dumps(message))
    assert producer.flush(10) == 0


#: Each breach and what is said of it.
PLANTS: list[tuple[Plant, tuple[str, ...]]] = [
    (lose_a_prediction, ("no prediction",)),
    (lose_an_applied_record, ("outcome none, expected ['applied']", "progress counts")),
    (apply_a_record_in_anothers_place, ("applied with 'other'",)),
    (count_an_applied_record_as_a_duplicate_too, ("outcome ['applied', 'duplicate']",)),
    (count_one_outcome_more, ("and -1 gaps, there are",)),
    (move_past_the_log, ("the log ends at",)),
    (lose_a_label, ("feedback (",)),
    (lose_a_dead_letter, ("outcome none, expected ['dead letter']", "in Kafka, not in SQL")),
    (forget_a_flagged_event, ("its prediction names None",)),
    (
        change_a_stored_alert,
        ("Kafka and SQL differ in ['score']", "stream and SQL differ in ['score']", "hash and SQL differ in ['score']"),
    ),
    (add_a_redis_entry_twice, ("2 times in the Redis stream",)),
    (lose_a_redis_entry, ("in SQL, not in the Redis stream",)),
    (set_a_redis_hash_back, ("the Redis hash has revision 0",)),
    (publish_an_alert_again_with_another_content, ("repeated in Kafka with another content",)),
    (publish_an_unknown_alert, ("in Kafka, not in SQL",)),
    (drop_alert_messages, ("in SQL, not in Kafka",)),
]


@pytest.mark.timeout(180)
def test_nothing_is_wrong_until_a_breach_is_planted_and_each_is_found(deployment: Deployment) -> None:
    with Load(deployment, rate=300, seed=5, frauds=0.05) as load:
        worker = deployment.worker()
        deployment.wait_outcomes(900)
        load.stop()
        deployment.wait_outcomes(load.transactions)
        deployment.wait_outcomes(load.feedback, topic=deployment.feedback)
    deployment.wait_relayed()
    assert worker.stop() == 0
    evidence = collect(deployment)
    assert violations(evidence) == []
    counts = figures(evidence)
    assert min(counts.applied, counts.duplicates, counts.dead_letters, counts.alert_revisions) > 0

    for plant, complaints in PLANTS:
        before = set(violations(evidence))
        plant(deployment)
        evidence = collect(deployment)
        new = set(violations(evidence)) - before
        for complaint in complaints:
            assert any(complaint in violation for violation in new), f"{plant.__name__}: {sorted(new)[:10]}"
