"""A look at what SQL holds: the same as of files, and what training refuses with the reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from models.data_figures import figures_of
from models.data_profile import DataProfile, Observed
from models.data_quality import DataQuality
from models.events import Events
from models.sequences import TrainingRefused
from ops.jobs.challenge import RetrainingRules
from ops.jobs.data_check import check_database, stored_and_checked
from ops.jobs.retrain import Workplace, retrain_once
from storage import tables
from storage.database import Database
from storage.registry import ModelRegistry
from storage.training_data import cut_now
from tests.models.synthetic import BEGIN, DAY, History, history
from tests.ops.retrain.stored_history import store

NOW = datetime.fromtimestamp((BEGIN + 33 * DAY) / 1000, UTC)
HORIZON = timedelta(days=5)
PAST = history(3_000, accounts=150, days=30, seed=4, frauds=0.05)


def looked_at(database: Database) -> DataQuality:
    return check_database(database, {}, NOW, HORIZON, lambda stage, share: None)


def test_stored_transactions_are_looked_at_with_their_labels_and_features(database: Database) -> None:
    store(database, PAST.events, PAST.labels)
    found = looked_at(database)
    assert found.verdict == "ok", found.findings
    figures = found.figures
    matured = PAST.events.occurred_at <= BEGIN + 28 * DAY
    assert (figures.events, figures.labels.matured) == (len(PAST.labels), matured.sum())
    assert figures.labels.frauds == (PAST.labels[matured] == 1).sum()
    assert figures.labels.delay_days["50%"] == pytest.approx(1.0)
    assert {"feature amount_to_median", "feature gap"} <= {each.column for each in figures.separations}


def test_training_sees_the_same_of_the_fields_in_the_pass_that_reads_the_history(database: Database) -> None:
    store(database, PAST.events, PAST.labels)
    read, quality = stored_and_checked(database, {}, cut_now(database, NOW), HORIZON)
    seen = DataProfile(BEGIN + 28 * DAY)
    known = np.where(PAST.labels == 1, 1, -1).astype(np.int8)
    given_at = np.where(PAST.labels == 1, PAST.events.occurred_at + DAY, 0)
    seen.add(Observed(PAST.events, known, given_at, ["EUR"] * len(known)))
    assert len(read) == len(known)
    assert quality.figures == figures_of(seen)


def marked(past: History) -> Events:
    """Frauds are of a category of their own."""
    category = np.where(past.labels == 1, "chargeback", np.array(past.events.category)).tolist()
    return replace(past.events, category=category)


def test_a_pass_over_a_leaking_history_is_refused_and_recorded(database: Database, tmp_path: Path) -> None:
    store(database, marked(PAST), PAST.labels)
    registry = ModelRegistry(database, str(tmp_path / "models"))
    work = Workplace(database, registry, {}, lambda: NOW, lambda stage, share: None)
    with pytest.raises(TrainingRefused, match=r"category alone tells frauds .*`headgate data check` shows more"):
        retrain_once(work, RetrainingRules(label_horizon=HORIZON, hidden=8, epochs=1))
    assert registry.list() == []
    with database.reading() as connection:
        run = tables.TrainingRun
        ((status, message),) = connection.execute(select(run.status, run.message)).all()
    assert status == "refused"
    assert "not fit to train on" in message


def test_an_empty_database_is_refused_without_a_traceback(database: Database) -> None:
    assert looked_at(database).refusals == ["there are no events"]


def test_of_several_labels_the_newest_counts_with_its_time(database: Database) -> None:
    store(database, PAST.events, PAST.labels)
    before = looked_at(database).figures.labels
    with database.begin() as connection:
        later = datetime.fromtimestamp((BEGIN + 32 * DAY) / 1000, UTC)
        connection.execute(update(tables.Feedback).values(given_at=later))
    after = looked_at(database).figures.labels
    assert (after.frauds, after.timed) == (before.frauds, before.timed)
    assert after.delay_days["50%"] > before.delay_days["50%"]
