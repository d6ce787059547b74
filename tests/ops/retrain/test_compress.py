"""The champion made smaller from stored histories: what is registered, what is chosen, what is promoted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import select

from models.artifact import TrainedDetector
from models.compress import CannotCompress, in_eight_bits
from models.gate import GateRules
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import train
from ops.jobs.challenge import RetrainingRules
from ops.jobs.compress import CHAMPION, CompressionOutcome, CompressionRules, busiest_rate, compress_champion
from ops.jobs.compress_command import show
from ops.jobs.retrain import Workplace
from ops.jobs.step_time import StepSeconds
from storage import tables
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from streams.detection import MODEL_NAME
from tests.models.logs import untrained
from tests.models.synthetic import BEGIN, DAY, history
from tests.ops.retrain.stored_history import store

HIDDEN = 16
NOW = datetime.fromtimestamp((BEGIN + 60 * DAY) / 1000, UTC)
PAST = history(4_000, accounts=250, days=40, seed=4, frauds=0.06)
HALF = len(PAST.events) // 2
RETRAINING = RetrainingRules(epochs=3, alerts_per_day=10, gate=GateRules(margin=0.2, resamples=100))


def paced(microseconds_a_unit: float) -> Callable[[Sequence[TrainedDetector]], list[StepSeconds]]:
    """Steps whose time grows with the units."""

    def measure(models: Sequence[TrainedDetector]) -> list[StepSeconds]:
        units = [model.network.config.hidden for model in models]
        return [{size: size * count * microseconds_a_unit * 1e-6 for size in (256, 8192)} for count in units]

    return measure


def quick_champion(models: Sequence[TrainedDetector]) -> list[StepSeconds]:
    """Every form is too slow for any rate, however accurate; its steps take ten million times as long."""
    return [{256: 256e-6 * factor, 8192: 8192e-6 * factor} for factor in (1.0, *[1e7] * (len(models) - 1))]


@dataclass
class Site:
    """A database with its registry, and a champion in it."""

    database: Database
    registry: ModelRegistry

    def register(self, model: TrainedDetector, until: datetime) -> ModelRecord:
        return self.registry.register(
            MODEL_NAME,
            "detector",
            model.to_bytes(),
            feature_schema=model.feature_schema,
            metrics={"trained_until": until.isoformat()},
            clock=lambda: until,
            alias="champion",
        )

    def compress(self, measure: Any = None, **rules: Any) -> CompressionOutcome:
        work = Workplace(self.database, self.registry, {}, lambda: NOW, lambda stage, done: None)
        wanted = CompressionRules(retraining=RETRAINING, **{"hidden": 6, **rules})
        return compress_champion(work, wanted, measure or paced(1.0))

    def runs(self) -> list[Any]:
        run = tables.TrainingRun
        with self.database.reading() as connection:
            return list(connection.execute(select(run.status, run.model_version, run.config, run.metrics, run.message)))


@pytest.fixture(scope="module")
def good() -> TrainedDetector:
    config = TrainingConfig(hidden=HIDDEN, epochs=5, alerts_per_day=10)
    return train(PAST.labelled.take(np.arange(HALF)), config, lambda stage, done: None).model


@pytest.fixture
def site(database: Database, tmp_path: Path, good: TrainedDetector) -> Site:
    found = Site(database, ModelRegistry(database, str(tmp_path / "models")))
    store(database, PAST.events, PAST.labels)
    found.register(good, datetime.fromtimestamp(int(PAST.events.occurred_at[HALF - 1]) / 1000, UTC))
    return found


@pytest.mark.slow
def test_every_form_is_registered_with_its_cost_and_gain_and_nothing_is_promoted(site: Site) -> None:
    outcome = site.compress(quick_champion)

    assert str(site.registry.champion(MODEL_NAME)) == "fraud:1"
    assert (outcome.chosen, outcome.promoted, outcome.choice.form.name) == (None, False, CHAMPION)
    assert [form.judged.plan.method for form, _ in outcome.forms] == ["prune", "distil", "quantise"]
    assert [str(record) for _, record in outcome.forms] == ["fraud:2", "fraud:3", "fraud:4"]
    for form, record in outcome.forms:
        metrics = site.registry.get(MODEL_NAME, record.version).metrics
        low, high = metrics["intervals"]["average_precision_lost"]
        assert low <= metrics["average_precision_lost"] <= high
        units = HIDDEN if form.judged.plan.method == "quantise" else 6
        assert (metrics["hidden"], metrics["compressed_from"]) == (units, "fraud:1")
        assert metrics["speedup_256"] == metrics["speedup_8192"] == pytest.approx(1e-7)
        assert metrics["step_microseconds_256"] == pytest.approx(1e7)
        data = site.registry.load(record)
        assert metrics["file_bytes"] == len(data)
        assert TrainedDetector.from_bytes(data).network.config.hidden == units
        assert record.alias is None
    (run,) = site.runs()
    assert (run.status, run.config["job"]) == ("succeeded", "compress")
    assert run.metrics["chosen"] == "fraud:1"
    assert set(run.metrics["forms"]) == {"fraud:2", "fraud:3", "fraud:4"}


@pytest.mark.slow
def test_where_the_champion_is_too_slow_a_form_that_is_not_becomes_challenger_or_champion_as_asked(site: Site) -> None:
    slow = {"methods": ["quantise", "prune"], "events_per_second": 1_000.0, "measure": paced(80.0)}

    found = site.compress(**slow)
    assert found.choice.form.name == "the pruned form"
    assert (str(found.chosen), found.promoted, str(site.registry.champion(MODEL_NAME))) == ("fraud:3", False, "fraud:1")
    assert site.registry.get(MODEL_NAME, 3).alias == "challenger"

    promoted = site.compress(**slow, promote=True)
    champion = site.registry.champion(MODEL_NAME)
    assert champion is not None
    assert (str(promoted.chosen), promoted.promoted, str(champion)) == ("fraud:5", True, "fraud:5")
    assert champion.promoted_why == f"by `headgate models compress`: {promoted.choice.reason}"


@pytest.mark.slow
def test_a_form_proven_against_a_champion_that_is_gone_is_not_promoted(site: Site, good: TrainedDetector) -> None:
    def meanwhile(models: Sequence[TrainedDetector]) -> list[StepSeconds]:
        site.register(good, NOW)
        return paced(80.0)(models)

    outcome = site.compress(meanwhile, methods=["prune"], events_per_second=1_000.0, promote=True)
    assert (str(outcome.chosen), outcome.promoted) == ("fraud:3", False)
    assert str(site.registry.champion(MODEL_NAME)) == "fraud:2"


def test_a_champion_that_knew_every_label_cannot_be_judged(site: Site, good: TrainedDetector) -> None:
    site.register(good, NOW)
    with pytest.raises(TrainingRefused, match="nothing can be judged: 0 frauds"):
        site.compress()
    (run,) = site.runs()
    assert (run.status, run.model_version) == ("refused", None)
    assert len(site.registry.list()) == 2


def test_what_cannot_be_made_smaller_is_refused_before_anything_is_read(
    site: Site, database: Database, tmp_path: Path, good: TrainedDetector
) -> None:
    with pytest.raises(CannotCompress, match="16 hidden units"):
        site.compress(hidden=HIDDEN)
    site.register(untrained(network=in_eight_bits(good.network)), NOW)
    with pytest.raises(CannotCompress, match="eight bits already"):
        site.compress(methods=["quantise"])
    assert site.runs() == []


def test_without_a_champion_there_is_nothing_to_compress(database: Database, tmp_path: Path) -> None:
    empty = Site(database, ModelRegistry(database, str(tmp_path / "models")))
    with pytest.raises(CannotCompress, match="there is no champion"):
        empty.compress()


def test_the_rate_that_must_be_borne_is_that_of_the_busiest_hour() -> None:
    hours = PAST.events.occurred_at // (DAY // 24)
    busiest = max(int((hours == hour).sum()) for hour in set(hours.tolist()))
    assert busiest_rate(PAST.labelled) == pytest.approx(busiest / 3600)


@pytest.mark.slow
def test_a_person_sees_cost_gain_and_choice_in_80_columns(site: Site) -> None:
    written = StringIO()
    show(
        site.compress(paced(1.0), methods=["prune"], budget_seconds=0.01, events_per_second=40_000),
        Console(width=80, file=written),
    )
    shown = written.getvalue()
    assert "fraud:2" in shown
    assert "16.0" in shown
    assert "6.0 (2.7)" in shown
    assert "Nothing was promoted. `headgate models promote fraud:2` puts it to use." in shown
    assert "…" not in shown
