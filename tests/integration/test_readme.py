"""What a user sees who has nothing of ours: README.md's own snippets, as they stand, against a running worker."""

import json
import os
import re
import shutil
from itertools import product
from typing import Any

import pytest

from tests.deployment import CHECKOUT, Deployment, wait_until
from tests.flow_fixtures import Deploy
from tests.integration.pages import Page, addresses, run, run_python

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("kcat") is None and os.environ.get("HEADGATE_REQUIRE_SERVICES") != "1",
        reason="kcat is not installed (`make test` installs it where it may)",
    ),
]

README = Page("README.md")
#: What the settings' defaults make of Redis keys, which the snippets rely on.
REDIS_PREFIX = "headgate:"
#: Redis keys that end with a field of an alert.
KEYS = {"alert": "alert_id", "risk": "account_id"}


def snippets(language: str) -> list[str]:
    """Those of the section that is to be run."""
    return README.snippets(language, "## Produce, consume, query")


@pytest.fixture
def topic_prefix(no_prefix: str) -> str:
    return no_prefix


@pytest.fixture
def deployment(deploy: Deploy) -> Deployment:
    return deploy(REDIS_PREFIX=REDIS_PREFIX)


def test_the_snippets_are_at_most_ten_lines_each() -> None:
    found = snippets("python") + snippets("bash")

    assert len(found) == 6
    assert all(snippet.count("\n") <= 10 for snippet in found)


def test_the_contract_page_has_the_keys_that_this_file_looks_for() -> None:
    page = (CHECKOUT / "docs" / "contract.md").read_text()

    assert re.findall(r"^\| `([\w:<>]+)` \| (?:stream|hash|string) \|", page, re.MULTILINE) == [
        "alerts",
        *(f"{name}:<{field}>" for name, field in KEYS.items()),
        "recs:<user_id>",
    ]


def test_the_readmes_snippets_make_predictions_an_alert_and_a_verdict(deployment: Deployment) -> None:
    produce, consume, from_redis, query, verdict = snippets("python")
    (kcat,) = snippets("bash")
    worker = deployment.worker().wait_ready()

    # Ten events through kafka-python and one through kcat are rows of v_predictions.
    run_python(deployment, produce)
    run(["bash", "-eu"], kcat, deployment.folder, addresses(deployment))
    deployment.wait_outcomes(11)
    rows = {row.event_id: row for row in deployment.sql("SELECT * FROM v_predictions")}
    assert set(rows) == {f"readme-{number}" for number in range(10)} | {"readme-kcat"}
    assert all(0 <= row.score <= 1 for row in rows.values())
    assert (float(rows["readme-9"].amount), rows["readme-9"].extra) == (9_950.0, {"loyalty": {"points": 3}})
    assert (rows["readme-9"].flagged, rows["readme-9"].model) == (True, "fraud:1")
    assert "('readme-kcat', Decimal('20.0000')" in run_python(deployment, query)

    # The unusual one is an alert in Kafka and in Redis, where the snippets find it.
    deployment.wait_relayed()
    alert = last_alert_of_alice(deployment)
    assert (alert["status"], alert["event_ids"][-1]) == ("open", "readme-9")
    assert alert["timeline"][-1]["event_id"] == "readme-9"
    shown = run_python(deployment, consume)
    assert f"{alert['alert_id']} {alert['revision']} open alice" in shown
    assert alert["reasons"]
    assert all(reason["text"] in shown for reason in alert["reasons"])
    shown = run_python(deployment, from_redis)
    assert f"alice's last alert scored {alert['score']}" in shown
    assert f"{alert['alert_id']} alice" in shown
    check_redis_is_as_documented(deployment, alert)

    # A verdict labels the prediction and the alert, and closes the alert.
    run_python(deployment, verdict)
    (closed,) = wait_until(
        "the alert is closed",
        lambda: deployment.sql(
            "SELECT * FROM v_alerts WHERE alert_id = :id AND status = 'closed'", id=alert["alert_id"]
        ),
    )
    assert (closed.label, closed.label_source, closed.closed_by) == ("fraud", "analyst", "verdict")
    assert "'fraud', 'closed'" in run_python(deployment, query)
    assert deployment.value("SELECT status FROM feedback") == "joined"
    deployment.wait_relayed()
    last = last_alert_of_alice(deployment)
    assert (last["alert_id"], last["revision"], last["status"]) == (alert["alert_id"], alert["revision"] + 1, "closed")
    check_redis_is_as_documented(deployment, last)
    assert deployment.faulty_partitions() == []

    # Everything sent again is a duplicate.
    run_python(deployment, produce)
    deployment.wait_outcomes(21)
    assert sum(progress.duplicates for progress in deployment.progress().values()) == 10
    assert deployment.value("SELECT count(*) FROM v_predictions") == 11

    # The metrics tell all this, and that SQL has passed everything.
    expected = {
        'headgate_records_total{outcome="applied",topic="transactions"}': 11,
        'headgate_records_total{outcome="duplicates",topic="transactions"}': 10,
        'headgate_records_total{outcome="applied",topic="feedback"}': 1,
        "headgate_alert_revisions_total": len(published_alerts(deployment)),
        'headgate_relayed_total{outbox="alerts",sink="kafka"}': len(published_alerts(deployment)),
        'headgate_relayed_total{outbox="alerts",sink="redis"}': len(published_alerts(deployment)),
        "headgate_resident_accounts": 2,
    }
    for topic, partition in product(("transactions", "feedback"), range(deployment.partitions)):
        expected[f'headgate_lag_records{{partition="{partition}",topic="{topic}"}}'] = 0
    wait_until(f"the metrics show {expected}", lambda: expected.items() <= worker.metrics().items(), seconds=20)


def published_alerts(deployment: Deployment) -> list[dict[str, Any]]:
    records = deployment.records("alerts")
    alerts = [json.loads(record.value) for record in records]
    assert [record.key.decode() for record in records] == [alert["account_id"] for alert in alerts]
    return alerts


def revision_of(alert: dict[str, Any]) -> tuple[str, int]:
    return alert["alert_id"], alert["revision"]


def last_alert_of_alice(deployment: Deployment) -> dict[str, Any]:
    return [alert for alert in published_alerts(deployment) if alert["account_id"] == "alice"][-1]


def check_redis_is_as_documented(deployment: Deployment, alert: dict[str, Any]) -> None:
    """The keys of docs/contract.md and no others, each with a time to live and its part of what Kafka got."""
    published = published_alerts(deployment)
    keys = {"alerts"} | {f"{name}:{a[field]}" for a in published for name, field in KEYS.items()}
    with deployment.redis() as client:
        assert {key.decode() for key in client.scan_iter()} == {f"{REDIS_PREFIX}{key}" for key in keys}
        assert all(client.ttl(f"{REDIS_PREFIX}{key}") > 0 for key in keys)
        stored = client.hgetall(f"{REDIS_PREFIX}alert:{alert['alert_id']}")
        stream = [json.loads(entry[b"payload"]) for _, entry in client.xrange(f"{REDIS_PREFIX}alerts")]
        assert float(client.get(f"{REDIS_PREFIX}risk:{alert['account_id']}")) == alert["score"]
    assert (stored[b"alert_id"].decode(), int(stored[b"revision"])) == (alert["alert_id"], alert["revision"])
    assert json.loads(stored[b"payload"]) == alert
    assert sorted(stream, key=revision_of) == sorted(published, key=revision_of)
