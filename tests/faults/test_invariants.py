"""The checks of the fault benchmark complain: each breach is planted in real topics, SQL and Redis."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from ops.bench.faults.audit import Auditor, settled
from ops.bench.faults.load import Load, Rates
from ops.bench.faults.world import knows_items
from tests.deployment import Deployment, wait_until
from tests.shop_traffic import promote_policy, small_policy

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


def move_a_score(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "predictions WHERE NOT flagged", 9)
    sql(deployment, "UPDATE predictions SET score = score * 0.9 + 0.0003 WHERE event_id = :id", id=event_id)


def name_another_model(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "predictions WHERE NOT flagged", 12)
    sql(deployment, "UPDATE predictions SET model = 'fraud:9' WHERE event_id = :id", id=event_id)


def score_an_accounts_events_in_another_order(deployment: Deployment) -> None:
    sql(
        deployment,
        "UPDATE predictions SET scored_at = scored_at + interval '1 day' WHERE event_id = (SELECT p.event_id "
        "FROM predictions p JOIN predictions q USING (account_id) WHERE p.source_offset < q.source_offset LIMIT 1)",
    )


def lose_an_engagement(deployment: Deployment) -> None:
    (event_id,) = nth(deployment, "event_id", "engagements WHERE action = 'impression'", 0)
    sql(deployment, "DELETE FROM engagements WHERE event_id = :id", id=event_id)


def lose_a_slate(deployment: Deployment) -> None:
    """Of a user who got none later."""
    row = deployment.sql("SELECT recommendation_id, user_id FROM recommendations ORDER BY made_at DESC LIMIT 1")[0]
    sql(deployment, "DELETE FROM recommendations WHERE recommendation_id = :id", id=row.recommendation_id)


def lose_an_item_of_a_slate(deployment: Deployment) -> None:
    (slate,) = nth(deployment, "recommendation_id", "recommendations", 5)
    sql(deployment, "DELETE FROM recommendation_items WHERE recommendation_id = :id AND position = 2", id=slate)


def change_a_propensity(deployment: Deployment) -> None:
    (slate,) = nth(deployment, "recommendation_id", "recommendations", 10)
    change = "UPDATE recommendation_items SET propensity = propensity * 0.9 WHERE recommendation_id = :id"
    sql(deployment, f"{change} AND position = 1", id=slate)


def change_what_a_policy_thought(deployment: Deployment) -> None:
    (slate,) = nth(deployment, "recommendation_id", "recommendations WHERE policy LIKE 'recommender:%'", 15)
    sql(deployment, "UPDATE recommendation_items SET score = score + 0.01 WHERE recommendation_id = :id", id=slate)


def set_a_users_slate_back(deployment: Deployment) -> None:
    with deployment.redis() as client:
        key = next(iter(client.scan_iter(f"{deployment.prefix}recs:*")))
        client.set(key, json.dumps({"recommendation_id": "an old one"}))


def take_an_item_back(deployment: Deployment) -> None:
    sql(deployment, "UPDATE items SET price = price + 1 WHERE item_id = 'item-50'")


#: Each breach and what is said of it.
PLANTS: list[tuple[Plant, tuple[str, ...]]] = [
    (lose_a_prediction, ("no prediction",)),
    (lose_an_applied_record, ("outcome none, expected ['applied']", "progress counts")),
    (apply_a_record_in_anothers_place, ("applied with 'other'",)),
    (count_an_applied_record_as_a_duplicate_too, ("outcome ['applied', 'duplicate']",)),
    (count_one_outcome_more, ("-1], there are",)),
    (move_past_the_log, ("the log ends at",)),
    (lose_a_label, ("feedback (",)),
    (lose_a_dead_letter, ("outcome none, expected ['dead letter']", "in Kafka, not in SQL")),
    (move_a_score, ("undisturbed",)),
    (name_another_model, ("scored by fraud:9",)),
    (score_an_accounts_events_in_another_order, ("was scored before",)),
    (lose_an_engagement, ("engagements (",)),
    (lose_a_slate, ("asks for a slate and got none", "in Kafka, not in SQL")),
    (lose_an_item_of_a_slate, ("positions [1, 3",)),
    (change_a_propensity, ("propensities are not those of its weights",)),
    (change_what_a_policy_thought, ("its scores are not those of an undisturbed run",)),
    (set_a_users_slate_back, ("slate an old one in Redis",)),
    (take_an_item_back, ("SQL has not its latest record",)),
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


@pytest.mark.timeout(240)
def test_nothing_is_wrong_until_a_breach_is_planted_and_each_is_found(deployment: Deployment) -> None:
    promote_policy(deployment, small_policy())
    load = Load(deployment, rates=Rates(300, 150), seed=5)
    load.send_items()
    worker = deployment.worker().wait_ready()
    wait_until("the items are in the catalogue", lambda: knows_items(worker))
    with load:
        deployment.wait_outcomes(900)
        deployment.wait_outcomes(500, topic=f"{deployment.prefix}engagements")
        load.stop()
    assert settled(deployment, 60) == []
    assert worker.stop() == 0
    findings = Auditor.of(deployment).check()
    assert list(findings.violations) == []
    assert min(findings.records, findings.alert_revisions, findings.slates) > 0

    before: set[str] = set()
    for plant, complaints in PLANTS:
        plant(deployment)
        found = {str(violation) for violation in Auditor.of(deployment).check().violations}
        new, before = found - before, found
        for complaint in complaints:
            assert any(complaint in violation for violation in new), f"{plant.__name__}: {sorted(new)[:10]}"
