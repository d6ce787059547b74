"""Whether what was collected is fit to train on: one look at a history in SQL or in files, for `headgate data check`
and for every training.

What is looked for and what is refused are models/data_figures.py's and models/data_quality.py's business; how it is
shown is data_report.py's.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.data_figures import figures_of
from models.data_profile import DataProfile, Observed
from models.data_quality import DataQuality, quality_of
from models.events import Events
from models.feature_schema import FEATURES
from models.features import FeatureBuilder
from models.labels import LabelledHistory, milliseconds
from models.sequences import FEATURE_CHUNK, TrainingConfig, TrainingRefused
from ops.jobs.history import StoredHistory, epoch_milliseconds, history_from_database, observed_of
from ops.jobs.history_files import FiledHistory, read_files
from storage.database import Database
from storage.training_data import HistoryCut, cut_now, labelled_transactions
from streams.pseudonyms import Pseudonyms

Progress = Callable[[str, float], None]


def check_database(
    database: Database, rates: Mapping[str, float], now: datetime, label_horizon: timedelta, progress: Progress
) -> DataQuality:
    """All that is stored by now. Raises DatabaseUnavailable."""
    profile = DataProfile(matured_until(now, label_horizon), FEATURES)
    add = with_features(profile)
    progress("read", 0.0)
    cut = cut_now(database, now)
    with database.reading() as connection:
        for found in labelled_transactions(connection, since=None, cut=cut):
            add(observed_of(found, rates))
            progress("read", 0.0)
    progress("read", 1.0)
    return quality_of(figures_of(profile), rated=rates.keys())


def check_files(
    transactions: Path,
    labels: Path | None,
    rates: Mapping[str, float],
    label_horizon: timedelta,
    progress: Progress,
    pseudonyms: Pseudonyms | None = None,
) -> DataQuality:
    """Raises UnreadableHistory."""
    progress("read", 0.0)
    filed = read_files(transactions, labels, rates, pseudonyms)
    progress("read", 1.0)
    profile = DataProfile(filed.now - milliseconds(label_horizon), FEATURES)
    add, parts = with_features(profile), filed.observed.parts(FEATURE_CHUNK)
    for number, part in enumerate(parts, start=1):
        add(part)
        progress("look", number / len(parts))
    return quality_of(figures_of(profile, filed.labels), rated=rates.keys())


def stored_and_checked(
    database: Database,
    rates: Mapping[str, float],
    cut: HistoryCut,
    label_horizon: timedelta,
    progress: Progress = lambda stage, share: None,
) -> tuple[StoredHistory, DataQuality]:
    """A history to train on with what a look at its fields found, in the pass that reads it anyway. Raises
    DatabaseUnavailable."""
    profile = DataProfile(matured_until(cut.until, label_horizon))

    def watch(observed: Observed) -> None:
        profile.add(observed)
        progress("history", 0.0)

    progress("history", 0.0)
    history = history_from_database(database, rates, label_horizon=label_horizon, cut=cut, watch=watch)
    progress("history", 1.0)
    return history, quality_of(figures_of(profile), rated=rates.keys())


def filed_and_checked(
    filed: FiledHistory, rates: Mapping[str, float], label_horizon: timedelta
) -> tuple[LabelledHistory, DataQuality]:
    """The same of files."""
    profile = DataProfile(filed.now - milliseconds(label_horizon))
    profile.add(filed.observed)
    return filed.history(label_horizon), quality_of(figures_of(profile, filed.labels), rated=rates.keys())


def refuse_broken(quality: DataQuality) -> None:
    """Raises TrainingRefused with what would make the training worthless."""
    if quality.refusals:
        reasons = "; ".join(quality.refusals)
        raise TrainingRefused(f"the history is not fit to train on: {reasons}. `headgate data check` shows more")


def matured_until(now: datetime, label_horizon: timedelta) -> int:
    """Epoch milliseconds."""
    return epoch_milliseconds(now) - milliseconds(label_horizon)


def with_features(profile: DataProfile) -> Callable[[Observed], None]:
    """Adds events with the numbers that the detector would see of them but for what labels say of merchants."""
    builder = FeatureBuilder(TrainingConfig().reporting_limit)

    def add(observed: Observed) -> None:
        for part in observed.parts(FEATURE_CHUNK):
            profile.add(part, features_of(builder, part.events))

    return add


def features_of(builder: FeatureBuilder, events: Events) -> npt.NDArray[np.float32]:
    """float32[n, F], NaN for repeats of an event."""
    found = np.full((len(events), len(FEATURES)), np.nan, np.float32)
    if len(events):
        built = builder.build(events)
        found[built.rows] = built.features
    return found
