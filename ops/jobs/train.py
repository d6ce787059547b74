"""`headgate train`: a detector from a history (history.py), registered and, when asked, promoted."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import torch

from models.train_detector import TrainingConfig, TrainingRefused, TrainingResult, train
from ops.jobs.history import LabelledHistory
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from storage.training_data import finish_training_run, start_training_run
from streams.detection import MODEL_NAME


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
