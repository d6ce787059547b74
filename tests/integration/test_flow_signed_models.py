"""Whole workers that ask for signatures: what nobody with a key signed is never in use."""

import pytest

from models.feature_schema import FEATURE_SCHEMA
from ops.clock import utc_now
from storage.model_trust import ModelTrust, new_signing_key, public_text, signing_key_of, verify_keys_of
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from tests.deployment import Deployment, wait_until
from tests.fraud_model import Traffic
from tests.integration.test_flow_swap import Past, scored_by

KEY = signing_key_of(new_signing_key())
TRUST = ModelTrust(KEY, verify_keys_of(public_text(KEY)))
ASKS_FOR_SIGNATURES = {"MODEL_VERIFY_KEYS": public_text(KEY), "LABEL_HORIZON_DAYS": "3650"}


def registry(deployment: Deployment, trust: ModelTrust) -> ModelRegistry:
    return ModelRegistry(deployment.database, str(deployment.models), trust)


def promote(deployment: Deployment, model: bytes, trust: ModelTrust) -> None:
    registry(deployment, trust).register(
        MODEL_NAME, "detector", model, feature_schema=FEATURE_SCHEMA, metrics={}, clock=utc_now, alias="champion"
    )


def send(deployment: Deployment, traffic: Traffic, count: int) -> None:
    traffic.send(deployment, count)
    deployment.wait_outcomes(traffic.sent)


@pytest.mark.timeout(180)
def test_a_worker_scores_with_the_signed_model_while_an_unsigned_one_is_champion_and_takes_it_once_signed(
    deployment: Deployment, detector: bytes
) -> None:
    signing = registry(deployment, ModelTrust(KEY))
    signing.sign(signing.get(MODEL_NAME, 1))
    traffic = Past(seed=12)
    worker = deployment.worker(**ASKS_FOR_SIGNATURES).wait_ready()
    send(deployment, traffic, 200)
    promote(deployment, detector, ModelTrust())
    wait_until("the model is refused", lambda: "fraud:2 is not signed" in worker.output(), 30)
    send(deployment, traffic, 200)
    assert (scored_by(deployment, "fraud:1"), worker.ready()) == (400, True)
    assert worker.output().count("model refused") == 1
    assert worker.metrics()['headgate_untrusted_models_total{model="fraud"}'] == 1
    promote(deployment, detector, TRUST)
    wait_until("the signed model is in use", lambda: "model=fraud:3" in worker.output(), 30)
    send(deployment, traffic, 200)
    wait_until("it scores", lambda: scored_by(deployment, "fraud:3") > 0, 30)
    assert scored_by(deployment, "fraud:2") == 0
    assert "Traceback" not in worker.output()


@pytest.mark.timeout(120)
def test_a_worker_whose_first_champion_is_unsigned_ends_with_one_line(deployment: Deployment) -> None:
    worker = deployment.worker(**ASKS_FOR_SIGNATURES)
    assert worker.process.wait(90) == 1
    assert "fraud:1 is refused: fraud:1 is not signed" in worker.last_line()
    assert "headgate models sign" in worker.last_line()
    assert "Traceback" not in worker.output()


@pytest.mark.timeout(120)
def test_a_whole_worker_unpickles_nothing(deployment: Deployment) -> None:
    """With Faust, Kafka's clients, SQL and Redis, in a Python that refuses to (tests/security/watched.py)."""
    traffic = Past(seed=13)
    watched = ("tests.security.watched", "headgate", "worker")
    worker = deployment.worker(program=watched, LABEL_HORIZON_DAYS="3650").wait_ready()
    send(deployment, traffic, 300)
    deployment.wait_relayed()
    assert worker.stop() == 0
    assert "refused to unpickle" not in worker.output()
