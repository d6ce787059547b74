"""Trains a detector, readable from top to bottom: features, sequences, epochs, early stopping, calibration, threshold.

Features come from the very code that scores live, over the whole history in the order of time. Accounts' histories
are cut into windows that start from an empty state (random resets, so that a young state is familiar), packed by
length, and run through the sequence kernel. The latest part of the history is never trained on: it stops training,
calibrates and sets the threshold. Shape suffixes as in detector.py.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.artifact import TrainedDetector
from models.calibration import LEAST_POSITIVES, calibrate
from models.detector import LARGEST_SURPRISE, Detector, DetectorConfig
from models.events import Events
from models.features import FeatureBuilder
from models.metrics import average_precision, calibration_error, precision_at_threshold, roc_auc
from models.thresholds import threshold_for_budget

DAY_MILLISECONDS = 86_400_000
FEATURE_CHUNK = 20_000
SELF_SUPERVISED_WEIGHT = 0.1

Progress = Callable[[str, float], None]


class TrainingRefused(ValueError):
    """This history cannot teach a detector; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """events_per_day: expected traffic, None for that of the data. time_budget_seconds ends training early."""

    hidden: int = 64
    epochs: int = 8
    patience: int = 2
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    window: int = 64
    events_per_batch: int = 8192
    validation_share: float = 0.25
    least_events: int = 1_000
    alerts_per_day: float = 100.0
    events_per_day: float | None = None
    reporting_limit: float = 10_000.0
    time_budget_seconds: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainingResult:
    model: TrainedDetector
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Sequences:
    """The history sorted by account, then time. start[k]..stop[k] are account k's rows; validation bool[n]."""

    features: torch.Tensor
    categories: torch.Tensor
    memos: torch.Tensor | None
    labels: torch.Tensor
    validation: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]


def train(events: Events, labels: npt.NDArray[np.int8], config: TrainingConfig, progress: Progress) -> TrainingResult:
    """events in the order of time; labels: 1 fraud, 0 legitimate, -1 unknown. Raises TrainingRefused."""
    began = time.monotonic()
    check_history(events, labels, config)
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    sequences = prepare(events, labels, config, progress)
    detector = Detector(DetectorConfig(hidden=config.hidden, reporting_limit=config.reporting_limit))
    trained = torch.from_numpy(~sequences.validation)
    detector.standardise_by(sequences.features[trained])
    epochs, quality = fit(detector, sequences, config, generator, progress, began)
    model, metrics = finish(detector, sequences, events, config)
    metrics |= {"epochs": epochs, "best_validation": quality, "seconds": time.monotonic() - began}
    return TrainingResult(model, metrics)


def check_history(events: Events, labels: npt.NDArray[np.int8], config: TrainingConfig) -> None:
    if len(events) < config.least_events:
        raise TrainingRefused(f"{len(events)} events are too few; at least {config.least_events} are needed")
    if (np.diff(events.occurred_at) < 0).any():
        raise TrainingRefused("events must be in the order of their time")
    if (labels == 1).any() and not (labels == 0).any():
        raise TrainingRefused("every labelled event is a fraud; legitimate ones are needed as well")


def prepare(events: Events, labels: npt.NDArray[np.int8], config: TrainingConfig, progress: Progress) -> Sequences:
    """Features of the whole history, sorted by account. Repeated event ids are left out."""
    builder = FeatureBuilder(config.reporting_limit)
    parts: list[tuple[npt.NDArray[np.int64], ...]] = []
    memo_parts: list[npt.NDArray[np.int64]] = []
    for first in range(0, len(events), FEATURE_CHUNK):
        rows = np.arange(first, min(first + FEATURE_CHUNK, len(events)))
        built = builder.build(events.take(rows))
        memos = np.zeros((len(built.features), 8), np.int64) if built.memos is None else built.memos
        parts.append((first + built.rows, built.runs.slot, built.features, built.categories))  # type: ignore[arg-type]
        memo_parts.append(memos)
        progress("features", rows[-1] / len(events))
    rows, slots, features, categories = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    memos = np.concatenate(memo_parts)
    order = np.lexsort((rows, slots))
    rows, slots = rows[order], slots[order]
    first_of_account = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
    cut = np.quantile(events.occurred_at, 1 - config.validation_share)
    progress("features", 1.0)
    return Sequences(
        features=torch.from_numpy(features[order].astype(np.float32)),
        categories=torch.from_numpy(categories[order]),
        memos=torch.from_numpy(memos[order]) if memos.any() else None,
        labels=torch.from_numpy(labels[rows].astype(np.int64)),
        validation=events.occurred_at[rows] > cut,
        start=first_of_account,
        stop=np.append(first_of_account[1:], len(rows)),
    )


def fit(
    detector: Detector,
    sequences: Sequences,
    config: TrainingConfig,
    generator: np.random.Generator,
    progress: Progress,
    began: float,
) -> tuple[int, float]:
    """Epochs until the validation slice stops improving; leaves the best weights. Returns (epochs, best quality)."""
    optimizer = torch.optim.AdamW(detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    positives = int(((sequences.labels == 1) & torch.from_numpy(~sequences.validation)).sum())
    best, best_quality, since_best, epoch = None, -np.inf, 0, 0
    for epoch in range(1, config.epochs + 1):
        detector.train()
        batches = list(training_batches(sequences, config, generator))
        for number, rows_BT in enumerate(batches):
            loss = batch_loss(detector, sequences, rows_BT, positives)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
            optimizer.step()
            progress(f"epoch {epoch}", (number + 1) / len(batches))
        quality = validation_quality(detector, sequences)
        if quality > best_quality:
            best, best_quality, since_best = copy_of(detector), quality, 0
        else:
            since_best += 1
        over = config.time_budget_seconds is not None and time.monotonic() - began > config.time_budget_seconds
        if since_best >= config.patience or over:
            break
    assert best is not None
    detector.load_state_dict(best)
    return epoch, best_quality


def training_batches(
    sequences: Sequences, config: TrainingConfig, generator: np.random.Generator
) -> Iterator[torch.Tensor]:
    """Row numbers [B, T], -1 where a window has ended; windows of like length share a batch, batches are shuffled."""
    starts: list[int] = []
    stops: list[int] = []
    for start, stop in zip(sequences.start.tolist(), sequences.stop.tolist(), strict=True):
        first = start - int(generator.integers(0, config.window)) if stop - start > config.window else start
        for begin in range(first, stop, config.window):
            starts.append(max(begin, start))
            stops.append(min(begin + config.window, stop))
    begin_all, length = np.array(starts), np.array(stops) - np.array(starts)
    order = np.argsort(length, kind="stable")
    batches, at = [], 0
    while at < len(order):
        size = max(1, config.events_per_batch // max(1, int(length[order[min(at + 64, len(order) - 1)]])))
        batches.append(order[at : at + size])
        at += size
    for number in generator.permutation(len(batches)):
        chosen = batches[number]
        longest = int(length[chosen].max())
        rows_BT = begin_all[chosen][:, None] + np.arange(longest)
        rows_BT[np.arange(longest) >= length[chosen][:, None]] = -1
        yield torch.from_numpy(rows_BT)


def batch_loss(detector: Detector, sequences: Sequences, rows_BT: torch.Tensor, positives: int) -> torch.Tensor:
    """Supervised cross-entropy on labelled events plus the weighted likelihood of all; later slice masked."""
    before_NH, after_NH, x_NX, rows_N = sequence_states(detector, sequences, rows_BT)
    trained = ~torch.from_numpy(sequences.validation)[rows_N]
    surprises_NS, _ = detector.surprise(before_NH, x_NX.detach(), sequences.categories[rows_N])
    weight = trained.float()
    likelihood = (surprises_NS.clamp(max=4 * LARGEST_SURPRISE).mean(1) * weight).sum() / weight.sum().clamp(min=1)
    labels = sequences.labels[rows_N]
    labelled = trained & (labels >= 0)
    if positives == 0 or not labelled.any():
        return likelihood
    logits = detector.logits(after_NH, x_NX, surprises_NS)
    supervised = functional.binary_cross_entropy_with_logits(logits[labelled], labels[labelled].float())
    return supervised * 10 + SELF_SUPERVISED_WEIGHT * likelihood


def sequence_states(
    detector: Detector, sequences: Sequences, rows_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """States before and after, inputs and row numbers of the N real events of a padded batch."""
    present_BT = rows_BT >= 0
    rows_N = rows_BT[present_BT]
    memos = None if sequences.memos is None else sequences.memos[rows_N]
    x_NX = detector.inputs(sequences.features[rows_N], sequences.categories[rows_N], memos)
    x_BTX = x_NX.new_zeros(*rows_BT.shape, x_NX.shape[1])
    x_BTX[present_BT] = x_NX
    after_BTH, _ = detector.gru(x_BTX)
    before_BTH = functional.pad(after_BTH[:, :-1], (0, 0, 1, 0))
    return before_BTH[present_BT], after_BTH[present_BT], x_NX, rows_N


@torch.inference_mode()
def whole_pass(detector: Detector, sequences: Sequences) -> tuple[torch.Tensor, ...]:
    """logits, unusualness and mean surprise of every event, each account's history in one go, as when live."""
    detector.eval()
    total = len(sequences.labels)
    logits, unusual, surprise = torch.zeros(total), torch.zeros(total), torch.zeros(total)
    length = sequences.stop - sequences.start
    order, at = np.argsort(length, kind="stable"), 0
    while at < len(order):
        longest = int(length[order[min(at + 255, len(order) - 1)]])
        chosen = order[at : at + max(1, min(256, 200_000 // max(1, longest)))]
        at += len(chosen)
        longest = int(length[chosen].max())
        rows_BT = torch.from_numpy(sequences.start[chosen][:, None] + np.arange(longest))
        rows_BT[torch.from_numpy(np.arange(longest) >= length[chosen][:, None])] = -1
        before, after, x, rows = sequence_states(detector, sequences, rows_BT)
        surprises, unusual[rows] = detector.surprise(before, x, sequences.categories[rows])
        logits[rows] = detector.logits(after, x, surprises)
        surprise[rows] = surprises.mean(1)
    return logits, unusual, surprise


def validation_quality(detector: Detector, sequences: Sequences) -> float:
    """Average precision where the slice holds frauds, else minus the mean surprise."""
    logits, _, surprise = whole_pass(detector, sequences)
    labels = sequences.labels.numpy()
    known = sequences.validation & (labels >= 0)
    if (labels[known] == 1).any():
        return average_precision(logits.numpy()[known].astype(np.float64), labels[known] == 1)
    return -float(surprise[torch.from_numpy(sequences.validation)].clamp(max=LARGEST_SURPRISE).mean())


def finish(
    detector: Detector, sequences: Sequences, events: Events, config: TrainingConfig
) -> tuple[TrainedDetector, dict[str, float]]:
    """Fusion, calibration, threshold and figures, all from the later slice."""
    logits, unusual, _ = whole_pass(detector, sequences)
    later, labels = sequences.validation, sequences.labels.numpy().astype(np.int8)
    positives = int((labels == 1).sum())
    weight = max(0.0, 1 - positives / LEAST_POSITIVES)
    mean, scale = float(unusual.mean()), float(unusual.std().clamp(min=1e-3))
    surprise = (unusual.numpy() - mean) / scale
    raw = (weight * surprise + (1 - weight) * logits.numpy()).astype(np.float64)[later]
    calibration = calibrate(raw, labels[later])
    scores = calibration.score(raw)
    span_days = max(1e-6, (int(events.occurred_at[-1]) - int(events.occurred_at[0])) / DAY_MILLISECONDS)
    events_per_day = config.events_per_day or len(events) / span_days
    threshold = threshold_for_budget(scores, config.alerts_per_day, events_per_day)
    metrics: dict[str, float] = {
        "events": len(labels),
        "frauds": positives,
        "threshold": threshold,
        "alerts_per_day": config.alerts_per_day,
        "events_per_day": events_per_day,
    }
    known = labels[later] >= 0
    truth = labels[later][known] == 1
    if truth.any():
        metrics |= {
            "average_precision": average_precision(scores[known], truth),
            "auc": roc_auc(scores[known], truth),
            "precision_at_budget": precision_at_threshold(scores[known], truth, threshold),
            "calibration_error": calibration_error(scores[known], truth),
            "validation_frauds": int(truth.sum()),
        }
    model = TrainedDetector(detector.eval(), calibration, threshold, weight, mean, scale, {"seed": config.seed})
    return model, metrics


def copy_of(detector: Detector) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in detector.state_dict().items()}
