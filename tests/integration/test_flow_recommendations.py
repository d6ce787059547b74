"""Engagements through a whole worker: slates in SQL, Kafka and Redis, exact under kill -9, with a policy or without."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Row

from models.slates import conditionals, draw_slates, prefix_products
from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.shop_traffic import ITEMS, Shop, promote_policy, send_items, small_policy

#: A slate whose stored numbers do not add up to what was shown.
SLATES = """
SELECT r.recommendation_id, r.user_id, r.policy, r.cause, r.seed, r.candidates, r.log_weights, e.action,
    array_agg(i.item_id ORDER BY i.position) AS items, array_agg(i.propensity ORDER BY i.position) AS propensities,
    array_agg(i.prefix_propensity ORDER BY i.position) AS prefixes
FROM recommendations r
JOIN engagements e USING (day, topic_generation, source_partition, source_offset)
JOIN recommendation_items i USING (day, topic_generation, source_partition, source_offset)
GROUP BY r.recommendation_id, r.user_id, r.policy, r.cause, r.seed, r.candidates, r.log_weights, e.action,
    r.topic_generation, r.source_partition, r.source_offset
ORDER BY r.topic_generation, r.source_partition, r.source_offset
"""


def engagements(deployment: Deployment) -> str:
    return f"{deployment.prefix}engagements"


def catalogue_of(worker: WorkerProcess) -> float:
    return worker.metrics().get('headgate_catalogue_items{state="available"}', 0.0)


@pytest.fixture
def shop(deployment: Deployment) -> Shop:
    send_items(deployment)
    return Shop()


def relayed(deployment: Deployment) -> bool:
    """Whether both sinks have confirmed every slate."""
    behind = deployment.sql(
        """
        SELECT 1 FROM recommendations r CROSS JOIN (VALUES ('kafka'), ('redis')) AS sinks (sink)
        LEFT JOIN relay_cursors c ON c.outbox = 'recommendations' AND c.sink = sinks.sink
            AND c.topic_generation = r.topic_generation AND c.partition = r.source_partition
        WHERE c.position IS NULL OR c.position <= r.source_offset LIMIT 1
        """
    )
    return not behind


def first_of_each(stored: Sequence[Row[Any]]) -> set[str]:
    """The ids of each user's first slate, which an impression may ask for."""
    return {row.recommendation_id for row in {row.user_id: row for row in reversed(stored)}.values()}


def slate_in_redis(deployment: Deployment, user_id: str) -> dict[str, Any]:
    with deployment.redis() as client:
        found = client.get(f"{deployment.prefix}recs:{user_id}")
    return json.loads(found) if found else {}


@pytest.mark.timeout(240)
def test_every_engagement_that_tells_something_is_answered_everywhere(deployment: Deployment, shop: Shop) -> None:
    worker = deployment.worker().wait_ready()
    wait_until("the catalogue is taken in", lambda: catalogue_of(worker) == len(ITEMS))
    shop.send(deployment, 300)
    deployment.wait_outcomes(300, topic=engagements(deployment))
    policy = promote_policy(deployment, small_policy())
    wait_until("the policy is in use", lambda: worker.metrics()["headgate_policy_version"] == 1)
    shop.send(deployment, 600)
    deployment.wait_outcomes(900, topic=engagements(deployment))
    wait_until("slates are published", lambda: relayed(deployment))

    stored = deployment.sql(SLATES)
    assert {row.policy for row in stored} == {"popular", "random", policy}
    published = [json.loads(record.value) for record in deployment.records("recommendations")]
    assert {message["recommendation_id"] for message in published} == {row.recommendation_id for row in stored}
    assert len(published) == len(stored) > 100
    by_id = {message["recommendation_id"]: message for message in published}
    for row in stored:
        assert [item["item_id"] for item in by_id[row.recommendation_id]["items"]] == row.items
        assert len(set(row.items)) == len(row.items) == 6
    users = {row.user_id: row.recommendation_id for row in stored}
    for user_id, latest in users.items():
        assert slate_in_redis(deployment, user_id)["recommendation_id"] == latest
    assert (
        deployment.value("SELECT count(*) FROM recommendations WHERE cause NOT IN (SELECT event_id FROM engagements)")
        == 0
    )
    assert not deployment.faulty_partitions()


@pytest.mark.timeout(240)
def test_stored_propensities_are_those_of_the_stored_weights_and_draw(deployment: Deployment, shop: Shop) -> None:
    promote_policy(deployment, small_policy())
    worker = deployment.worker().wait_ready()
    wait_until("the catalogue is taken in", lambda: catalogue_of(worker) == len(ITEMS))
    shop.send(deployment, 300)
    deployment.wait_outcomes(300, topic=engagements(deployment))
    keys = {row.item_id: row.item_key for row in deployment.sql("SELECT item_id, item_key FROM items")}
    rows = deployment.sql(SLATES)
    assert any(row.policy.startswith("recommender:") for row in rows)
    for row in rows:
        candidates = np.frombuffer(row.candidates, "<i8").tolist()
        weights = np.frombuffer(row.log_weights, "<f4")[None]
        picks = np.array([[candidates.index(keys[item]) for item in row.items]], np.int16)
        given = conditionals(weights, picks)
        np.testing.assert_allclose(given[0], row.propensities, rtol=1e-6)
        np.testing.assert_allclose(prefix_products(given)[0], row.prefixes, rtol=1e-6)
    assert draw_slates(weights, np.full(weights.shape, 0.5), 6).shape == (1, 6)


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_when_workers_are_killed(deployment: Deployment, shop: Shop) -> None:
    promote_policy(deployment, small_policy())
    total = 0
    for number in range(3):
        worker = deployment.worker(f"worker-{number}").wait_ready()
        events = shop.send(deployment, 400)
        shop.send_again(deployment, events[:20])
        total += 420
        deployment.wait_outcomes(total - 350, topic=engagements(deployment))
        worker.kill()
    deployment.worker("last").wait_ready()
    deployment.wait_outcomes(total, topic=engagements(deployment))
    wait_until("slates are published", lambda: relayed(deployment))

    assert deployment.value("SELECT count(*) FROM engagements") == 1200
    assert deployment.value("SELECT count(DISTINCT event_id) FROM engagements") == 1200
    repeats = sum(row.duplicates for row in deployment.progress(engagements(deployment)).values())
    assert repeats == 60
    assert not deployment.faulty_partitions()
    doubled = "SELECT recommendation_id FROM recommendations GROUP BY recommendation_id HAVING count(*) > 1"
    assert not deployment.sql(doubled)
    published = {json.loads(record.value)["recommendation_id"] for record in deployment.records("recommendations")}
    assert published == {
        row.recommendation_id for row in deployment.sql("SELECT recommendation_id FROM recommendations")
    }


@pytest.mark.timeout(240)
def test_an_empty_catalogue_gives_no_slates_and_one_warning_in_health(deployment: Deployment) -> None:
    worker = deployment.worker().wait_ready()
    Shop().send(deployment, 50)
    deployment.wait_outcomes(50, topic=engagements(deployment))
    assert deployment.value("SELECT count(*) FROM recommendations") == 0
    (warning,) = worker.health()["warnings"]
    assert "catalogue is empty" in warning
    send_items(deployment)
    wait_until("the warning goes", lambda: not worker.health()["warnings"])
    Shop(seed=1).send(deployment, 50)
    deployment.wait_outcomes(100, topic=engagements(deployment))
    assert deployment.value("SELECT count(*) FROM recommendations") > 0


@pytest.mark.timeout(240)
def test_unknown_items_deleted_items_and_rubbish_harm_nothing(deployment: Deployment, shop: Shop) -> None:
    worker = deployment.worker().wait_ready()
    gone = tuple(item.item_id for item in ITEMS[:60])
    send_items(deployment, [], deleted=gone)
    wait_until("half of the items are gone", lambda: catalogue_of(worker) == 60)
    shop.send(deployment, 40, item_id="nobody knows it")
    producer = deployment.producer()
    for value in (b"{", b'{"event_id": "x"}', b'{"value": NaN}'):
        producer.produce(engagements(deployment), key=b"user-1", value=value)
    assert producer.flush(30) == 0
    shop.send(deployment, 100)
    deployment.wait_outcomes(143, topic=engagements(deployment))
    progress = deployment.progress(engagements(deployment)).values()
    assert sum(row.dead_letters for row in progress) == 3
    shown = {row.item_id for row in deployment.sql("SELECT DISTINCT item_id FROM recommendation_items")}
    assert shown
    assert not shown & set(gone)
    assert worker.metrics()["headgate_unknown_items_total"] >= 40
