"""Events in, scores out: joins remembered state, features, the network, calibration and threshold.

The recurrence runs in waves: wave k holds the k-th event of each account in the batch, the busiest accounts first.
That is the layout of a packed sequence, so one call of torch's kernel takes a uniform batch as well as a hot key.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.artifact import TrainedDetector
from models.calibration import ScoreKind
from models.events import Events
from models.explain import NetworkPass, Reason, explain_rows
from models.features import FeatureBatch, FeatureBuilder
from models.runs import Runs
from models.state import HiddenStates


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """duplicate bool[n]; score float64[n] in 0..1, NaN for duplicates; flagged bool[n]: at or above threshold."""

    events: Events
    duplicate: npt.NDArray[np.bool_]
    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: ScoreKind
    built: FeatureBatch
    network: NetworkPass | None

    def places(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Where the feature batch holds these accepted batch rows."""
        place = np.full(len(self.duplicate), -1, np.int64)
        place[self.built.rows] = np.arange(len(self.built.rows))
        return place[rows]


class Scorer:
    """The state of all resident accounts and merchants under one model. Not for several threads."""

    def __init__(self, model: TrainedDetector, *, device: str = "cpu", initial_capacity: int = 1024) -> None:
        self.model = model
        self._device = torch.device(device)
        self._network = model.network.to(self._device).eval()
        self._features = FeatureBuilder(model.network.config.reporting_limit, initial_capacity)
        self._hidden = HiddenStates(model.network.config.hidden, initial_capacity, self._device)

    @property
    def resident_accounts(self) -> int:
        return len(self._features.account_slots)

    @property
    def state_bytes_per_account(self) -> int:
        return self._features.accounts.bytes_per_slot + self.model.network.config.hidden * 4

    @torch.inference_mode()
    def score(self, events: Events) -> ScoredBatch:
        """Scores a batch (several partitions may share it, each in offset order) and moves the state on."""
        built = self._features.build(events)
        score = np.full(len(events), np.nan)
        network = None
        if len(built.rows):
            inputs, categories = self._inputs(built)
            before, after = self._recur(inputs, built.runs)
            surprises, unusual = self._network.surprise(before, inputs, categories)
            raw = self.model.raw(self._network.logits(after, inputs, surprises), unusual)
            network = NetworkPass(inputs, categories, before)
            score[built.rows] = self.model.calibration.score(raw.cpu().numpy().astype(np.float64))
        return ScoredBatch(
            events=events,
            duplicate=built.duplicate,
            score=score,
            flagged=score >= self.model.threshold,
            threshold=self.model.threshold,
            score_kind=self.model.calibration.kind,
            built=built,
            network=network,
        )

    @torch.inference_mode()
    def fold(self, events: Events) -> None:
        """The same movement of state without scores: silent replay."""
        built = self._features.build(events)
        if len(built.rows):
            inputs, _ = self._inputs(built)
            self._recur(inputs, built.runs)

    def drop_partition(self, partition: int) -> None:
        self._hidden.clear(self._features.drop_partition(partition))

    def recent_positions(self, scored: ScoredBatch, row: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to this accepted one, itself last, at most 12."""
        return scored.built.recent_positions(scored.events, int(scored.places(np.array([row]))[0]))

    @torch.inference_mode()
    def explain(self, scored: ScoredBatch, rows: npt.NDArray[np.intp]) -> list[list[Reason]]:
        """Why these accepted batch rows score as they do, strongest reason first, at most five each."""
        if scored.network is None:
            return []
        return explain_rows(self.model, scored.built, scored.network, scored.events, scored.places(rows), rows)

    def _inputs(self, built: FeatureBatch) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.from_numpy(built.features).to(self._device)
        categories = torch.from_numpy(built.categories).to(self._device)
        memos = None if built.memos is None else torch.from_numpy(built.memos).to(self._device)
        return self._network.inputs(features, categories, memos), categories

    def _recur(self, inputs: torch.Tensor, runs: Runs) -> tuple[torch.Tensor, torch.Tensor]:
        """States before and after each sorted row; the last of each run is stored."""
        self._hidden.grow_to(self._features.account_slots.highest)
        slots = self._index(runs.slot[runs.first])
        start = self._hidden.values.index_select(0, slots)
        if runs.longest == 1:
            after = self._network.step(inputs, start)
            self._hidden.values[slots] = after
            return start, after
        busiest_first = np.argsort(runs.first - runs.last, kind="stable")
        waves, sizes = wave_order(runs, busiest_first)
        in_waves = self._index(waves)
        after = torch.empty(len(inputs), start.shape[1], device=self._device)
        after[in_waves] = self._network.steps(
            inputs.index_select(0, in_waves), sizes, start.index_select(0, self._index(busiest_first))
        )
        before = after.roll(1, 0)
        before[self._index(runs.first)] = start
        self._hidden.values[slots] = after.index_select(0, self._index(runs.last))
        return before, after

    def _index(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(rows).to(self._device)


def wave_order(runs: Runs, busiest_first: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], list[int]]:
    """The sorted rows in waves (wave k: the k-th row of each run that has one, runs as ordered), and their sizes."""
    place = np.empty(len(busiest_first), np.int64)
    place[busiest_first] = np.arange(len(busiest_first))
    wave_then_place = runs.rank * len(place) + np.repeat(place, runs.last - runs.first + 1)
    return np.argsort(wave_then_place), np.bincount(runs.rank).tolist()
