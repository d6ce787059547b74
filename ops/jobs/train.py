"""`headgate train`: a detector from stored transactions or from files, registered and, when asked, promoted.

Reads SQL (transactions with the newest joined label of each) or a CSV/Parquet file in the contract's columns with a
labels file beside it. An event older than the label horizon without a label counts as legitimate; a younger one
teaches only the self-supervised head.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import torch

from models.events import Events
from models.labels import training_labels
from models.train_detector import TrainingConfig, TrainingRefused, TrainingResult, train
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from storage.training_data import finish_training_run, labelled_transactions, start_training_run
from streams.recovery import stored_events

MODEL_NAME = "fraud"
REQUIRED_COLUMNS = ("event_id", "occurred_at", "account_id", "merchant_id", "amount")
LABEL_CODES = {"fraud": 1, "legitimate": 0}
OPTIONAL_COLUMNS = ("channel", "country", "category", "memo")
#: As in Parquet: ids and texts are texts, whatever they look like, and an empty one is missing.
CSV_CONVERSION = pa.csv.ConvertOptions(
    column_types={
        name: pa.string() for name in ("event_id", "account_id", "merchant_id", "label", "currency", *OPTIONAL_COLUMNS)
    },
    null_values=[""],
    strings_can_be_null=True,
)


class UnreadableHistory(Exception):
    """The file of transactions or labels cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class LabelledHistory:
    """Events in the order of their time, with a label each: 1 fraud, 0 legitimate, -1 unknown."""

    events: Events
    labels: npt.NDArray[np.int8]


def history_from_database(
    database: Database, rates: Mapping[str, float], *, now: datetime, label_horizon: timedelta
) -> LabelledHistory:
    parts: list[Events] = []
    known: list[npt.NDArray[np.int8]] = []
    with database.reading() as connection:
        for columns in labelled_transactions(connection, since=None, until=now):
            parts.append(stored_events(columns.transactions, rates))
            known.append(columns.label)
    events = Events.concatenate(parts)
    labels = np.concatenate(known) if known else np.zeros(0, np.int8)
    return LabelledHistory(
        events, training_labels(events.occurred_at, labels, now=_milliseconds(now), horizon=label_horizon)
    )


def history_from_files(transactions: Path, labels: Path | None, *, label_horizon: timedelta) -> LabelledHistory:
    """The labels file (event_id, label) may hold frauds only. The file's last event is taken as now."""
    table = _read_table(transactions, REQUIRED_COLUMNS)
    incomplete = [name for name in REQUIRED_COLUMNS if table[name].null_count]
    if incomplete:
        raise UnreadableHistory(f"{transactions} has rows without {', '.join(incomplete)}")
    order = np.argsort(_times(table), kind="stable")
    table = table.take(pa.array(order))
    events = _events(table)
    known = np.full(len(events), -1, np.int8)
    if labels is not None:
        names = _read_table(labels, ("event_id", "label"))
        by_id = dict(zip(names["event_id"].to_pylist(), names["label"].to_pylist(), strict=True))
        codes = {event_id: LABEL_CODES.get(label, -1) for event_id, label in by_id.items()}
        known = np.fromiter((codes.get(event_id, -1) for event_id in events.event_id), np.int8, len(events))
        now = int(events.occurred_at[-1]) + 1 if len(events) else 0
        known = training_labels(events.occurred_at, known, now=now, horizon=label_horizon)
    return LabelledHistory(events, known)


def train_and_register(
    history: LabelledHistory,
    config: TrainingConfig,
    registry: ModelRegistry,
    database: Database,
    *,
    promote: str | None,
    clock: Callable[[], datetime],
    progress: Callable[[str, float], None],
) -> tuple[ModelRecord, TrainingResult]:
    """promote: why the model becomes the champion; None makes it a challenger, but for the first one. Records the run
    in `training_runs`, whatever comes of it. Raises TrainingRefused."""
    torch.set_num_threads(1)  # as fast as two at these sizes, and the other core stays free
    run_id = uuid4().hex
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    start_training_run(database, run_id, MODEL_NAME, clock(), settings)
    try:
        result = train(history.events, history.labels, config, progress)
    except TrainingRefused as refusal:
        finish_training_run(database, run_id, clock(), "refused", message=str(refusal))
        raise
    except BaseException as error:
        finish_training_run(database, run_id, clock(), "failed", message=repr(error))
        raise
    first = registry.champion(MODEL_NAME) is None
    record = registry.register(
        MODEL_NAME,
        "detector",
        result.model.to_bytes(),
        feature_schema=result.model.feature_schema,
        metrics=result.metrics,
        clock=clock,
        alias="champion" if promote or first else "challenger",
        why=promote or ("first model" if first else None),
    )
    finish_training_run(database, run_id, clock(), "succeeded", metrics=result.metrics, model_version=record.version)
    return record, result


def utc_now() -> datetime:
    return datetime.now(UTC)


def _read_table(path: Path, required: tuple[str, ...]) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
        else:
            table = pa.csv.read_csv(path, convert_options=CSV_CONVERSION)
    except (OSError, pa.ArrowInvalid) as error:
        raise UnreadableHistory(f"cannot read {path}: {error}") from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        raise UnreadableHistory(f"{path} lacks the columns {', '.join(missing)}")
    return table


def _times(table: pa.Table) -> npt.NDArray[np.int64]:
    column = table["occurred_at"]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.timestamp("ms", "UTC"))
    return np.asarray(column.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy(), np.int64)


def _events(table: pa.Table) -> Events:
    count = table.num_rows
    optional = {
        name: table[name].to_pylist() if name in table.column_names else [None] * count for name in OPTIONAL_COLUMNS
    }
    occurred_at = _times(table)
    return Events(
        partition=np.zeros(count, np.int32),
        offset=np.arange(count, dtype=np.int64),
        day=(occurred_at // 86_400_000).astype(np.int32),
        event_id=table["event_id"].to_pylist(),
        occurred_at=occurred_at,
        account_id=table["account_id"].to_pylist(),
        merchant_id=table["merchant_id"].to_pylist(),
        amount=np.asarray(table["amount"].to_numpy(), np.float64),
        **optional,
    )


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)
