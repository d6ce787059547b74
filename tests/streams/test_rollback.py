"""A model that misbehaves after it took over: the one before it scores the very batch, and the registry rolls back."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import TrainedDetector
from models.events import Events
from models.feature_schema import FEATURE_SCHEMA
from models.scoring import ScoredBatch, Scorer
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from streams.health import FlowMetrics
from streams.models_in_use import WatchedModels
from streams.shadow import ShadowWatch
from streams.swap import ChampionWatch, ModelFailed
from tests.models.broken import broken, broken_above
from tests.models.logs import busy_log, cut, untrained
from tests.storage.rows import NOON
from tests.streams.bench import (
    NOW,
    Bench,
    KafkaRecord,
    LargeAmountsFlagged,
    OneModel,
    Partitions,
    detection,
    payment,
)
from tests.streams.test_detection_restore import log, state_of


@dataclass
class Worker:
    """A registry with a champion, and what one worker does about it."""

    database: Database
    folder: Path
    told: list[str] = field(default_factory=list)
    metrics: FlowMetrics = field(default_factory=FlowMetrics)
    minutes: int = 0

    def __post_init__(self) -> None:
        self.registry = ModelRegistry(self.database, str(self.folder))

    def clock(self) -> datetime:
        self.minutes += 1
        return NOON + timedelta(minutes=self.minutes)

    def promoted(self, model: TrainedDetector, *, alias: str = "champion", **metrics: float) -> ModelRecord:
        return self.registry.register(
            "fraud",
            "detector",
            model.to_bytes(),
            feature_schema=FEATURE_SCHEMA,
            metrics=metrics,
            clock=self.clock,
            alias=alias,
        )

    def watch(self) -> WatchedModels:
        """As a worker makes it at its start."""
        champion = self.registry.champion("fraud")
        assert champion is not None
        champions = ChampionWatch(self.registry, champion, self.metrics, self.told.append, clock=self.clock)
        shadows = ShadowWatch(self.registry, "fraud", self.metrics, self.told.append, clock=self.clock)
        models = WatchedModels(champions, shadows)
        models.look()
        return models

    def champion(self) -> ModelRecord:
        champion = self.registry.champion("fraud")
        assert champion is not None
        return champion

    def swaps(self, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value("headgate_model_swaps_total", {"outcome": outcome})


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Worker:
    return Worker(database, tmp_path / "models")


def quiet() -> TrainedDetector:
    return untrained(threshold=1.1)


class TurnsBad(Scorer):
    """A scorer under which a model of 12 units fails from its n-th batch on, in a way that no trial can see."""

    def __init__(self, model: TrainedDetector, turn: Callable[[ScoredBatch], ScoredBatch], at: int) -> None:
        super().__init__(model, initial_capacity=16)
        self.turn, self.at, self.seen = turn, at, 0

    def score(self, events: Events) -> ScoredBatch:
        scored = super().score(events)
        if self.model.network.config.hidden == 12:
            self.seen += 1
            return self.turn(scored) if self.seen >= self.at else scored
        return scored


def without_a_number(scored: ScoredBatch) -> ScoredBatch:
    score = scored.score.copy()
    score[scored.built.rows[-1]] = np.nan
    return replace(scored, score=score)


def all_flagged(scored: ScoredBatch) -> ScoredBatch:
    return replace(scored, flagged=~scored.duplicate)


def batches(size: int = 40) -> list[Events]:
    events = busy_log(accounts=60, hot=60)
    return cut(events, range(size, len(events), size))


AGAIN = "; promote it once more to use it all the same"
TURNS: list[tuple[Callable[[ScoredBatch], ScoredBatch], str]] = [
    (without_a_number, "1 of 40 scores in a batch are no numbers"),
    (all_flagged, "it flagged 40 of its first 80 events, 20 at most are plausible"),
]


@pytest.mark.parametrize(("turn", "why"), TURNS)
def test_a_batch_that_shows_a_model_to_be_bad_is_scored_by_the_one_before_it(
    worker: Worker, turn: Callable[[ScoredBatch], ScoredBatch], why: str
) -> None:
    worker.promoted(quiet())
    models, scorer, expected = worker.watch(), TurnsBad(quiet(), turn, at=2), Scorer(quiet(), initial_capacity=16)
    first, second, third, fourth = batches()[:4]
    for each in (scorer, expected):
        each.score(first)
    worker.promoted(untrained(hidden=12, seed=5, threshold=1.1))
    models.look()
    assert models.take(scorer) == "fraud:2"
    assert models.score(scorer, second)[1] is None

    scored, name = models.score(scorer, third)
    expected.score(second)
    expected.replace_model(quiet())
    np.testing.assert_allclose(scored.score, expected.score(third).score, rtol=0, atol=1e-5)
    assert name == "fraud:1"
    assert not scored.flagged.any()
    assert worker.told == [f"model fraud:2 is taken back: {why}{'' if 'no numbers' in why else AGAIN}; fraud:1 goes on"]

    for _ in range(2):
        models.look()
        assert models.take(scorer) is None
    scored, name = models.score(scorer, fourth)
    np.testing.assert_allclose(scored.score, expected.score(fourth).score, rtol=0, atol=1e-5)
    assert name is None
    champion, withdrawn = worker.champion(), worker.registry.get("fraud", 2)
    assert champion.version == 1
    assert champion.promoted_why is not None
    assert champion.promoted_why.startswith(f"automatic rollback from fraud:2: {why}")
    assert withdrawn.withdrawn
    assert (worker.swaps("activated"), worker.swaps("rolled_back")) == (1, 1)
    assert worker.metrics.registry.get_sample_value("headgate_model_version") == 1


def test_a_version_that_was_taken_back_is_used_again_once_someone_promotes_it_and_may_then_alert_as_it_likes(
    worker: Worker,
) -> None:
    worker.promoted(quiet())
    models, scorer = worker.watch(), TurnsBad(quiet(), all_flagged, at=1)
    worker.promoted(untrained(hidden=12, seed=5, threshold=1.1))
    models.look()
    models.take(scorer)
    first, second, third = batches()[:3]
    assert models.score(scorer, first)[1] == "fraud:1"
    models.look()
    assert models.take(scorer) is None
    worker.registry.promote("fraud", 2, "I know better", worker.clock)
    models.look()
    assert models.take(scorer) == "fraud:2"
    for batch in (second, third):
        assert models.score(scorer, batch)[1] is None
    models.look()
    assert worker.champion().version == 2


def test_who_insists_on_a_withdrawn_version_has_it_in_workers_that_never_used_it_too(worker: Worker) -> None:
    worker.promoted(quiet())
    models, scorer = worker.watch(), Scorer(quiet())
    scorer.score(busy_log(accounts=60))
    shrill = worker.promoted(untrained(threshold=1e-9))
    models.look()
    assert models.take(scorer) is None
    models.look()
    worker.registry.promote("fraud", shrill.version, "I know better", worker.clock)
    models.look()
    assert models.take(scorer) == "fraud:2"
    assert models.score(scorer, batches()[0])[1] is None


def test_other_workers_follow_the_rollback_and_one_of_them_makes_it(worker: Worker) -> None:
    worker.promoted(quiet())
    sees_it, follows = worker.watch(), worker.watch()
    bad, good = TurnsBad(quiet(), without_a_number, at=1), Scorer(quiet())
    worker.promoted(untrained(hidden=12, seed=5, threshold=1.1))
    for models, scorer in ((sees_it, bad), (follows, good)):
        models.look()
        assert models.take(scorer) == "fraud:2"
    assert sees_it.score(bad, batches()[0])[1] == "fraud:1"
    sees_it.look()
    follows.look()
    assert follows.take(good) == "fraud:1"
    follows.look()
    sees_it.look()
    assert sees_it.take(bad) is None
    assert worker.champion().version == 1


def test_a_model_that_fails_its_trial_is_withdrawn_in_the_registry_as_well(worker: Worker) -> None:
    worker.promoted(quiet())
    models, scorer = worker.watch(), Scorer(quiet())
    scorer.score(busy_log())
    worker.promoted(broken(untrained(hidden=12)))
    models.look()
    assert models.take(scorer) is None
    models.look()
    assert worker.champion().version == 1
    assert worker.registry.get("fraud", 2).withdrawn
    assert (worker.swaps("refused"), worker.swaps("rolled_back")) == (1, None)


def test_a_file_that_this_worker_cannot_read_is_no_reason_to_roll_back_for_all(worker: Worker) -> None:
    worker.promoted(quiet())
    models = worker.watch()
    unreadable = worker.promoted(untrained(hidden=12))
    (worker.folder / unreadable.artifact).unlink()
    for _ in range(2):
        models.look()
        assert models.take(Scorer(quiet())) is None
    assert worker.champion().version == 2


def test_a_worker_that_starts_with_a_bad_model_goes_back_to_the_one_before_it(worker: Worker) -> None:
    worker.promoted(quiet())
    worker.promoted(untrained(hidden=12))
    models = worker.watch()
    scored, name = models.score(Scorer(broken(untrained(hidden=12))), busy_log())
    assert name == "fraud:1"
    assert np.isfinite(scored.score[~scored.duplicate]).all()
    models.look()
    assert worker.champion().version == 1


def test_two_bad_models_in_a_row_lead_to_the_one_before_both(worker: Worker) -> None:
    worker.promoted(quiet())
    bad = broken(untrained(hidden=12))
    for _ in range(2):
        worker.promoted(bad)
    models, scorer = worker.watch(), Scorer(bad)
    scored, name = models.score(scorer, busy_log())
    assert (name, np.isfinite(scored.score).all()) == ("fraud:1", True)
    models.look()
    assert worker.champion().version == 1
    assert [worker.registry.get("fraud", version).withdrawn for version in (1, 2, 3)] == [False, True, True]
    models.look()
    assert models.take(scorer) is None


def test_the_way_back_passes_over_a_file_that_cannot_be_read(worker: Worker) -> None:
    worker.promoted(quiet())
    unreadable = worker.promoted(quiet())
    (worker.folder / unreadable.artifact).unlink()
    worker.promoted(broken(untrained(hidden=12)))
    _, name = worker.watch().score(Scorer(broken(untrained(hidden=12))), busy_log())
    assert name == "fraud:1"


def test_without_a_model_to_go_back_to_a_batch_without_numbers_is_not_committed(worker: Worker) -> None:
    bad = broken(untrained(hidden=12))
    worker.promoted(bad)
    models = worker.watch()
    with pytest.raises(ModelFailed, match=r"fraud:1: 120 of 120 scores .* no model to go back to"):
        models.score(Scorer(bad), busy_log(accounts=20, hot=60))
    models.look()
    assert worker.champion().version == 1


# In the stream


def large_payment(offset: int, **more: Any) -> KafkaRecord:
    return payment(offset, amount=400_000.0, **more)


def bench_of(worker: Worker) -> tuple[Bench, LargeAmountsFlagged, WatchedModels, Partitions]:
    worker.promoted(untrained())
    models = worker.watch()
    partitions = Partitions(worker.database)
    partitions.claim(0, 1)
    bench, scorer = detection(worker.database, partitions, models=models, sweep_interval=1e12)
    return bench, scorer, models, partitions


def test_the_batch_is_committed_once_under_the_model_before_and_a_restored_worker_agrees(worker: Worker) -> None:
    bench, scorer, models, partitions = bench_of(worker)
    bench.run({0: log(0, 20), 1: log(0, 20)}, NOW + 3600)
    worker.promoted(broken_above(50_000.0, untrained(hidden=12, seed=5)))
    models.look()
    bench.run({0: log(20, 40)}, NOW + 3600)
    following = int(bench.sql("SELECT next_offset FROM stream_progress WHERE partition = 0")[0][0])
    bench.run({0: [large_payment(80, account="a1", seconds=1600), *log(41, 50)]}, NOW + 3600)
    models.look()
    bench.run({0: log(50, 60), 1: log(20, 30)}, NOW + 3600)

    found = bench.sql("SELECT source_offset, model, score FROM predictions WHERE source_partition = 0 ORDER BY 1")
    assert len({offset for offset, _, _ in found}) == len(found)
    assert np.isfinite([score for _, _, score in found]).all()
    controls = bench.sql(
        "SELECT partition, from_offset, value FROM stream_controls WHERE name = 'detector' ORDER BY 1, 2"
    )
    assert [value for partition, _, value in controls if partition == 0] == ["fraud:1", "fraud:2", "fraud:1"]
    # Partition 1 never met the second model; its states began anew all the same, and that is logged.
    assert [value for partition, _, value in controls if partition == 1] == ["fraud:1", "fraud:1"]
    assert controls[2][1] == following
    assert [offset for offset, model, _ in found if model == "fraud:2"] == [
        offset for offset, _, _ in found if controls[1][1] <= offset < following
    ]
    assert bench.sql(
        "SELECT count(*) FROM stream_progress WHERE next_offset - start_offset <> "
        "applied + duplicates + dead_letters + gaps"
    ) == [(0,)]

    undisturbed = dict(partitions.owned)
    partitions.claim(0, 1)
    restored, fresh = detection(worker.database, partitions, models=OneModel(), sweep_interval=1e12)
    following_batch = {0: log(60, 80), 1: log(30, 50)}
    restored.prepare(following_batch, NOW + 3600)
    partitions.owned = undisturbed
    for owner in undisturbed.values():
        owner.revoked = False
    bench.prepare(following_batch, NOW + 3600)
    np.testing.assert_allclose(fresh.last.score, scorer.last.score, rtol=0, atol=1e-5)
    for partition in (0, 1):
        own, other = state_of(fresh, partition), state_of(scorer, partition)
        for account, arrays in own.items():
            np.testing.assert_allclose(arrays["hidden"], other[account]["hidden"], rtol=0, atol=1e-5)
