"""Trains a detector, readable from top to bottom: features, epochs, early stopping, calibration, threshold.

A history becomes sequences in memory first (sequences.py). The latest part of it is never trained on: it stops
training, calibrates and sets the threshold. Several processes may train together (distributed.py): the first reads the
history and judges, the others help with the gradients. After each epoch a checkpoint is kept (checkpoint.py), from
which the same training goes on where it was. Shape suffixes as in detector.py; N events of a batch.
"""

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.artifact import TrainedDetector
from models.calibration import LEAST_POSITIVES, calibrate
from models.checkpoint import CheckpointStore, NoCheckpoints, TrainingState, UnusableCheckpoint, fingerprint_of
from models.checks import failed_checks
from models.detector import LARGEST_SURPRISE, Detector, DetectorConfig
from models.distributed import ALONE, Processes
from models.drift import REFERENCE_NOTE, reference_bins
from models.events import MILLISECONDS_A_DAY
from models.labels import History, events_of
from models.live_threshold import PRECISION_NOTE
from models.metrics import average_precision, calibration_error, precision_at_threshold, roc_auc
from models.quality import Quality, quality_of
from models.segments import JudgedSlice
from models.sequences import (
    Progress,
    Sequences,
    TrainingConfig,
    TrainingRefused,
    padded_rows,
    prepare,
    training_batches,
    validation_begin,
)
from models.state import FEATURE_ROWS
from models.thresholds import threshold_for_budget, thresholds_by_precision

log = logging.getLogger(__name__)

#: Events that go through the network at once where no gradient is needed; more would fall out of the caches.
PASS_EVENTS = 32_768
#: Of an account's events before the later slice, those that warm its state for a look between two epochs: as many as
#: live state keeps to rebuild its own from.
WARMING_EVENTS = FEATURE_ROWS
#: The self-supervised loss beside the supervised one. It shapes the state but must not drown the few frauds.
SELF_SUPERVISED_WEIGHT = 0.1
#: A fraud weighs as much as the square root of the legitimate events for each fraud, at most this much.
LARGEST_POSITIVE_WEIGHT = 20.0
#: Of the accepted events, those that the registration checks score once more.
PROBE_EVENTS = 2_000


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """quality, judged: None where no fraud is known among what was not trained on."""

    model: TrainedDetector
    metrics: dict[str, float]
    quality: Quality | None = None
    judged: JudgedSlice | None = None
    config: TrainingConfig | None = None


#: Of a detector on a padded batch of sequences: what a step makes smaller. The last is how much more a fraud weighs.
BatchLoss = Callable[[Detector, Sequences, Tensor, float | None], Tensor]


@dataclass(frozen=True, slots=True)
class Pupil:
    """What a training begins with, how it is taught, and what becomes of its weights before they are judged."""

    detector: Detector
    loss: BatchLoss
    finished: Callable[[Detector], Detector] = lambda detector: detector


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What epochs run in. deadline: of `clock`, in seconds; infinite without a time budget; loss: that of several
    processes is always `batch_loss`."""

    progress: Progress
    clock: Callable[[], float] = time.monotonic
    deadline: float = math.inf
    processes: Processes = ALONE
    checkpoints: CheckpointStore = field(default_factory=NoCheckpoints)
    loss: BatchLoss = field(default_factory=lambda: batch_loss)


def untaught(sequences: Sequences, config: TrainingConfig) -> Pupil:
    """A detector that knows no more than the scale of its inputs."""
    detector = Detector(DetectorConfig(hidden=config.hidden, reporting_limit=config.reporting_limit))
    taught = torch.from_numpy(~sequences.validation)
    detector.standardise_by(sequences.features[taught], sequences.known[taught])
    return Pupil(detector, batch_loss)


def train(
    history: History,
    config: TrainingConfig,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
    processes: Processes = ALONE,
    checkpoints: CheckpointStore | None = None,
    pupil: Callable[[Sequences, TrainingConfig], Pupil] = untaught,
) -> TrainingResult:
    """In the first of the processes; the others call `help_training`. Raises TrainingRefused."""
    began = clock()
    check_history(history, config)
    torch.manual_seed(config.seed)
    sequences = prepare(history, config, progress)
    begun = pupil(sequences, config)
    deadline = math.inf if config.time_budget_seconds is None else began + config.time_budget_seconds
    kept = NoCheckpoints() if checkpoints is None else checkpoints
    surroundings = Surroundings(progress, clock, deadline, processes, kept, begun.loss)
    fitted = fit_together(begun.detector, sequences, config, surroundings)
    model, metrics, quality, judged = finish(begun.finished(begun.detector), sequences, history, config)
    failed = failed_checks(model, events_of(history, np.arange(max(0, len(history) - PROBE_EVENTS), len(history))))
    if failed:
        raise TrainingRefused(f"the trained detector is unfit for use: {'; '.join(failed)}")
    metrics |= fitted | {"seconds": clock() - began}
    # What this history cannot tell is left out: not every store takes a number that is none.
    told = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return TrainingResult(model, told, quality, judged, config)


def check_history(history: History, config: TrainingConfig) -> None:
    labels = history.labels
    if len(history) < config.least_events:
        raise TrainingRefused(f"{len(history)} events are too few; at least {config.least_events} are needed")
    if len(labels) != len(history):
        raise TrainingRefused(f"{len(labels)} labels for {len(history)} events")
    if (np.diff(history.occurred_at) < 0).any():
        raise TrainingRefused("events must be in the order of their time")
    if (labels == 1).any() and not (labels == 0).any():
        raise TrainingRefused("every labelled event is a fraud; legitimate ones are needed as well")


def fit_together(
    detector: Detector, sequences: Sequences, config: TrainingConfig, surroundings: Surroundings
) -> dict[str, float]:
    """Hands the task to the other processes and does it with them."""
    fingerprint = fingerprint_of(asdict(config), sequences.tensors(), surroundings.processes.count)
    found = surroundings.checkpoints.load()
    if surroundings.processes.count > 1:
        task = {f"sequences.{name}": value for name, value in sequences.tensors().items()}
        task |= {f"weights.{name}": value for name, value in detector.state_dict().items()}
        task |= {"config": as_bytes(json.dumps(asdict(config)).encode()), "checkpoint": as_bytes(found or b"")}
        task["fingerprint"] = as_bytes(fingerprint.encode())
        surroundings.processes.share(task)
    return fit(detector, sequences, config, surroundings, found, fingerprint)


def help_training(processes: Processes) -> Detector | None:
    """What every process but the first does: its part of the trainings, until the first has no more. Gives the last
    one's detector."""
    detector = None
    while task := processes.share(None):
        config = TrainingConfig(**json.loads(text_of(task["config"])))
        detector = Detector(DetectorConfig(hidden=config.hidden, reporting_limit=config.reporting_limit))
        detector.load_state_dict(under("weights.", task))
        sequences = Sequences.from_tensors(under("sequences.", task))
        surroundings = Surroundings(lambda stage, share: None, processes=processes)
        found = task["checkpoint"].numpy().tobytes() or None
        fit(detector, sequences, config, surroundings, found, text_of(task["fingerprint"]))
    return detector


def fit(
    detector: Detector,
    sequences: Sequences,
    config: TrainingConfig,
    surroundings: Surroundings,
    checkpoint: bytes | None,
    fingerprint: str,
) -> dict[str, float]:
    """Epochs until the validation slice stops improving, from the checkpoint on where it is one of this training;
    leaves the best weights. Of the figures, the events trained per second count the epochs whole, each with its look
    at the validation slice."""
    processes, clock = surroundings.processes, surroundings.clock
    detector.to(processes.device)
    optimizer = torch.optim.AdamW(
        detector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    state = TrainingState(detector, optimizer, np.random.default_rng(config.seed))
    if checkpoint is not None:
        go_on_from(checkpoint, state, fingerprint)
    weight, began = positive_weight(sequences), clock() - state.seconds
    while (
        state.epoch < config.epochs
        and state.since_best < config.patience
        and not processes.agreed(clock() >= surroundings.deadline)
    ):
        state.epoch += 1
        train_epoch(state, sequences, config, surroundings, weight, began)
        state.judged(processes.agreed(validation_quality(detector, sequences) if processes.is_first else 0.0))
        state.seconds = clock() - began
        if processes.is_first:
            surroundings.checkpoints.save(state.to_bytes(fingerprint))
    detector.load_state_dict(state.best)
    detector.to("cpu")
    speed = state.events / state.seconds if state.events and state.seconds > 0 else math.nan
    return {"epochs": state.epoch, "best_validation": state.best_quality, "training_events_per_second": speed}


def go_on_from(checkpoint: bytes, state: TrainingState, fingerprint: str) -> None:
    try:
        state.restore(checkpoint, fingerprint)
        log.info("training goes on after epoch %d", state.epoch)
    except UnusableCheckpoint as error:
        log.warning("training starts anew, the checkpoint found cannot be used: %s", error)


def train_epoch(
    state: TrainingState,
    sequences: Sequences,
    config: TrainingConfig,
    surroundings: Surroundings,
    positive_weight: float | None,
    began: float,
) -> None:
    """The learning rate falls to nothing along a cosine over the epochs or the time (Loshchilov and Hutter, 2017). Of
    k processes each takes every k-th batch; where they do not come out even, the first ones are taken twice."""
    detector, optimizer, processes = state.detector, state.optimizer, surroundings.processes
    detector.train()
    batches = training_batches(sequences, config, state.generator, processes.count)
    steps = math.ceil(len(batches) / processes.count)
    for number in range(steps):
        now = surroundings.clock()
        by_time = (now - began) / (surroundings.deadline - began) if now < surroundings.deadline else 1.0
        done = processes.agreed(max((state.epoch - 1 + number / steps) / config.epochs, by_time))
        if done >= 1.0:
            break
        optimizer.param_groups[0]["lr"] = config.learning_rate * (1 + math.cos(math.pi * done)) / 2
        rows_BT = batches[(number * processes.count + processes.rank) % len(batches)]
        loss = surroundings.loss(detector, sequences, rows_BT, positive_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        processes.average_gradients(detector.parameters())
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        state.events += int((rows_BT >= 0).sum()) * processes.count
        surroundings.progress(f"epoch {state.epoch}", (number + 1) / steps)


def positive_weight(sequences: Sequences) -> float | None:
    """How much more a fraud weighs than a legitimate event; None where there is nothing to tell apart."""
    frauds = sequences.trained_frauds
    legitimate = int(((sequences.labels == 0) & ~sequences.validation).sum())
    if not frauds or not legitimate:
        return None
    return min(max(math.sqrt(legitimate / frauds), 1.0), LARGEST_POSITIVE_WEIGHT)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a detector says of the N real events of a padded batch. rows: of the sequences."""

    logits_N: Tensor
    surprises_NS: Tensor
    rows_N: Tensor


def answers_of(detector: Detector, sequences: Sequences, rows_BT: Tensor) -> Answers:
    before_NH, after_NH, x_NX, categories_NC, rows_N = sequence_states(detector, sequences, rows_BT)
    surprises_NS, _ = detector.surprise(before_NH, x_NX.detach(), categories_NC)
    logits_N = detector.logits(after_NH, x_NX, surprises_NS, sequences.known[rows_N].to(detector.device))
    return Answers(logits_N, surprises_NS, rows_N)


def batch_loss(detector: Detector, sequences: Sequences, rows_BT: Tensor, positive_weight: float | None) -> Tensor:
    """The weighted cross-entropy of labelled events plus a share of the negative log-likelihood of all."""
    return loss_of(answers_of(detector, sequences, rows_BT), sequences, positive_weight)


def loss_of(answers: Answers, sequences: Sequences, positive_weight: float | None) -> Tensor:
    likelihood = answers.surprises_NS.clamp(max=4 * LARGEST_SURPRISE).mean()
    if positive_weight is None:
        return likelihood
    device = likelihood.device
    labels_N = torch.from_numpy(sequences.labels)[answers.rows_N].to(device)
    labelled_N = labels_N >= 0
    supervised = functional.binary_cross_entropy_with_logits(
        answers.logits_N[labelled_N],
        labels_N[labelled_N].float(),
        pos_weight=torch.tensor(positive_weight, device=device),
        reduction="sum",
    )
    return supervised / max(int(labelled_N.sum()), 1) + SELF_SUPERVISED_WEIGHT * likelihood


def sequence_states(
    detector: Detector, sequences: Sequences, rows_BT: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """States before and after, inputs, categories and row numbers of the N real events of a padded batch."""
    present_BT, device = rows_BT >= 0, detector.device
    rows_N = rows_BT[present_BT]
    categories_NC = sequences.categories[rows_N].to(device).long()
    x_NX = detector.inputs(sequences.features[rows_N].to(device), categories_NC, sequences.memos(rows_N))
    present_BT = present_BT.to(device)
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
        surprises, rare = detector.surprise(before, x, categories)
        logits[rows] = detector.logits(after, x, surprises, sequences.known[rows].to(detector.device)).cpu()
        unusual[rows], surprise[rows] = rare.cpu(), surprises.mean(1).cpu()
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
    detector: Detector, sequences: Sequences, history: History, config: TrainingConfig
) -> tuple[TrainedDetector, dict[str, float], Quality | None, JudgedSlice | None]:
    """Fusion, calibration, threshold, figures and curves, all from the later slice, with states as when live."""
    answers, later = outputs(detector, sequences, sequences.start), sequences.validation
    labels, unusual = sequences.labels[later], answers.unusual[later]
    taught = sequences.trained_frauds if positive_weight(sequences) is not None else 0
    surprise_weight = max(0.0, 1 - taught / LEAST_POSITIVES)
    mean, scale = float(unusual.mean()), max(float(unusual.std()), 1e-3)
    raw = surprise_weight * (unusual - mean) / scale + (1 - surprise_weight) * answers.logits[later]
    calibration = calibrate(raw, labels)
    scores = calibration.score(raw)
    span_days = max(1e-6, (int(history.occurred_at[-1]) - int(history.occurred_at[0])) / MILLISECONDS_A_DAY)
    events_per_day = config.events_per_day or len(history) / span_days
    threshold = threshold_for_budget(scores, config.alerts_per_day, events_per_day)
    metrics: dict[str, float] = {
        "events": len(sequences.labels),
        "frauds": int((sequences.labels == 1).sum()),
        "threshold": threshold,
        "alerts_per_day": config.alerts_per_day,
        "events_per_day": events_per_day,
    }
    truth, known, quality, judged = labels == 1, labels >= 0, None, None
    if truth.any():
        judged_rows = np.flatnonzero(later)[known]
        account = np.repeat(np.arange(len(sequences.start)), sequences.stop - sequences.start)[later][known]
        draw = np.random.default_rng(config.seed)
        quality = quality_of(scores[known], truth[known], account, threshold, calibration.kind, draw)
        judged = JudgedSlice.of(
            scores[known],
            truth[known],
            account,
            sequences.features[judged_rows].numpy(),
            sequences.categories[judged_rows].numpy(),
            threshold,
            judged_span(history, config),
        )
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
    return model, metrics, quality, judged


def judged_span(history: History, config: TrainingConfig) -> tuple[int, int]:
    """Epoch milliseconds of the first and the last event with a label in the later slice."""
    begin = validation_begin(history.occurred_at, history.labels, config.validation_share)
    times = history.occurred_at[(history.occurred_at > begin) & (history.labels >= 0)]
    return int(times[0]), int(times[-1])


def as_bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def text_of(data: Tensor) -> str:
    return data.numpy().tobytes().decode()


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
