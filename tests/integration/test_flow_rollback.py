"""A model that turns bad in use is taken back by running workers; a shadow scores each event once, through a kill."""

import json
import time
from typing import Any

import numpy as np
import pytest

from models.artifact import TrainedDetector
from storage.registry import ModelRecord, ModelRegistry
from streams.detection import MODEL_NAME
from tests.deployment import Deployment, wait_until
from tests.fraud_model import small_detector, transaction
from tests.integration.test_flow_swap import (
    BEGAN_BEFORE,
    NOTHING_MATURES,
    PACE,
    TOLERANCE,
    Past,
    controls,
    offline,
    register,
    scored_by,
)
from tests.models.broken import broken_above
from tests.offline import greatest_difference, live_scores

#: Far above what the traffic has; the model's trial meets none such.
NEVER_SEEN = 50_000.0


@pytest.fixture(scope="session")
def turns_bad() -> bytes:
    """A good detector until an amount is larger than any that it was tried with."""
    return broken_above(NEVER_SEEN, TrainedDetector.from_bytes(small_detector(hidden=24, seed=1))).to_bytes()


def send_large_payment(deployment: Deployment, traffic: Past) -> None:
    at = round(time.time() * 1000) - BEGAN_BEFORE + traffic.sent * PACE
    key, value = transaction("large", "a5", at, 4 * NEVER_SEEN)
    producer = deployment.producer()
    producer.produce(deployment.transactions, key=key, value=value)
    assert producer.flush(30) == 0
    traffic.sent += 1


def champion(deployment: Deployment) -> ModelRecord:
    found = ModelRegistry(deployment.database, str(deployment.models)).champion(MODEL_NAME)
    assert found is not None
    return found


def announced(deployment: Deployment) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in deployment.records("model-updates")]


@pytest.mark.timeout(240)
def test_a_model_that_turns_bad_in_use_is_rolled_back_and_no_event_is_lost_doubled_or_left_without_a_score(
    deployment: Deployment, detector: bytes, turns_bad: bytes
) -> None:
    traffic = Past(seed=11)
    workers = [deployment.worker(name, **NOTHING_MATURES).wait_ready() for name in ("one", "two")]
    with deployment.redis() as client, client.pubsub() as operator:
        operator.subscribe(f"{deployment.prefix}operator")
        traffic.send(deployment, 1_000)
        deployment.wait_outcomes(1_000)
        assert deployment.headgate("models", "promote", register(deployment, turns_bad)).returncode == 0

        def both_score_with(model: str) -> bool:
            traffic.send(deployment, 100)
            latest = deployment.sql(
                "SELECT DISTINCT ON (source_partition) model FROM predictions "
                "ORDER BY source_partition, source_offset DESC"
            )
            return [row.model for row in latest] == [model, model]

        wait_until("the promoted model scores", lambda: both_score_with("fraud:2"), 60)
        send_large_payment(deployment, traffic)
        wait_until("the model is rolled back", lambda: champion(deployment).version == 1, 60)
        wait_until("both workers follow", lambda: both_score_with("fraud:1"), 60)
        deployment.wait_outcomes(traffic.sent)
        heard = wait_until("the operator hears", lambda: operator.get_message(True, timeout=1), 20)
    assert heard is not None
    message = json.loads(heard["data"])["message"]
    assert message.startswith("model fraud:2 is taken back: 1 of ")
    assert message.endswith("scores in a batch are no numbers; fraud:1 goes on")

    scores = [score for (score,) in deployment.sql("SELECT score FROM predictions")]
    assert len(scores) == traffic.sent
    assert np.isfinite(scores).all()
    assert deployment.faulty_partitions() == []
    assert [model for (model,) in deployment.sql("SELECT model FROM predictions WHERE event_id = 'large'")] == [
        "fraud:1"
    ]
    assert {partition: [model for _, model in each] for partition, each in controls(deployment).items()} == {
        0: ["fraud:1", "fraud:2", "fraud:1"],
        1: ["fraud:1", "fraud:2", "fraud:1"],
    }
    expected = {place: score for place, score, _ in offline(deployment, {"fraud:1": detector, "fraud:2": turns_bad})}
    assert greatest_difference(live_scores(deployment), expected) < TOLERANCE

    back = champion(deployment)
    assert back.promoted_why is not None
    assert back.promoted_why.startswith("automatic rollback from fraud:2: 1 of ")
    rolled_back = 'headgate_model_swaps_total{outcome="rolled_back"}'
    assert sum(worker.metrics().get(rolled_back, 0) for worker in workers) == 1
    updates = wait_until("the change is announced", lambda: (found := announced(deployment))[2:] and found, 30)
    assert [update["version"] for update in updates] == [1, 2, 1]
    assert updates[2]["why"] == back.promoted_why
    assert "Traceback" not in "".join(worker.output() for worker in workers)


@pytest.mark.timeout(240)
def test_a_shadow_scores_every_event_once_from_its_start_on_through_a_kill_and_alerts_nobody(
    deployment: Deployment, turns_bad: bytes
) -> None:
    traffic = Past(seed=12)
    worker = deployment.worker(**NOTHING_MATURES).wait_ready()
    traffic.send(deployment, 500)
    deployment.wait_outcomes(500)
    assert deployment.headgate("models", "shadow", register(deployment, turns_bad)).returncode == 0

    def goes_on() -> bool:
        traffic.send(deployment, 100)
        found = deployment.sql("SELECT source_partition FROM shadow_predictions GROUP BY 1 HAVING count(*) > 200")
        return len(found) == 2

    wait_until("the shadow scores", goes_on, 60)
    traffic.send(deployment, 1_000)
    worker.kill()
    traffic.send(deployment, 1_000)
    again = deployment.worker(**NOTHING_MATURES).wait_ready()
    deployment.wait_outcomes(traffic.sent)

    place = "(p.source_partition, p.source_offset)"
    missing = deployment.value(
        f"SELECT count(*) FROM predictions p WHERE {place} NOT IN "
        "(SELECT source_partition, source_offset FROM shadow_predictions) AND p.source_offset > "
        "(SELECT min(source_offset) FROM shadow_predictions s WHERE s.source_partition = p.source_partition)"
    )
    assert missing == 0
    assert deployment.sql("SELECT DISTINCT model FROM shadow_predictions") == [("fraud:2",)]
    assert deployment.sql("SELECT DISTINCT model FROM predictions") == [("fraud:1",)]
    assert {model for (model,) in deployment.sql("SELECT model FROM alerts")} <= {"fraud:1"}
    assert scored_by(deployment, "fraud:1") == traffic.sent
    compared = deployment.sql("SELECT shadow, champion, sum(events) AS events FROM v_shadow_daily GROUP BY 1, 2")
    assert [(row.shadow, row.champion) for row in compared] == [("fraud:2", "fraud:1")]
    assert compared[0].events == deployment.value("SELECT count(*) FROM shadow_predictions")

    send_large_payment(deployment, traffic)
    wait_until("the shadow is dropped", lambda: "scores are no numbers" in again.output(), 60)
    deployment.wait_outcomes(traffic.sent)
    assert scored_by(deployment, "fraud:1") == traffic.sent
    registry = ModelRegistry(deployment.database, str(deployment.models))
    wait_until("it is withdrawn", lambda: registry.shadow(MODEL_NAME) is None, 30)
    assert champion(deployment).version == 1
    assert deployment.faulty_partitions() == []
    assert deployment.headgate("models", "shadow", "--off").stdout == "no version of fraud was in the shadow\n"
