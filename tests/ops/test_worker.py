"""The parts of `headgate worker` that need no worker: waiting, refusing, stopping. Whole workers: tests/integration."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from ops import worker
from ops.compose import WorkerFailed, load_detector, read_rates
from ops.worker import WorkerHealth, wait_for_champion
from storage.database import DatabaseUnavailable
from streams.kafka import KafkaUnavailable


class Stoppable:
    """A flow and a Faust app in one that notes what it is asked to do."""

    def __init__(self, hangs: bool = False) -> None:
        self.asked: list[str] = []
        self.hangs = hangs

    async def release(self) -> None:
        self.asked.append("release")

    def stop_waiting(self) -> None:
        self.asked.append("stop waiting")

    def stop(self) -> Any:
        self.asked.append("stop")

    def leave_group(self) -> bool:
        self.asked.append("leave the group")
        return True

    def cannot_leave_group(self) -> bool:
        self.asked.append("fail to leave the group")
        raise KafkaUnavailable("no broker")

    def as_app(self) -> Any:
        outer = self

        class App:
            async def stop(self) -> None:
                outer.asked.append("stop the app")
                if outer.hangs:
                    await asyncio.Event().wait()

        return App()


@pytest.mark.parametrize("hangs", [False, True])
def test_stopping_drains_first_then_gives_up_waiting_and_ends_the_threads_in_any_case(
    hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    flow: Any = Stoppable(hangs)
    asyncio.run(worker._stop(flow.as_app(), flow, flow.leave_group))
    assert flow.asked == ["release", "stop waiting", "stop the app", "leave the group", "stop"]


def test_a_group_that_cannot_be_left_keeps_nothing_from_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    flow: Any = Stoppable()
    asyncio.run(worker._stop(flow.as_app(), flow, flow.cannot_leave_group))
    assert flow.asked[-2:] == ["fail to leave the group", "stop"]


class Champions:
    """A registry that has a champion from the n-th look on."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def champion(self, name: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Impatient(threading.Event):
    """Never set, and never waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


def test_a_worker_waits_for_its_first_champion() -> None:
    registry: Any = Champions([None, None, "record"])
    assert wait_for_champion(registry, Impatient()) == "record"


def test_a_database_that_goes_away_while_a_champion_is_awaited_is_waited_for_too() -> None:
    registry: Any = Champions([None, DatabaseUnavailable("away"), "record"])
    assert wait_for_champion(registry, Impatient()) == "record"


def test_a_worker_that_is_told_to_stop_waits_for_no_champion() -> None:
    stopping = threading.Event()
    stopping.set()
    registry: Any = Champions([])
    assert wait_for_champion(registry, stopping) is None


def test_a_model_that_cannot_be_read_is_refused_with_what_to_do() -> None:
    class Record:
        name, version = "fraud", 3

    class Registry:
        def load(self, record: Any) -> bytes:
            return b"no model"

    registry: Any = Registry()
    record: Any = Record()
    with pytest.raises(WorkerFailed, match=r"fraud:3 is refused.*headgate models promote"):
        load_detector(registry, record)


@pytest.mark.parametrize("text", ["{", "[]", '{"USD": "1"}', '{"USD": 0}', '{"USD": -1}', '{"USD": 1e999}'])
def test_rates_that_are_none_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(text)
    with pytest.raises(WorkerFailed, match="HEADGATE_RATES"):
        read_rates(file)


def test_rates_are_read_by_currency(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    file.write_text('{"USD": 0.9, "JPY": 0.006}')
    assert read_rates(file) == {"USD": 0.9, "JPY": 0.006}
    assert read_rates(None) == {}


def test_a_worker_answers_about_its_health_while_it_waits() -> None:
    health = WorkerHealth("w-1")
    health.waits_for("a first champion")
    waiting = health.answer()
    assert (waiting["ready"], waiting["worker"]) == (False, "w-1")
    assert waiting["warnings"] == ["the worker waits for a first champion"]

    class Working:
        def health(self) -> dict[str, Any]:
            return {"ready": True}

    flow: Any = Working()
    health.works(flow)
    assert health.answer() == {"ready": True}
