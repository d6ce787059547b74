"""One pass of the learning loop on stored histories: what is promoted, what is not, what is recorded of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select

from models.artifact import TrainedDetector
from models.checkpoint import CheckpointStore
from models.detector import Detector, DetectorConfig
from models.feature_schema import FEATURE_SCHEMA
from models.gate import GateRules
from models.labels import LabelledHistory
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult, train
from ops.jobs.challenge import RetrainingRules
from ops.jobs.history import StoredHistory
from ops.jobs.retrain import Outcome, Workplace, retrain_once
from ops.jobs.train import trained_until
from storage import tables
from storage.database import Database, DatabaseUnavailable
from storage.exclusive import AlreadyRunning, exclusively
from storage.registry import ModelRegistry
from storage.training_data import start_training_run
from streams.detection import MODEL_NAME
from tests.models.logs import untrained
from tests.models.synthetic import BEGIN, DAY, History, history
from tests.ops.retrain.stored_history import store

HIDDEN = 16
#: Two months after the histories begin, so that all of them has matured.
NOW = datetime.fromtimestamp((BEGIN + 60 * DAY) / 1000, UTC)
RULES = RetrainingRules(hidden=HIDDEN, epochs=3, alerts_per_day=10, gate=GateRules(resamples=200))
PAST = history(5_000, accounts=250, days=40, seed=4, frauds=0.05)


@dataclass
class Loop:
    """A database with its registry, and passes over it."""

    database: Database
    registry: ModelRegistry
    trained: list[StoredHistory] = field(default_factory=list)

    def once(
        self,
        *,
        labels: Callable[[Any], Any] = lambda labels: labels,
        during: Callable[[], object] = lambda: None,
        model: Callable[[TrainedDetector], TrainedDetector] = lambda model: model,
        **rules: Any,
    ) -> Outcome:
        """labels: what training is given in place of the truth; during: what else happens while it trains;
        model: what comes of it instead."""

        def trainer(
            history: Any, config: TrainingConfig, progress: Any, checkpoints: CheckpointStore
        ) -> TrainingResult:
            self.trained.append(history)
            during()
            taught = replace(history, labels=labels(history.labels))
            result = train(taught, config, progress, checkpoints=checkpoints)
            return replace(result, model=model(result.model))

        work = Workplace(self.database, self.registry, {}, lambda: NOW, lambda stage, done: None, trainer)
        return retrain_once(work, replace(RULES, **rules))

    def register(self, model: TrainedDetector, *, until: datetime | None, alias: str = "champion") -> str:
        record = self.registry.register(
            MODEL_NAME,
            "detector",
            model.to_bytes(),
            feature_schema=FEATURE_SCHEMA,
            metrics={"trained_until": until.isoformat()} if until else {},
            clock=lambda: NOW - timedelta(days=25),
            alias=alias,
        )
        return f"{record.name}:{record.version}"

    def champion(self) -> str | None:
        record = self.registry.champion(MODEL_NAME)
        return record and f"{record.name}:{record.version}"

    def runs(self) -> list[Any]:
        run = tables.TrainingRun
        with self.database.reading() as connection:
            columns = (run.status, run.model_version, run.metrics, run.message, run.config, run.finished_at)
            return list(connection.execute(select(*columns).order_by(run.finished_at, run.status)))


@pytest.fixture
def loop(database: Database, tmp_path: Path) -> Loop:
    return Loop(database, ModelRegistry(database, str(tmp_path / "models")))


@pytest.fixture(scope="module")
def good() -> TrainedDetector:
    """Trained on the first half of the history, with more epochs than the passes here have."""
    half = np.arange(len(PAST.events) // 2)
    config = TrainingConfig(hidden=HIDDEN, epochs=6, alerts_per_day=10)
    return train(PAST.labelled.take(half), config, lambda stage, done: None).model


HALF_TIME = datetime.fromtimestamp(int(PAST.events.occurred_at[len(PAST.events) // 2 - 1]) / 1000, UTC)


def of_size(hidden: int) -> TrainedDetector:
    """Nobody trained it, and a challenger of that size is a refresh of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Detector(DetectorConfig(hidden=hidden))
    return untrained(network=network.eval(), surprise_weight=0.0)


def stored(loop: Loop, past: History = PAST) -> None:
    store(loop.database, past.events, past.labels)


@pytest.mark.slow
def test_the_first_model_becomes_champion_and_the_next_must_wait_for_labels_that_it_did_not_know(loop: Loop) -> None:
    stored(loop)

    first, second = loop.once(), loop.once()

    assert (first.decision, first.challenger, loop.champion()) == ("first model", "fraud:1", "fraud:1")
    assert (second.decision, second.challenger) == ("not enough evidence", None)
    assert second.reason.startswith("0 frauds to judge by, at least 30 are needed, in matured events after 2025-")
    record = loop.registry.get(MODEL_NAME, 1)
    curves, (low, high) = record.metrics["curves"], record.metrics["intervals"]["average_precision"]
    assert low < record.metrics["average_precision"] < high
    assert (curves["frauds"], curves["precision_recall"][-1]["recall"]) == (record.metrics["validation_frauds"], 1.0)
    card = record.metrics["card"]
    assert card["quality"][0]["measures"]["average_precision"] == pytest.approx(record.metrics["average_precision"])
    assert (card["data"]["events"], card["settings"]["hidden"]) == (len(PAST.labels), HIDDEN)
    assert {part["name"] for part in card["quality"] if part["kind"] == "channel"} == {"online", "shop"}
    assert len(loop.trained) == 1  # and no time was spent on training that nothing could judge
    runs = loop.runs()
    assert [(run.status, run.model_version) for run in runs] == [("refused", None), ("succeeded", 1)]
    assert runs[1].metrics["average_precision"] == pytest.approx(first.metrics["average_precision"])


@pytest.mark.slow
def test_an_untrained_champion_is_replaced_with_the_figures_on_record(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=HALF_TIME)

    outcome = loop.once()

    assert (outcome.decision, outcome.champion, outcome.challenger) == ("promote", "fraud:1", "fraud:2")
    record = loop.registry.champion(MODEL_NAME)
    assert record is not None
    assert (record.version, record.promoted_at) == (2, NOW)
    assert record.promoted_why == f"by `headgate retrain`: {outcome.reason}"
    (run,) = loop.runs()
    assert (run.status, run.model_version, run.message) == ("succeeded", 2, f"promote: {outcome.reason}")
    assert run.config["job"] == "retrain"
    verdict = run.metrics["verdict"]
    assert (verdict["decision"], verdict["kind"]) == ("promote", "refresh")
    assert 0.02 < verdict["average_precision"]["low"] < verdict["average_precision"]["high"]
    assert verdict["frauds"] >= 30
    assert (run.metrics["decision"], run.metrics["reason"]) == ("promote", outcome.reason)
    assert (run.metrics["champion"], verdict["reason"]) == ("fraud:1", outcome.reason)


@pytest.mark.slow
def test_neither_model_was_trained_on_what_judges_them(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=HALF_TIME)
    outcome = loop.once()
    (taught,) = loop.trained
    matured = PAST.events.occurred_at[PAST.labels >= 0]
    cut = np.quantile(matured, 0.8)
    assert taught.occurred_at[-1] <= cut
    assert len(taught) == len(taught.labels)
    assert outcome.verdict is not None
    assert outcome.verdict.events == (matured > cut).sum()
    record = loop.registry.champion(MODEL_NAME)
    assert record is not None
    assert record.metrics["trained_until"] == trained_until(taught).isoformat()


@pytest.mark.slow
def test_a_good_champion_is_not_replaced_by_a_challenger_of_shuffled_labels(loop: Loop, good: TrainedDetector) -> None:
    stored(loop)
    before = loop.register(good, until=HALF_TIME)

    outcome = loop.once(labels=np.random.default_rng(0).permutation)

    assert (outcome.decision, outcome.challenger, loop.champion()) == ("refuse", "fraud:2", before)
    assert loop.registry.get(MODEL_NAME, 2).alias == "challenger"
    (run,) = loop.runs()
    assert (run.status, run.model_version, run.metrics["decision"]) == ("refused", 2, "refuse")
    assert run.metrics["verdict"]["average_precision"]["high"] <= -0.02
    assert run.message.startswith("refuse: average precision")


@pytest.mark.slow
def test_another_size_is_a_new_design_that_must_be_better(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(8), until=HALF_TIME)
    refresh, design = loop.once(hidden=None), loop.once(hidden=HIDDEN)
    assert refresh.verdict is not None
    assert design.verdict is not None
    assert (refresh.verdict.kind, refresh.decision) == ("refresh", "promote")
    assert (design.verdict.kind, design.champion) == ("design", "fraud:2")


@pytest.mark.slow
def test_a_champion_that_was_changed_during_the_run_stays(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=HALF_TIME)

    outcome = loop.once(during=lambda: loop.register(of_size(HIDDEN), until=HALF_TIME))

    assert (outcome.decision, outcome.reason) == ("refuse", "the champion became fraud:2 during the run")
    assert loop.champion() == "fraud:2"
    (run,) = loop.runs()
    assert (run.model_version, run.metrics["decision"], run.metrics["champion"]) == (3, "refuse", "fraud:1")
    assert run.metrics["verdict"]["decision"] == "promote"


@pytest.mark.slow
def test_a_challenger_that_fails_the_checks_is_refused_and_not_registered(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=HALF_TIME)
    with pytest.raises(TrainingRefused, match="the challenger is unfit for use: a threshold of nan"):
        loop.once(model=lambda model: replace(model, threshold=float("nan")))
    assert [record.version for record in loop.registry.list()] == [1]
    assert [run.status for run in loop.runs()] == ["refused"]


@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.service)], indirect=True)
def test_a_pass_that_lost_its_lock_promotes_nothing(loop: Loop) -> None:
    stored(loop)
    before = loop.register(of_size(HIDDEN), until=HALF_TIME)

    def lose_the_lock() -> None:
        with loop.database.begin() as connection:
            connection.exec_driver_sql(
                """SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                WHERE l.locktype = 'advisory' AND d.datname = current_database()"""
            )

    with pytest.raises(DatabaseUnavailable):
        loop.once(during=lose_the_lock)
    assert loop.champion() == before
    assert [(run.status, run.model_version) for run in loop.runs()] == [("failed", 2)]  # registered before that showed


@pytest.mark.slow
def test_a_champion_that_does_not_say_what_it_knew_knew_all_until_its_registration(loop: Loop) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=None)
    registered = (NOW - timedelta(days=25)).timestamp() * 1000
    outcome = loop.once()
    assert outcome.verdict is not None
    assert outcome.verdict.events == (PAST.events.occurred_at > registered).sum()


def test_a_history_that_cannot_teach_is_refused_with_the_reason_and_recorded(loop: Loop) -> None:
    few = np.arange(50)
    store(loop.database, PAST.events.take(few), PAST.labels[few])
    with pytest.raises(TrainingRefused, match="50 events are too few; at least 1000 are needed"):
        loop.once()
    rest = np.arange(50, len(PAST.events))
    store(loop.database, PAST.events.take(rest), np.zeros(len(rest), np.int8))
    with loop.database.begin() as connection:
        connection.exec_driver_sql("DELETE FROM feedback")
    loop.register(of_size(HIDDEN), until=None)
    with pytest.raises(TrainingRefused, match=f"no fraud is known among {len(PAST.events)} matured events"):
        loop.once()
    assert sorted(run.status for run in loop.runs()) == ["refused", "refused"]
    assert loop.champion() == "fraud:1"


def test_a_champion_that_cannot_be_read_stays_and_the_run_is_refused(loop: Loop, tmp_path: Path) -> None:
    stored(loop)
    loop.register(of_size(HIDDEN), until=HALF_TIME)
    (file,) = (tmp_path / "models" / MODEL_NAME).iterdir()
    file.write_bytes(b"damaged")
    with pytest.raises(TrainingRefused, match=r"the champion fraud:1 cannot be compared with: .*sha256 differs"):
        loop.once()
    assert loop.champion() == "fraud:1"


@pytest.mark.slow
def test_a_second_retraining_at_the_same_time_changes_nothing(loop: Loop) -> None:
    stored(loop)

    def second() -> None:
        with pytest.raises(AlreadyRunning, match="another retraining is running on the database at "):
            loop.once()

    assert loop.once(during=second).decision == "first model"
    assert len(loop.runs()) == 1
    with exclusively(loop.database, "retraining"):  # and the lock is free again
        pass


@pytest.mark.slow
def test_a_run_whose_process_died_is_failed_by_the_next_and_no_other_job_is_touched(loop: Loop) -> None:
    stored(loop)
    start_training_run(loop.database, "dead", MODEL_NAME, NOW, {"job": "retrain"})
    start_training_run(loop.database, "alive", MODEL_NAME, NOW, {"epochs": 3})
    loop.once()
    found = [(run.status, run.message) for run in loop.runs()]
    assert sorted(found, key=str) == [
        ("failed", "the process ended before the run did"),
        ("running", None),
        ("succeeded", "first model: there was no champion"),
    ]


@pytest.mark.slow
def test_a_failure_in_training_is_recorded_and_frees_the_lock(loop: Loop) -> None:
    stored(loop)

    def fails() -> None:
        raise MemoryError("too large")

    with pytest.raises(MemoryError):
        loop.once(during=fails)
    assert [(run.status, run.message) for run in loop.runs()] == [("failed", "MemoryError('too large')")]
    assert loop.champion() is None
    assert loop.once().decision == "first model"


def test_a_model_knew_its_latest_labelled_event_or_without_labels_its_latest_event() -> None:
    some = PAST.events.take(np.arange(10))
    labels = np.array([0, 1, 0, -1, 0, -1, -1, -1, -1, -1], np.int8)
    for known, latest in ((labels, 4), (np.full(10, -1, np.int8), 9)):
        expected = datetime.fromtimestamp(int(some.occurred_at[latest]) / 1000, UTC)
        assert trained_until(LabelledHistory.matured(some, known)) == expected


def stop_after_epoch(epoch: int) -> Callable[[str, float], None]:
    """A progress that ends the pass in the middle of the next epoch."""

    def progress(stage: str, share: float) -> None:
        if stage == f"epoch {epoch + 1}":
            raise KeyboardInterrupt

    return progress


def pass_of(loop: Loop, now: datetime = NOW, progress: Any = lambda stage, done: None, **rules: Any) -> Outcome:
    work = Workplace(loop.database, loop.registry, {}, lambda: now, progress)
    return retrain_once(work, replace(RULES, **rules))


def checkpoints_of(loop: Loop) -> list[Path]:
    return list(Path(loop.registry.root, "checkpoints").glob("*"))


def bytes_of(loop: Loop, name: str | None) -> bytes:
    assert name is not None
    return loop.registry.load(loop.registry.get(MODEL_NAME, int(name.rpartition(":")[2])))


@pytest.mark.slow
def test_a_pass_that_was_cut_off_goes_on_with_the_same_history_to_the_same_model(loop: Loop) -> None:
    stored(loop, replace(PAST, events=PAST.events.take(np.arange(4_000)), labels=PAST.labels[:4_000]))
    expected = bytes_of(loop, pass_of(loop, NOW - timedelta(hours=1)).challenger)
    with loop.database.begin() as connection:
        connection.exec_driver_sql("UPDATE models SET alias = NULL")

    with pytest.raises(KeyboardInterrupt):
        pass_of(loop, progress=stop_after_epoch(2))
    assert len(checkpoints_of(loop)) == 1
    rest = np.arange(4_000, len(PAST.events))
    store(loop.database, PAST.events.take(rest), PAST.labels[rest])  # comes later, and is not of that history
    epochs = set[str]()
    outcome = pass_of(loop, NOW + timedelta(hours=1), lambda stage, done: epochs.add(stage))

    assert bytes_of(loop, outcome.challenger) == expected
    assert not {"epoch 1", "epoch 2"} & epochs
    assert "epoch 3" in epochs
    assert checkpoints_of(loop) == []


@pytest.mark.slow
@pytest.mark.parametrize(("later", "rules"), [(timedelta(days=2), {}), (timedelta(hours=1), {"seed": 1})])
def test_a_pass_by_other_rules_or_much_later_begins_anew(loop: Loop, later: timedelta, rules: dict[str, Any]) -> None:
    stored(loop)
    with pytest.raises(KeyboardInterrupt):
        pass_of(loop, progress=stop_after_epoch(1))
    stages = set[str]()
    pass_of(loop, NOW + later, lambda stage, done: stages.add(stage), **rules)
    assert "epoch 1" in stages
    assert checkpoints_of(loop) == []
