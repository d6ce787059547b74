"""Trains a detector, readable from top to bottom: features, windows, epochs, early stopping, calibration, threshold.

Features come from the very code that scores live, over the whole history in the order of time, each event with what
labels said of its merchant at that moment. Accounts' histories
are cut into windows that start from an empty state (random resets, so that a young state is familiar) and run through
the sequence kernel in padded batches of like length. The latest part of the history is never trained on: it stops
training, calibrates and sets the threshold. Shape suffixes as in detector.py; N events of a batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.artifact import TrainedDetector
from models.calibration import LEAST_POSITIVES, calibrate
from models.checks import failed_checks
from models.detector import LARGEST_SURPRISE, Detector, DetectorConfig
from models.drift import REFERENCE_NOTE, reference_bins
from models.events import MILLISECONDS_A_DAY, Events
from models.feature_schema import MEMO_PARTS
from models.features import FeatureBuilder
from models.labels import LabelledHistory, LabelRelease, version_batches
from models.live_threshold import PRECISION_NOTE
from models.metrics import average_precision, calibration_error, precision_at_threshold, roc_auc
from models.state import FEATURE_ROWS
from models.thresholds import threshold_for_budget, thresholds_by_precision

FEATURE_CHUNK = 20_000
#: Events that go through the network at once where no gradient is needed; more would fall out of the caches.
PASS_EVENTS = 32_768
#: Of an account's events before the later slice, those that warm its state for a look between two epochs: as many as
#: live state keeps to rebuild its own from.
WARMING_EVENTS = FEATURE_ROWS
#: About so many batches make an epoch, within these bounds: a short history needs the steps, a long one the speed.
STEPS_AN_EPOCH = 100
LEAST_BATCH, LARGEST_BATCH = 1_024, 8_192
#: The self-supervised loss beside the supervised one. It shapes the state but must not drown the few frauds.
SELF_SUPERVISED_WEIGHT = 0.1
#: A fraud weighs as much as the square root of the legitimate events for each fraud, at most this much.
LARGEST_POSITIVE_WEIGHT = 20.0
#: Of the accepted events, those that the registration checks score once more.
PROBE_EVENTS = 2_000

Progress = Callable[[str, float], None]


class TrainingRefused(ValueError):
    """This history cannot teach a detector; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """window: events of an account between two resets of its state; events_per_batch: None for what suits the length
    of the history; validation_share: the latest part, never trained on; events_per_day: expected traffic, None for
    that of the data; time_budget_seconds ends training early."""

    hidden: int = 64
    epochs: int = 12
    patience: int = 3
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    window: int = 64
    events_per_batch: int | None = None
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
    """The history sorted by account, then time. Account k has the rows start[k] to stop[k], those from held_out[k] on
    are in the later slice; validation bool[n] says the same per row. labels int8[n]: the truth, -1 unknown; known: what
    labels said of the merchant at the time. Categories and memos are kept as int16."""

    features: Tensor
    categories: Tensor
    memos: Tensor | None
    known: Tensor
    labels: npt.NDArray[np.int8]
    validation: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    @property
    def trained_frauds(self) -> int:
        return int(((self.labels == 1) & ~self.validation).sum())


def train(
    history: LabelledHistory,
    config: TrainingConfig,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Raises TrainingRefused."""
    began, events = clock(), history.events
    check_history(events, history.labels, config)
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    sequences = prepare(history, config, progress)
    detector = Detector(DetectorConfig(hidden=config.hidden, reporting_limit=config.reporting_limit))
    taught = torch.from_numpy(~sequences.validation)
    detector.standardise_by(sequences.features[taught], sequences.known[taught])
    deadline = math.inf if config.time_budget_seconds is None else began + config.time_budget_seconds
    fitted = fit(detector, sequences, config, generator, progress, clock, deadline)
    model, metrics = finish(detector, sequences, events, config)
    failed = failed_checks(model, events.take(np.arange(max(0, len(events) - PROBE_EVENTS), len(events))))
    if failed:
        raise TrainingRefused(f"the trained detector is unfit for use: {'; '.join(failed)}")
    metrics |= fitted | {"seconds": clock() - began}
    # What this history cannot tell is left out: not every store takes a number that is none.
    return TrainingResult(model, {name: value for name, value in metrics.items() if math.isfinite(value)})


def check_history(events: Events, labels: npt.NDArray[np.int8], config: TrainingConfig) -> None:
    if len(events) < config.least_events:
        raise TrainingRefused(f"{len(events)} events are too few; at least {config.least_events} are needed")
    if len(labels) != len(events):
        raise TrainingRefused(f"{len(labels)} labels for {len(events)} events")
    if (np.diff(events.occurred_at) < 0).any():
        raise TrainingRefused("events must be in the order of their time")
    if (labels == 1).any() and not (labels == 0).any():
        raise TrainingRefused("every labelled event is a fraud; legitimate ones are needed as well")


def validation_begin(occurred_at: npt.NDArray[np.int64], labels: npt.NDArray[np.int8], share: float) -> float:
    """The time after which nothing is trained on: the later slice holds the share of what can judge a model, that is
    of labelled events where there are frauds, else of all."""
    judging = occurred_at[labels >= 0] if (labels == 1).any() else occurred_at
    begin = float(np.quantile(judging, 1 - share))
    if not occurred_at[0] <= begin < occurred_at[-1]:
        raise TrainingRefused("the events are too close in time to keep the latest apart for validation")
    return begin


def prepare(history: LabelledHistory, config: TrainingConfig, progress: Progress) -> Sequences:
    """Features of the whole history, sorted by account. Repeated event ids are left out."""
    events = history.events
    begin = validation_begin(events.occurred_at, history.labels, config.validation_share)
    builder, release = FeatureBuilder(config.reporting_limit), LabelRelease(history)
    columns: list[tuple[npt.NDArray[np.generic], ...]] = []
    for rows in version_batches(events.occurred_at, FEATURE_CHUNK):
        builder.use_labels(release.knowledge(int(events.occurred_at[rows[0]])))
        built = builder.build(events.take(rows))
        release.note(rows[built.rows], built.unexplained)
        memos = np.zeros((len(built.rows), MEMO_PARTS)) if built.memos is None else built.memos
        small = built.categories.astype(np.int16), memos.astype(np.int16)
        columns.append((rows[built.rows], built.runs.slot, built.features, built.labels, *small))
        progress("features", rows[-1] / len(events))
    rows, slots, features, known, categories, memos = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.lexsort((rows, slots))
    rows, slots = rows[order], slots[order]
    start = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
    stop = np.append(start[1:], len(rows))
    validation = events.occurred_at[rows] > begin
    progress("features", 1.0)
    return Sequences(
        features=torch.from_numpy(features[order]),
        categories=torch.from_numpy(categories[order]),
        memos=torch.from_numpy(memos[order]) if memos.any() else None,
        known=torch.from_numpy(known[order]),
        labels=history.labels[rows],
        validation=validation,
        start=start,
        held_out=stop - np.add.reduceat(validation, start, dtype=np.int64),
        stop=stop,
    )


def fit(
    detector: Detector,
    sequences: Sequences,
    config: TrainingConfig,
    generator: np.random.Generator,
    progress: Progress,
    clock: Callable[[], float],
    deadline: float,
) -> dict[str, float]:
    """Epochs until the validation slice stops improving; leaves the best weights. The learning rate falls to nothing
    along a cosine over the epochs or the time (Loshchilov and Hutter, 2017). Of the figures, the events trained
    per second count the epochs whole, each with its look at the validation slice."""
    optimizer = torch.optim.AdamW(
        detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    weight, began, events = positive_weight(sequences), clock(), 0
    best, best_quality, since_best, epoch = copy_of(detector), -math.inf, 0, 0
    while epoch < config.epochs and since_best < config.patience and clock() < deadline:
        epoch += 1
        detector.train()
        batches = training_batches(sequences, config, generator)
        for number, rows_BT in enumerate(batches):
            now = clock()
            if now >= deadline:
                break
            done = max((epoch - 1 + number / len(batches)) / config.epochs, (now - began) / (deadline - began))
            optimizer.param_groups[0]["lr"] = config.learning_rate * (1 + math.cos(math.pi * done)) / 2
            loss = batch_loss(detector, sequences, rows_BT, weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
            optimizer.step()
            events += int((rows_BT >= 0).sum())
            progress(f"epoch {epoch}", (number + 1) / len(batches))
        quality = validation_quality(detector, sequences)
        if quality > best_quality:
            best, best_quality, since_best = copy_of(detector), quality, 0
        else:
            since_best += 1
    seconds = clock() - began
    detector.load_state_dict(best)
    speed = events / seconds if events and seconds > 0 else math.nan
    return {"epochs": epoch, "best_validation": best_quality, "training_events_per_second": speed}


def positive_weight(sequences: Sequences) -> float | None:
    """How much more a fraud weighs than a legitimate event; None where there is nothing to tell apart."""
    frauds = sequences.trained_frauds
    legitimate = int(((sequences.labels == 0) & ~sequences.validation).sum())
    if not frauds or not legitimate:
        return None
    return min(max(math.sqrt(legitimate / frauds), 1.0), LARGEST_POSITIVE_WEIGHT)


def batch_events(sequences: Sequences, config: TrainingConfig) -> int:
    """At most so many events, padding included, make a batch."""
    trained = int((~sequences.validation).sum())
    return config.events_per_batch or min(max(trained // STEPS_AN_EPOCH, LEAST_BATCH), LARGEST_BATCH)


def training_batches(sequences: Sequences, config: TrainingConfig, generator: np.random.Generator) -> list[Tensor]:
    """Row numbers [B, T] of windows before the later slice, -1 where a window has ended, in random order. Windows of
    like length share a batch; an account's first cut is drawn anew each time."""
    length = sequences.held_out - sequences.start
    offset = np.where(length > config.window, generator.integers(0, config.window, len(length)), 0)
    windows = -(-(length + offset) // config.window)
    account = np.repeat(np.arange(len(length)), windows)
    number = np.arange(len(account)) - np.repeat(np.cumsum(windows) - windows, windows)
    cut = sequences.start[account] - offset[account] + number * config.window
    first = np.maximum(cut, sequences.start[account])
    stop = np.minimum(cut + config.window, sequences.held_out[account])
    batches = list(padded_rows(first, stop, batch_events(sequences, config)))
    return [batches[place] for place in generator.permutation(len(batches))]


def padded_rows(first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], events_per_batch: int) -> Iterator[Tensor]:
    """The rows of each sequence [first, stop) as batches [B, T] padded with -1, shortest first."""
    length = stop - first
    order = np.argsort(length, kind="stable")
    order = order[np.searchsorted(length[order], 1) :]
    at = 0
    while at < len(order):
        sequences = max(1, events_per_batch // int(length[order[at]]))
        longest = int(length[order[min(at + sequences, len(order)) - 1]])
        sequences = max(1, min(sequences, events_per_batch // longest))
        chosen = order[at : at + sequences]
        at += sequences
        steps = np.arange(int(length[chosen].max()))
        yield torch.from_numpy(np.where(steps < length[chosen][:, None], first[chosen][:, None] + steps, -1))


def batch_loss(detector: Detector, sequences: Sequences, rows_BT: Tensor, positive_weight: float | None) -> Tensor:
    """The weighted cross-entropy of labelled events plus a share of the negative log-likelihood of all."""
    before_NH, after_NH, x_NX, categories_NC, rows_N = sequence_states(detector, sequences, rows_BT)
    surprises_NS, _ = detector.surprise(before_NH, x_NX.detach(), categories_NC)
    likelihood = surprises_NS.clamp(max=4 * LARGEST_SURPRISE).mean()
    if positive_weight is None:
        return likelihood
    labels_N = torch.from_numpy(sequences.labels)[rows_N]
    labelled_N = labels_N >= 0
    supervised = functional.binary_cross_entropy_with_logits(
        detector.logits(after_NH, x_NX, surprises_NS, sequences.known[rows_N])[labelled_N],
        labels_N[labelled_N].float(),
        pos_weight=torch.tensor(positive_weight),
        reduction="sum",
    )
    return supervised / max(int(labelled_N.sum()), 1) + SELF_SUPERVISED_WEIGHT * likelihood


def sequence_states(
    detector: Detector, sequences: Sequences, rows_BT: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """States before and after, inputs, categories and row numbers of the N real events of a padded batch."""
    present_BT = rows_BT >= 0
    rows_N = rows_BT[present_BT]
    categories_NC = sequences.categories[rows_N].long()
    memos_NM = None if sequences.memos is None else sequences.memos[rows_N].long()
    x_NX = detector.inputs(sequences.features[rows_N], categories_NC, memos_NM)
    x_BTX = x_NX.new_zeros(*rows_BT.shape, x_NX.shape[1])
    x_BTX[present_BT] = x_NX
    after_BTH, _ = detector.gru(x_BTX)
    before_BTH = functional.pad(after_BTH[:, :-1], (0, 0, 1, 0))
    return before_BTH[present_BT], after_BTH[present_BT], x_NX, categories_NC, rows_N


@dataclass(frozen=True, slots=True)
class Outputs:
    """The network's answers for every row of the history, NaN where it was not asked."""

    logits: npt.NDArray[np.float64]
    unusual: npt.NDArray[np.float64]
    surprise: npt.NDArray[np.float64]


@torch.inference_mode()
def outputs(detector: Detector, sequences: Sequences, first: npt.NDArray[np.int64]) -> Outputs:
    """Answers for each account's rows from `first` on, each account in one go from an empty state there."""
    detector.eval()
    logits, unusual, surprise = (torch.full((len(sequences.labels),), torch.nan) for _ in range(3))
    for rows_BT in padded_rows(first, sequences.stop, PASS_EVENTS):
        before, after, x, categories, rows = sequence_states(detector, sequences, rows_BT)
        surprises, unusual[rows] = detector.surprise(before, x, categories)
        logits[rows] = detector.logits(after, x, surprises, sequences.known[rows])
        surprise[rows] = surprises.mean(1)
    return Outputs(*(answer.double().numpy() for answer in (logits, unusual, surprise)))


def validation_quality(detector: Detector, sequences: Sequences) -> float:
    """Average precision where the later slice holds frauds, else minus the mean surprise. States are warmed by the
    last events before the slice, which tells epochs apart at a fraction of the whole history's cost."""
    waiting = sequences.held_out < sequences.stop
    first = np.where(waiting, np.maximum(sequences.start, sequences.held_out - WARMING_EVENTS), sequences.stop)
    answers, labels = outputs(detector, sequences, first), sequences.labels
    known = sequences.validation & (labels >= 0)
    if (labels[known] == 1).any() and sequences.trained_frauds:
        return average_precision(answers.logits[known], labels[known] == 1)
    return -float(np.minimum(answers.surprise[sequences.validation], LARGEST_SURPRISE).mean())


def finish(
    detector: Detector, sequences: Sequences, events: Events, config: TrainingConfig
) -> tuple[TrainedDetector, dict[str, float]]:
    """Fusion, calibration, threshold and figures, all from the later slice, with states as when live."""
    answers, later = outputs(detector, sequences, sequences.start), sequences.validation
    labels, unusual = sequences.labels[later], answers.unusual[later]
    taught = sequences.trained_frauds if positive_weight(sequences) is not None else 0
    surprise_weight = max(0.0, 1 - taught / LEAST_POSITIVES)
    mean, scale = float(unusual.mean()), max(float(unusual.std()), 1e-3)
    raw = surprise_weight * (unusual - mean) / scale + (1 - surprise_weight) * answers.logits[later]
    calibration = calibrate(raw, labels)
    scores = calibration.score(raw)
    span_days = max(1e-6, (int(events.occurred_at[-1]) - int(events.occurred_at[0])) / MILLISECONDS_A_DAY)
    events_per_day = config.events_per_day or len(events) / span_days
    threshold = threshold_for_budget(scores, config.alerts_per_day, events_per_day)
    metrics: dict[str, float] = {
        "events": len(sequences.labels),
        "frauds": int((sequences.labels == 1).sum()),
        "threshold": threshold,
        "alerts_per_day": config.alerts_per_day,
        "events_per_day": events_per_day,
    }
    truth, known = labels == 1, labels >= 0
    if truth.any():
        metrics |= {
            "average_precision": average_precision(scores[known], truth[known]),
            "auc": roc_auc(scores[known], truth[known]),
            "precision_at_budget": precision_at_threshold(scores[known], truth[known], threshold),
            "validation_frauds": int(truth.sum()),
        }
    if truth.any() and calibration.kind == "probability":
        metrics["calibration_error"] = calibration_error(scores[known], truth[known])
    notes = {
        "seed": config.seed,
        PRECISION_NOTE: thresholds_by_precision(scores[known], truth[known]),
        REFERENCE_NOTE: reference_bins(sequences.features[torch.from_numpy(later)].numpy(), scores),
    }
    model = TrainedDetector(detector.eval(), calibration, threshold, surprise_weight, mean, scale, notes)
    return model, metrics


def copy_of(detector: Detector) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in detector.state_dict().items()}
