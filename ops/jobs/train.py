"""`headgate train`: a detector from a history (history.py), registered and, when asked, promoted."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import torch

from models.checkpoint import CheckpointStore
from models.data_quality import DataQuality
from models.distributed import ALONE, Processes
from models.labels import History
from models.model_card import CARD, DetectorFacts, detector_card
from models.policy_history import PolicyTrainingRefused
from models.sequences import TrainingConfig, TrainingRefused
from models.train_detector import TrainingResult, train
from ops.jobs.data_check import refuse_broken
from storage.database import Database
from storage.registry import ModelRecord, ModelRegistry
from storage.training_data import finish_training_run, start_training_run
from streams.detection import MODEL_NAME

#: In a registered model's metrics: its training and validation saw nothing later.
TRAINED_UNTIL = "trained_until"


#: Threads of a training that somebody waits for; more of them gain nothing at these sizes.
MOST_THREADS = 2


def train_and_register(
    history: History,
    config: TrainingConfig,
    registry: ModelRegistry,
    database: Database,
    *,
    quality: DataQuality | None,
    promote: str | None,
    clock: Callable[[], datetime],
    progress: Callable[[str, float], None],
    device: str = "cpu",
    stopwatch: Callable[[], float] = time.monotonic,
) -> tuple[ModelRecord, TrainingResult]:
    """quality: what a look at the history found, None where nobody looked. promote: why the model becomes the champion;
    None makes it a challenger, but for the first one. stopwatch: seconds, of which the configuration may have a budget.
    Records the run in `training_runs`, whatever comes of it. Raises TrainingRefused."""
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    with recorded_run(database, settings, clock) as run_id:
        if quality is not None:
            refuse_broken(quality)
        torch.set_num_threads(min(MOST_THREADS, os.cpu_count() or 1))
        result = train(history, config, progress, clock=stopwatch, processes=Processes(device=torch.device(device)))
        first = registry.champion(MODEL_NAME) is None
        record = register_detector(
            registry,
            result,
            history,
            clock,
            data=quality,
            run_id=run_id,
            alias="champion" if promote or first else "challenger",
            why=promote or ("first model" if first else None),
        )
        finish_training_run(database, run_id, clock(), "succeeded", metrics=result.metrics)
    return record, result


@contextmanager
def recorded_run(
    database: Database, settings: Mapping[str, Any], clock: Callable[[], datetime], model_name: str = MODEL_NAME
) -> Iterator[str]:
    """A row in `training_runs` that is running, and refused or failed where the block is; gives its id. A block that
    succeeds leaves the row to its caller."""
    run_id = uuid4().hex
    start_training_run(database, run_id, model_name, clock(), dict(settings))
    try:
        yield run_id
    except (TrainingRefused, PolicyTrainingRefused) as refusal:
        finish_training_run(database, run_id, clock(), "refused", message=str(refusal))
        raise
    except BaseException as error:
        finish_training_run(database, run_id, clock(), "failed", message=repr(error))
        raise


def train_on_one_thread(
    history: History,
    config: TrainingConfig,
    progress: Callable[[str, float], None],
    checkpoints: CheckpointStore | None = None,
    processes: Processes = ALONE,
) -> TrainingResult:
    """Beside workers, whose core it leaves free."""
    torch.set_num_threads(1)
    return train(history, config, progress, checkpoints=checkpoints, processes=processes)


def register_detector(
    registry: ModelRegistry,
    result: TrainingResult,
    history: History,
    clock: Callable[[], datetime],
    *,
    data: DataQuality | None,
    run_id: str,
    alias: str | None,
    why: str | None,
    more: Mapping[str, Any] | None = None,
) -> ModelRecord:
    """With its card. history: what it was trained and validated on; the model's metrics say until when. data: what a
    look at it found. run_id: of its training; more: other metrics, with intervals of their own perhaps."""
    quality = {} if result.quality is None else result.quality.figures()
    more = dict(more or {})
    quality["intervals"] = {**quality.get("intervals", {}), **more.pop("intervals", {})}
    kind = result.model.calibration.kind
    settings = {} if result.config is None else asdict(result.config)
    facts = DetectorFacts(history, result.judged, kind, settings, version("headgate"), data)
    return registry.register(
        MODEL_NAME,
        "detector",
        result.model.to_bytes(),
        feature_schema=result.model.feature_schema,
        metrics={
            **result.metrics,
            **quality,
            **more,
            TRAINED_UNTIL: trained_until(history).isoformat(),
            CARD: detector_card(facts).as_json(),
        },
        clock=clock,
        run_id=run_id,
        alias=alias,
        why=why,
    )


def trained_until(history: History) -> datetime:
    """The time of the latest event that taught or validated: of those with a label where there is one, else of all."""
    times, labels = history.occurred_at, history.labels
    taught = times[labels >= 0] if (labels >= 0).any() else times
    return datetime.fromtimestamp(int(taught.max()) / 1000, UTC)
