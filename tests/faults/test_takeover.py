"""Workers that share partitions: one joins, leaves, is killed, or freezes past its session and wakes again."""

import signal

import pytest

from tests.deployment import SESSION_TIMEOUT, Deployment, WorkerProcess, wait_until
from tests.faults import invariants
from tests.faults.load import Load

pytestmark = pytest.mark.timeout(240)

ALL = {0, 1}


def two_workers(deployment: Deployment) -> tuple[WorkerProcess, WorkerProcess]:
    """Both own one partition of the transactions."""
    first, second = deployment.worker("first"), deployment.worker("second")
    wait_until("the partitions are shared", lambda: shared(deployment, first, second), 90)
    return first, second


def shared(deployment: Deployment, *workers: WorkerProcess) -> bool:
    owned = [worker.owned(deployment.transactions) for worker in workers]
    return all(len(partitions) == 1 for partitions in owned) and set().union(*owned) == ALL


def owns_all(deployment: Deployment, worker: WorkerProcess) -> bool:
    return worker.owned(deployment.transactions) == ALL


def further_outcomes(deployment: Deployment, count: int) -> None:
    deployment.wait_outcomes(deployment.outcomes() + count)


def finish(deployment: Deployment, load: Load, *workers: WorkerProcess) -> invariants.Figures:
    """Ends the load, waits for every outcome, stops the workers and checks from outside."""
    load.stop()
    deployment.wait_outcomes(load.transactions)
    deployment.wait_outcomes(load.feedback, topic=deployment.feedback)
    deployment.wait_relayed()
    assert [worker.stop() for worker in workers] == [0] * len(workers)
    figures = invariants.check(deployment)
    assert figures.records == load.transactions + load.feedback
    return figures


def test_a_second_worker_takes_a_share_and_gives_it_back_when_it_leaves(deployment: Deployment) -> None:
    with Load(deployment, rate=200, seed=11) as load:
        first = deployment.worker("first").wait_ready()
        wait_until("the first worker owns all", lambda: owns_all(deployment, first))
        further_outcomes(deployment, 200)
        second = deployment.worker("second")
        wait_until("the partitions are shared", lambda: shared(deployment, first, second), 90)
        owners = {row.owner for row in deployment.progress().values()}
        further_outcomes(deployment, 200)
        assert second.stop() == 0
        wait_until("the first worker owns all again", lambda: owns_all(deployment, first))
        further_outcomes(deployment, 200)
        figures = finish(deployment, load, first)
    assert owners == {"first", "second"}
    assert figures.alert_repeats == 0, "nothing is published twice where nobody crashed"
    assert figures.dead_letter_repeats == 0


def test_the_other_worker_takes_over_from_a_killed_one(deployment: Deployment) -> None:
    with Load(deployment, rate=200, seed=12) as load:
        first, second = two_workers(deployment)
        further_outcomes(deployment, 200)
        second.kill()
        wait_until("the first worker owns all", lambda: owns_all(deployment, first))
        further_outcomes(deployment, 200)
        finish(deployment, load, first)


def test_a_worker_that_froze_past_its_session_changes_nothing_when_it_wakes(deployment: Deployment) -> None:
    with Load(deployment, rate=200, seed=13) as load:
        first, second = two_workers(deployment)
        further_outcomes(deployment, 200)
        second.signal(signal.SIGSTOP)
        wait_until("the first worker owns all", lambda: owns_all(deployment, first), 60 + SESSION_TIMEOUT)
        further_outcomes(deployment, 200)
        second.signal(signal.SIGCONT)
        wait_until("the partitions are shared again", lambda: shared(deployment, first, second), 60)
        further_outcomes(deployment, 200)
        finish(deployment, load, first, second)
