"""docs/tutorial.md, step by step as it stands: first what a user does beside the demo, then on services of his own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Row

from tests.deployment import Deployment, wait_until
from tests.flow_fixtures import Deploy
from tests.integration.pages import Page, run, run_python

TUTORIAL = Page("docs/tutorial.md")
#: The settings' default, which the page relies on.
REDIS_PREFIX = "headgate:"


@pytest.fixture
def topic_prefix(no_prefix: str) -> str:
    return no_prefix


@pytest.fixture
def own_services(
    kafka_servers: str, postgres_url: str, redis_url: str, no_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    """Kafka, PostgreSQL and Redis with nothing in them yet."""
    deployment = Deployment(
        kafka_servers, postgres_url, redis_url, no_prefix, tmp_path, 2, {"REDIS_PREFIX": REDIS_PREFIX}
    )
    yield deployment
    deployment.close()


def step(language: str, heading: str) -> list[str]:
    return TUTORIAL.snippets(language, f"## {heading}")


def shell(deployment: Deployment, snippet: str) -> str:
    return run(["bash", "-eu"], snippet, deployment.folder, deployment.environment(), seconds=600)


def only_prediction(deployment: Deployment) -> Row[tuple[object, ...]]:
    (row,) = deployment.sql("SELECT * FROM v_predictions WHERE event_id = 'tutorial-1'")
    return row


def test_nothing_on_the_page_is_left_out_here() -> None:
    assert TUTORIAL.snippets("sh") == ["make demo\n", "headgate worker\n"]
    assert len(TUTORIAL.snippets("python")) == 3
    assert len(TUTORIAL.snippets("bash")) == 8


def test_a_payment_of_ones_own_gets_a_score_and_a_label(deploy: Deploy) -> None:
    deployment = deploy(REDIS_PREFIX=REDIS_PREFIX)
    deployment.worker().wait_ready()
    (send,), (query,), (verdict,) = (
        step("python", "2. Send a payment"),
        step("python", "3. See its score"),
        step("python", "4. Give feedback"),
    )

    run_python(deployment, send)
    deployment.wait_outcomes(1)
    assert "'tutorial-1'" in run_python(deployment, query)
    assert (only_prediction(deployment).model, only_prediction(deployment).label) == ("fraud:1", None)

    run_python(deployment, verdict)
    wait_until("the label is joined", lambda: only_prediction(deployment).label == "legitimate")
    assert "'legitimate'" in run_python(deployment, query)


@pytest.mark.timeout(1500)
def test_ones_own_services_go_live_with_a_model_of_ones_own_history(own_services: Deployment) -> None:
    (path,) = step("bash", "1. Run the demo")
    simulate, backtest = step("bash", "5. Backtest on a history")
    (prepare,) = step("bash", "6. Your own services")
    train, train_another = step("bash", "7. Train a model")
    promote, rollback = step("bash", "8. Go live")
    (send,) = step("python", "2. Send a payment")

    shell(own_services, path + simulate)
    shell(own_services, backtest)
    assert (own_services.folder / "backtest" / "report.html").is_file()
    assert (own_services.folder / "backtest" / "predictions.parquet").is_file()

    checked = shell(own_services, prepare)
    assert "transactions: created" in checked
    assert not any(line.startswith("fail") for line in checked.splitlines())

    assert "registered fraud:1 (champion)" in shell(own_services, train)
    listed = shell(own_services, train_another)
    assert "registered fraud:2 (challenger)" in listed
    assert standing(listed) == {"fraud:1": "champion", "fraud:2": "challenger"}

    worker = own_services.worker().wait_ready()
    run_python(own_services, send)
    own_services.wait_outcomes(1)
    assert only_prediction(own_services).model == "fraud:1"

    assert "fraud:2 is the champion" in shell(own_services, promote)
    wait_until("the worker has taken it over", lambda: worker.metrics().get("headgate_model_version") == 2)
    assert "fraud:1 is the champion" in shell(own_services, rollback)
    wait_until("the worker is back", lambda: worker.metrics().get("headgate_model_version") == 1)
    assert own_services.faulty_partitions() == []


def standing(listed: str) -> dict[str, str]:
    """Of the lines of `headgate models list`: version -> what it is."""
    lines = [line.split() for line in listed.splitlines() if line.startswith("fraud:")]
    return {words[0]: words[1] for words in lines}
