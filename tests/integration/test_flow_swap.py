"""A running worker takes over a promoted model between two batches: nothing lost, nothing twice, states exact."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from models.artifact import TrainedDetector
from models.compress import pruned
from models.feature_schema import FEATURE_SCHEMA
from models.scoring import Scorer
from ops.clock import utc_now
from storage.registry import ModelRegistry
from streams.detection import MODEL_NAME
from tests.deployment import Deployment, wait_until
from tests.fraud_model import Traffic, small_detector
from tests.offline import Place, greatest_difference, live_scores, stored_events

TOLERANCE = 1e-4
#: Milliseconds between two events of the history, and before now at which the traffic begins.
PACE, BEGAN_BEFORE = 432_000, 700 * 86_400_000
#: Settings of the workers: their events are old, yet no label version is to say anything of merchants in mid test.
NOTHING_MATURES = {"LABEL_HORIZON_DAYS": "3650"}
AT_ONCE = 10


@pytest.fixture(scope="session")
def second_detector() -> bytes:
    """Of other units than the first, made smaller from more, with weights in eight bits."""
    return small_detector(hidden=8, seed=1, pupil=pruned(TrainedDetector.from_bytes(small_detector(24)).network, 8))


class Past(Traffic):
    """Events at the pace of the history that the models learned from, so that they find nothing odd in it."""

    def send(self, deployment: Deployment, count: int) -> None:
        producer, begin = deployment.producer(), round(time.time() * 1000) - BEGAN_BEFORE
        for _ in range(0, count, AT_ONCE):
            for key, value in self.batch(AT_ONCE, begin + self.sent * PACE):
                producer.produce(deployment.transactions, key=key, value=value)
        assert producer.flush(30) == 0


def register(deployment: Deployment, model: bytes) -> str:
    registry = ModelRegistry(deployment.database, str(deployment.models))
    record = registry.register(
        MODEL_NAME, "detector", model, feature_schema=FEATURE_SCHEMA, metrics={}, clock=utc_now, alias="challenger"
    )
    return f"{record.name}:{record.version}"


def controls(deployment: Deployment) -> dict[int, list[tuple[int, str]]]:
    """partition -> (offset, model) of each activation, in order."""
    found: dict[int, list[tuple[int, str]]] = {}
    for partition, offset, value in deployment.sql(
        "SELECT partition, from_offset, value FROM stream_controls WHERE name = 'detector' ORDER BY from_offset"
    ):
        found.setdefault(partition, []).append((offset, value))
    return found


def offline(deployment: Deployment, models: dict[str, bytes]) -> Iterator[tuple[Place, float, str]]:
    """Place, score and model of every stored event: a fresh scorer for each activation remembers what came before."""
    events = stored_events(deployment)
    for partition, activations in controls(deployment).items():
        own = events.take(np.flatnonzero(events.partition == partition))
        ends = [offset for offset, _ in activations[1:]] + [2**62]
        for (first, name), end in zip(activations, ends, strict=True):
            scorer = Scorer(TrainedDetector.from_bytes(models[name]))
            scorer.remember(own.take(np.flatnonzero(own.offset < first)))
            part = own.take(np.flatnonzero((own.offset >= first) & (own.offset < end)))
            for offset, score in zip(part.offset.tolist(), scorer.score(part).score.tolist(), strict=True):
                yield (partition, offset), score, name


def scored_by(deployment: Deployment, model: str) -> int:
    return int(deployment.value("SELECT count(*) FROM predictions WHERE model = :model", model=model))


@pytest.mark.timeout(240)
def test_promotion_and_rollback_under_load_and_a_kill_leave_every_event_scored_once_by_the_model_of_its_offset(
    deployment: Deployment, detector: bytes, second_detector: bytes
) -> None:
    traffic = Past(seed=8)
    worker = deployment.worker(**NOTHING_MATURES).wait_ready()
    traffic.send(deployment, 2_000)
    deployment.wait_outcomes(2_000)
    name = register(deployment, second_detector)
    assert deployment.headgate("models", "promote", name).returncode == 0

    def goes_on(model: str) -> bool:
        traffic.send(deployment, 100)
        return scored_by(deployment, model) > 500

    wait_until("the promoted model scores", lambda: goes_on("fraud:2"), 60)
    worker.kill()
    traffic.send(deployment, 1_000)
    deployment.worker(**NOTHING_MATURES).wait_ready()
    deployment.wait_outcomes(traffic.sent)
    assert deployment.headgate("models", "rollback", "--why", "worse").returncode == 0
    before = scored_by(deployment, "fraud:1")
    wait_until(
        "the model before scores again",
        lambda: goes_on("fraud:1") and scored_by(deployment, "fraud:1") > before + 500,
        60,
    )
    deployment.wait_outcomes(traffic.sent)

    activations = controls(deployment)
    assert {partition: [model for _, model in each] for partition, each in activations.items()} == {
        0: ["fraud:1", "fraud:2", "fraud:1"],
        1: ["fraud:1", "fraud:2", "fraud:1"],
    }
    expected = list(offline(deployment, {"fraud:1": detector, "fraud:2": second_detector}))
    assert len(expected) == traffic.sent
    assert greatest_difference(live_scores(deployment), {place: score for place, score, _ in expected}) < TOLERANCE
    stored = deployment.sql("SELECT source_partition, source_offset, model FROM predictions")
    assert {(partition, offset): model for partition, offset, model in stored} == {
        place: model for place, _, model in expected
    }
    assert deployment.faulty_partitions() == []


@pytest.mark.timeout(120)
def test_a_corrupt_model_that_is_promoted_in_mid_stream_is_refused_and_the_stream_goes_on(
    deployment: Deployment, second_detector: bytes
) -> None:
    traffic = Past(seed=9)
    worker = deployment.worker(**NOTHING_MATURES).wait_ready()
    traffic.send(deployment, 300)
    deployment.wait_outcomes(300)
    name = register(deployment, second_detector)
    artifact = ModelRegistry(deployment.database, str(deployment.models)).get(MODEL_NAME, 2).artifact
    (deployment.models / artifact).write_bytes(second_detector[:-5])
    assert deployment.headgate("models", "promote", name).returncode == 0
    wait_until("the model is refused", lambda: "model refused" in worker.output(), 30)
    traffic.send(deployment, 300)
    deployment.wait_outcomes(600)
    assert scored_by(deployment, "fraud:1") == 600
    assert worker.ready()
    assert "sha256 differs" in worker.output()
    assert "Traceback" not in worker.output()
