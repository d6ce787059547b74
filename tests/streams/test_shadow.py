"""A challenger beside the champion: its scores are stored with the batch, alert nobody, and may fail alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import TrainedDetector
from models.scoring import Scorer
from storage.database import Database
from storage.registry import ModelRecord
from streams.batch import PreparedBatch
from streams.models_in_use import WatchedModels
from tests.models.broken import broken, broken_above
from tests.models.logs import busy_log, untrained
from tests.streams.bench import NOW, Bench, Partitions, detection, payment
from tests.streams.test_detection_restore import log, revisions_of
from tests.streams.test_rollback import Worker

LATER = NOW + 3600
PLACE = "SELECT source_partition, source_offset, event_id, account_id, occurred_at, day"


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Worker:
    return Worker(database, tmp_path / "models")


def shadowed(worker: Worker, model: TrainedDetector) -> ModelRecord:
    """Registered, and in the shadow as `headgate models shadow` puts it there."""
    challenger = worker.promoted(model, alias="challenger")
    return worker.registry.start_shadow("fraud", challenger.version, worker.clock)


def shadow_version(worker: Worker) -> float | None:
    return worker.metrics.registry.get_sample_value("headgate_shadow_version")


def bench_of(worker: Worker) -> tuple[Bench, Partitions, WatchedModels]:
    worker.promoted(untrained())
    partitions = Partitions(worker.database)
    partitions.claim(0, 1)
    models = worker.watch()
    return detection(worker.database, partitions, models=models, sweep_interval=1e12)[0], partitions, models


def test_the_shadow_is_stored_in_the_batch_s_transaction_for_each_event_scored_and_nothing_else_changes(
    worker: Worker, tmp_path: Path
) -> None:
    bench, _, models = bench_of(worker)
    bench.run({0: log(0, 20), 1: log(0, 20)}, LATER)
    shadowed(worker, untrained(hidden=12, seed=5, threshold=1e-9))
    models.look()
    bench.run({0: log(20, 40), 1: log(20, 30)}, LATER)
    worker.registry.end_shadow("fraud", worker.clock)
    models.look()
    bench.run({0: log(40, 60)}, LATER)

    beside = bench.sql(f"{PLACE}, scored_at FROM shadow_predictions ORDER BY 1, 2")
    both = "(source_partition = 0 AND source_offset BETWEEN 39 AND 78) OR (source_partition = 1 AND source_offset > 38)"
    assert beside == bench.sql(f"{PLACE}, scored_at FROM predictions WHERE {both} ORDER BY 1, 2")
    assert len(beside) > 20
    said = bench.sql("SELECT DISTINCT model, threshold, flagged, score_kind FROM shadow_predictions")
    assert said == [("fraud:2", 1e-9, True, "probability")]
    assert bench.sql("SELECT DISTINCT model FROM predictions") == [("fraud:1",)]
    assert bench.sql("SELECT DISTINCT model FROM alerts") == [("fraud:1",)]
    assert bench.sql("SELECT DISTINCT value FROM stream_controls WHERE name = 'detector'") == [("fraud:1",)]
    assert bench.sql("SELECT count(*) FROM v_shadow_daily WHERE shadow = 'fraud:2' AND champion = 'fraud:1'") == [(1,)]
    assert shadow_version(worker) == 0


def test_what_the_champion_says_and_alerts_is_the_same_with_a_shadow_and_without(worker: Worker) -> None:
    alone, partitions, _ = bench_of(worker)
    shadowed(worker, untrained(hidden=12, seed=5, threshold=1e-9))
    beside = detection(worker.database, partitions, models=worker.watch(), sweep_interval=1e12)[0]
    for start in range(0, 60, 20):
        one, other = (bench.prepare({0: log(start, start + 20)}, LATER) for bench in (alone, beside))
        assert revisions_of(one) == revisions_of(other)
        without, with_shadow = payloads(one), payloads(other)
        assert with_shadow.pop("shadow_predictions")
        assert without == with_shadow


def payloads(batch: PreparedBatch | None) -> dict[str, Any]:
    """Table -> the rows as they go to SQL."""
    assert batch is not None
    (work,) = batch.works
    return {rows.table.name: rows.payload for rows in work.rows}


def test_a_shadow_whose_scores_are_no_numbers_is_dropped_and_the_champion_goes_on(worker: Worker) -> None:
    bench, _, models = bench_of(worker)
    bench.run({0: log(0, 20)}, LATER)
    shadowed(worker, broken_above(50_000.0, untrained(hidden=12, seed=5)))
    models.look()
    bench.run({0: log(20, 30)}, LATER)
    stored = bench.sql("SELECT count(*) FROM shadow_predictions")
    assert stored != [(0,)]
    bench.run({0: [payment(60, amount=400_000.0, seconds=1_000.0), payment(62, seconds=1_000.0)]}, LATER)
    bench.run({0: [payment(63, seconds=1_000.0)]}, LATER)  # before the registry hears of it
    models.look()
    models.look()
    bench.run({0: log(32, 40)}, LATER)
    assert bench.sql("SELECT count(*) FROM shadow_predictions") == stored
    scores = bench.sql("SELECT score FROM predictions")
    assert np.isfinite(scores).all()
    assert worker.told == [
        "model fraud:2 scores no longer in the shadow of the champion: its scores are no numbers; the champion goes on"
    ]
    assert worker.registry.shadow("fraud") is None
    assert worker.registry.get("fraud", 2).withdrawn_why == "its scores are no numbers"
    assert worker.champion().version == 1
    assert (worker.swaps("rolled_back"), shadow_version(worker)) == (None, 0)


def test_a_worker_that_starts_has_the_shadow_from_its_first_batch_on(worker: Worker) -> None:
    worker.promoted(untrained())
    shadowed(worker, untrained(hidden=12))
    models, scorer = worker.watch(), Scorer(untrained())
    assert models.take(scorer) is None
    assert models.shadow == "fraud:2"
    assert models.score(scorer, busy_log())[0].shadow is not None
    assert shadow_version(worker) == 2


def test_another_shadow_takes_the_place_of_the_one_before_it(worker: Worker) -> None:
    worker.promoted(untrained())
    models, scorer = worker.watch(), Scorer(untrained())
    for hidden, version in ((12, 2), (6, 3)):
        shadowed(worker, untrained(hidden=hidden))
        models.look()
        models.take(scorer)
        assert models.shadow == f"fraud:{version}"


def test_a_shadow_that_becomes_champion_ends_as_a_shadow(worker: Worker) -> None:
    worker.promoted(untrained(threshold=1.1))
    models, scorer = worker.watch(), Scorer(untrained(threshold=1.1))
    shadowed(worker, untrained(hidden=12, threshold=1.1))
    models.look()
    models.take(scorer)
    worker.registry.promote("fraud", 2, "finds more", worker.clock)
    models.look()
    assert models.take(scorer) == "fraud:2"
    assert models.shadow is None
    assert models.score(scorer, busy_log())[0].shadow is None


def test_a_shadow_goes_on_when_the_champion_is_taken_back(worker: Worker) -> None:
    worker.promoted(untrained())
    worker.promoted(broken(untrained(hidden=6)))
    shadowed(worker, untrained(hidden=12))
    models, scorer = worker.watch(), Scorer(broken(untrained(hidden=6)))
    models.take(scorer)
    scored, name = models.score(scorer, busy_log())
    assert name == "fraud:1"
    assert scored.shadow is not None
    assert np.isfinite(scored.shadow.score).all()


@pytest.mark.parametrize(("change", "withdrawn"), [("gone", False), ("limit", True)])
def test_a_shadow_that_cannot_be_used_is_refused_once_and_the_operator_told(
    worker: Worker, change: str, withdrawn: bool
) -> None:
    """What this worker cannot read another may; what counts amounts in another way is no use to any."""
    worker.promoted(untrained())
    models, scorer = worker.watch(), Scorer(untrained())
    record = shadowed(worker, untrained(hidden=12, reporting_limit=3_000.0 if change == "limit" else 10_000.0))
    if change == "gone":
        (worker.folder / record.artifact).unlink()
    for _ in range(3):
        models.look()
        models.take(scorer)
        assert models.shadow is None
    (message,) = worker.told
    assert ("is missing" if change == "gone" else "its reporting limit is 3000") in message
    assert (worker.registry.shadow("fraud") is None) is withdrawn
