"""kill -9 of the worker at random moments under load: nothing lost, nothing doubled, and scores as if nothing was."""

import random
import threading
import time

import pytest

from tests.deployment import Deployment, WorkerProcess, wait_until
from tests.faults import invariants
from tests.faults.load import Load
from tests.flow_fixtures import Deploy
from tests.offline import greatest_difference, live_scores, scores_of_stored_events

KILLS = 10
#: The share of kills while a worker joins, claims and restores; the others come while it writes.
KILLED_AT_THE_START = 0.3
SEED = 20260323


def wait_for_progress(deployment: Deployment, beyond: int) -> float:
    """Until more outcomes are in SQL than `beyond`; the seconds that it took."""
    begin = time.monotonic()
    wait_until("outcomes after a restart", lambda: deployment.outcomes() > beyond)
    return time.monotonic() - begin


def kill_at_a_random_moment(worker: WorkerProcess, draw: random.Random, seconds: float) -> None:
    threading.Event().wait(draw.uniform(0, seconds))
    worker.kill()


@pytest.mark.timeout(300)
def test_ten_kills_in_a_row_lose_and_double_nothing(deploy: Deploy, detector: bytes) -> None:
    deployment = deploy(MAX_BATCH_RECORDS="1000")
    draw = random.Random(SEED)
    stalls = []
    with Load(deployment, rate=300, seed=SEED, frauds=0.05) as load:
        for _ in range(KILLS):
            before = deployment.outcomes()
            worker = deployment.worker()
            if draw.random() < KILLED_AT_THE_START:
                wait_until("the worker starts", lambda running=worker: "worker starts" in running.output())
            else:
                stalls.append(wait_for_progress(deployment, before))
            kill_at_a_random_moment(worker, draw, 1.5)
        load.stop()
        last = deployment.worker()
        deployment.wait_outcomes(load.transactions)
        deployment.wait_outcomes(load.feedback, topic=deployment.feedback)
    deployment.wait_relayed()
    assert last.stop() == 0
    figures = invariants.check(deployment)
    offline = scores_of_stored_events(deployment, detector)
    assert greatest_difference(live_scores(deployment), offline) <= 1e-4, "a restart restored another state"
    print(f"\n{KILLS} kills: {figures}, stall after a restart at most {max(stalls):.1f} s")
    assert figures.records == load.transactions + load.feedback
