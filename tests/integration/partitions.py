"""What tests of partitions ask running workers, and the logs of all of them where an answer does not come."""

from collections.abc import Callable

from tests.deployment import Deployment, NeverHappened, WorkerProcess, wait_until


def says(worker: WorkerProcess, *words: str) -> str:
    """The worker's first line that holds all of the words, once there is one."""

    def line() -> str | None:
        assert worker.process.poll() is None, worker.output()
        return next((line for line in worker.output().splitlines() if all(word in line for word in words)), None)

    return wait_until(f"a line with {words}", line)


def stopped(worker: WorkerProcess) -> set[tuple[str, int, str]]:
    """(topic, partition, reason) of what stands still."""
    return {(each["topic"], each["partition"], each["reason"]) for each in worker.health()["stopped"]}


def comes_to_pass(deployment: Deployment, what: str, condition: Callable[[], bool], seconds: float = 90.0) -> None:
    try:
        wait_until(what, condition, seconds)
    except NeverHappened as error:
        logs = "\n".join(worker.output()[-3000:] for worker in deployment.workers)
        raise NeverHappened(f"{error}; {deployment.progress()}\n{logs}") from None
