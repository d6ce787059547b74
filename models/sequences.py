"""A history as sequences in memory, and the batches that training takes from them.

Features come from the very code that scores live, in one pass over the history in the order of time, each event with
what labels said of its merchant at that moment. What stays are these columns, about 180 bytes an event; the texts of
the events are gone. Accounts' histories are cut into windows that start from an empty state (random resets, so that a
young state is familiar) and put together in padded batches of like length.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.feature_schema import CATEGORIES, FEATURES, MEMO_PARTS
from models.features import FeatureBatch, FeatureBuilder
from models.labels import History, LabelRelease, version_portions
from models.merchant_labels import LABEL_FEATURES
from models.text_encoder import DistinctTexts

FEATURE_CHUNK = 20_000
#: About so many batches make an epoch, within these bounds: a short history needs the steps, a long one the speed.
STEPS_AN_EPOCH = 100
LEAST_BATCH, LARGEST_BATCH = 1_024, 8_192

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
class Sequences:
    """The history sorted by account, then time. Account k has the rows start[k] to stop[k], those from held_out[k] on
    are in the later slice; validation bool[n] says the same per row. labels int8[n]: the truth, -1 unknown; known: what
    labels said of the merchant at the time. memo int32[n]: each event's row of memo_parts int16[d, most], -1 without a
    memo; None where no event has one. Categories are kept as int16."""

    features: Tensor
    categories: Tensor
    memo: Tensor | None
    memo_parts: Tensor | None
    known: Tensor
    labels: npt.NDArray[np.int8]
    validation: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be told to other processes."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: torch.from_numpy(column) if isinstance(column, np.ndarray) else column
            for name, column in columns.items()
            if column is not None
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> "Sequences":
        kept = ("features", "categories", "memo", "memo_parts", "known")
        columns: dict[str, Any] = {"memo": None, "memo_parts": None} | dict(tensors)
        return Sequences(**{name: value if name in kept else value.numpy() for name, value in columns.items()})

    def memos(self, rows: Tensor) -> DistinctTexts | None:
        """Of the given rows; None where the history has none."""
        if self.memo is None or self.memo_parts is None:
            return None
        memo = self.memo[rows].numpy()
        given = np.flatnonzero(memo >= 0)
        different, which = np.unique(memo[given], return_inverse=True)
        return DistinctTexts(given, which, self.memo_parts.numpy()[different].astype(np.int64))

    @property
    def trained_frauds(self) -> int:
        return int(((self.labels == 1) & ~self.validation).sum())


def validation_begin(occurred_at: npt.NDArray[np.int64], labels: npt.NDArray[np.int8], share: float) -> float:
    """The time after which nothing is trained on: the later slice holds the share of what can judge a model, that is
    of labelled events where there are frauds, else of all."""
    judging = occurred_at[labels >= 0] if (labels == 1).any() else occurred_at
    begin = float(np.quantile(judging, 1 - share))
    if not occurred_at[0] <= begin < occurred_at[-1]:
        raise TrainingRefused("the events are too close in time to keep the latest apart for validation")
    return begin


def prepare(history: History, config: TrainingConfig, progress: Progress) -> Sequences:
    """Features of the whole history, sorted by account. Repeated event ids are left out."""
    begin = validation_begin(history.occurred_at, history.labels, config.validation_share)
    columns = feature_columns(history, config.reporting_limit, progress)
    rows, slots, memo_parts = columns.pop("rows"), columns.pop("slots"), columns.pop("memo_parts")
    if not len(memo_parts):
        del columns["memo"]
    order = np.lexsort((rows, slots))
    rows, slots = rows[order], slots[order]
    start = np.flatnonzero(np.append(True, slots[1:] != slots[:-1]))
    stop = np.append(start[1:], len(rows))
    validation = history.occurred_at[rows] > begin
    # One after the other, so that no more than one column is there twice.
    in_order = {name: torch.from_numpy(columns.pop(name)[order]) for name in list(columns)}
    progress("features", 1.0)
    return Sequences(
        features=in_order["features"],
        categories=in_order["categories"],
        memo=in_order.get("memo"),
        memo_parts=torch.from_numpy(memo_parts) if len(memo_parts) else None,
        known=in_order["known"],
        labels=history.labels[rows],
        validation=validation,
        start=start,
        held_out=stop - np.add.reduceat(validation, start, dtype=np.int64),
        stop=stop,
    )


def feature_columns(history: History, reporting_limit: float, progress: Progress) -> dict[str, npt.NDArray[Any]]:
    """Of the m events that are no repeats, in the order in which they were built: row of the history, slot of the
    account, features, known, categories, memo; and memo_parts, the parts of the memos, those of one chunk only once."""
    builder, release, count = FeatureBuilder(reporting_limit), LabelRelease(history), 0
    columns = empty_columns(len(history))
    memo_parts = [np.empty((0, MEMO_PARTS), np.int16)]
    memos = 0
    for rows, events in version_portions(history, FEATURE_CHUNK):
        builder.use_labels(release.knowledge(int(events.occurred_at[0])))
        built = builder.build(events)
        release.note(rows[built.rows], built.unexplained)
        place = slice(count, count + len(built.rows))
        for name, values in columns_of(built, rows).items():
            columns[name][place] = values
        if built.memos is not None:
            columns["memo"][place][built.memos.rows] = memos + built.memos.which
            memo_parts.append(built.memos.parts.astype(np.int16))
            memos += len(built.memos.parts)
        count = place.stop
        progress("features", rows[-1] / len(history))
    return {name: values[:count] for name, values in columns.items()} | {"memo_parts": np.concatenate(memo_parts)}


def empty_columns(count: int) -> dict[str, npt.NDArray[Any]]:
    """Memory is taken up only as they are filled."""
    return {
        "rows": np.empty(count, np.int64),
        "slots": np.empty(count, np.int64),
        "features": np.empty((count, len(FEATURES)), np.float32),
        "known": np.empty((count, len(LABEL_FEATURES)), np.float32),
        "categories": np.empty((count, len(CATEGORIES)), np.int16),
        "memo": np.full(count, -1, np.int32),
    }


def columns_of(built: FeatureBatch, rows: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
    return {
        "rows": rows[built.rows],
        "slots": built.runs.slot,
        "features": built.features,
        "known": built.labels,
        "categories": built.categories,
    }


def batch_events(sequences: Sequences, config: TrainingConfig, processes: int = 1) -> int:
    """At most so many events, padding included, make a batch; processes share what would be one's."""
    trained = int((~sequences.validation).sum())
    at_once = config.events_per_batch or min(max(trained // STEPS_AN_EPOCH, LEAST_BATCH), LARGEST_BATCH)
    return max(1, at_once // processes)


def training_batches(
    sequences: Sequences, config: TrainingConfig, generator: np.random.Generator, processes: int = 1
) -> list[Tensor]:
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
    batches = list(padded_rows(first, stop, batch_events(sequences, config, processes)))
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
