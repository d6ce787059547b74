"""What a user sees who has nothing of ours: kafka-python, SQL and redis-py."""

import json
import time

import pytest
from kafka import KafkaProducer

from tests.deployment import Deployment, wait_until

pytestmark = pytest.mark.timeout(180)


def test_events_become_predictions_and_an_alert_that_a_label_closes(deployment: Deployment) -> None:
    deployment.worker().wait_ready()
    producer = KafkaProducer(bootstrap_servers=deployment.kafka)

    def send(event_id: str, amount: float) -> None:
        event = {
            "event_id": event_id,
            "occurred_at": round(time.time() * 1000),
            "account_id": "alice",
            "merchant_id": "bakery",
            "amount": amount,
            "loyalty": {"points": 3},
        }
        producer.send(deployment.transactions, key=b"alice", value=json.dumps(event).encode())

    for number in range(20):
        send(f"usual-{number}", 12.5 + number)
    send("unusual", 9_950.0)
    producer.flush()

    # Rows in v_predictions.
    deployment.wait_outcomes(21)
    rows = {row.event_id: row for row in deployment.sql("SELECT * FROM v_predictions")}
    assert len(rows) == 21
    assert all(0 <= row.score <= 1 for row in rows.values())
    assert float(rows["usual-3"].amount) == 15.5
    assert rows["unusual"].extra == {"loyalty": {"points": 3}}
    assert rows["unusual"].flagged
    assert rows["unusual"].model == "fraud:1"

    # An alert in Kafka and in Redis: stream, hash, risk.
    deployment.wait_relayed()
    published = [(r.key, json.loads(r.value)) for r in deployment.records("alerts")]
    key, alert = next(item for item in published if "unusual" in item[1]["event_ids"])
    assert key == b"alice"
    assert (alert["status"], alert["account_id"]) == ("open", "alice")
    assert alert["reasons"]
    assert alert["reasons"][0]["text"]
    assert [entry["event_id"] for entry in alert["timeline"]][-1] == "unusual"
    client = deployment.redis()
    stored = client.hgetall(f"{deployment.prefix}alert:{alert['alert_id']}")
    assert json.loads(stored[b"payload"]) == alert
    assert float(client.get(f"{deployment.prefix}risk:alice")) == pytest.approx(alert["score"])
    assert [json.loads(entry[b"payload"]) for entry in deployment.redis_stream()] == [value for _, value in published]
    keys = [f"{deployment.prefix}{name}" for name in ("alerts", f"alert:{alert['alert_id']}", "risk:alice")]
    assert all(client.ttl(key) > 0 for key in keys)

    # A label shows in v_alerts and closes the alert.
    label = {
        "feedback_id": "f1",
        "given_at": round(time.time() * 1000),
        "kind": "label",
        "event_id": "unusual",
        "label": "fraud",
        "source": "analyst",
    }
    producer.send(deployment.feedback, key=b"alice", value=json.dumps(label).encode())
    producer.close()
    closed = wait_until(
        "the alert is closed",
        lambda: deployment.sql(
            "SELECT * FROM v_alerts WHERE alert_id = :id AND status = 'closed'", id=alert["alert_id"]
        ),
    )[0]
    assert (closed.label, closed.label_source, closed.closed_by) == ("fraud", "analyst", "verdict")
    assert closed.revision == alert["revision"] + 1
    assert deployment.value("SELECT label FROM v_predictions WHERE event_id = 'unusual'") == "fraud"
    assert deployment.value("SELECT status FROM feedback") == "joined"
    deployment.wait_relayed()
    last = json.loads(deployment.records("alerts")[-1].value)
    assert (last["alert_id"], last["revision"], last["status"]) == (alert["alert_id"], alert["revision"] + 1, "closed")
    assert json.loads(client.hget(f"{deployment.prefix}alert:{alert['alert_id']}", "payload")) == last
    client.close()
    assert deployment.faulty_partitions() == []
