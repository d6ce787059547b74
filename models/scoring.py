"""Events in, scores out: joins remembered state, features, the network, calibration and threshold.

The recurrence runs in waves: wave k holds the k-th event of each account in the batch. An account with many events
in one batch (a hot key) leaves the waves for one pass of the sequence kernel, so it costs steps, not batches.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.artifact import TrainedDetector
from models.calibration import ScoreKind
from models.events import Events
from models.explain import Reason, explain_rows
from models.features import FeatureBatch, FeatureBuilder
from models.runs import Runs
from models.state import HiddenStates

#: Runs longer than this go to the sequence kernel.
LONG_RUN = 12


@dataclass(frozen=True, slots=True)
class NetworkPass:
    """Inputs and states of the accepted events, sorted as the feature batch is; kept to explain flagged rows."""

    inputs: torch.Tensor
    categories: torch.Tensor
    before: torch.Tensor
    logits: torch.Tensor


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

    def score(self, events: Events) -> ScoredBatch:
        """Scores a batch (several partitions may share it, each in offset order) and moves the state on."""
        built = self._features.build(events)
        score = np.full(len(events), np.nan)
        network = None
        if len(built.rows):
            with torch.inference_mode():
                inputs, categories = self._inputs(built)
                before, after = self._recur(inputs, built.runs)
                surprises = self._network.surprises(before, inputs, categories)
                logits = self._network.logits(after, inputs, surprises)
                raw = self.model.raw(logits, self._network.unusualness(before, inputs, surprises))
            network = NetworkPass(inputs, categories, before, logits)
            score[built.batch_rows] = self.model.calibration.score(raw.cpu().numpy().astype(np.float64))
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

    def fold(self, events: Events) -> None:
        """The same movement of state without scores: silent replay."""
        built = self._features.build(events)
        if len(built.rows):
            with torch.inference_mode():
                inputs, _ = self._inputs(built)
                self._recur(inputs, built.runs)

    def drop_partition(self, partition: int) -> None:
        self._hidden.clear(self._features.drop_partition(partition))

    def recent_positions(self, scored: ScoredBatch, row: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to this one, at most 12, oldest first."""
        events = scored.events
        slot = self._features.account_slots.find(events.partition[row : row + 1], [events.account_id[row]])[0]
        return self._features.recent_positions(int(slot), int(events.offset[row]))

    def explain(self, scored: ScoredBatch, rows: npt.NDArray[np.intp]) -> list[list[Reason]]:
        """Why these batch rows score as they do, strongest reason first, at most five each."""
        assert scored.network is not None
        place = np.empty(len(scored.duplicate), np.int64)
        place[scored.built.batch_rows] = np.arange(len(scored.built.rows))
        with torch.inference_mode():
            return explain_rows(self.model, scored.built, scored.network, scored.events, place[rows], rows)

    def _inputs(self, built: FeatureBatch) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.from_numpy(built.features).to(self._device)
        categories = torch.from_numpy(built.categories).to(self._device)
        memos = None if built.memos is None else torch.from_numpy(built.memos).to(self._device)
        return self._network.inputs(features, categories, memos), categories

    def _recur(self, inputs: torch.Tensor, runs: Runs) -> tuple[torch.Tensor, torch.Tensor]:
        """States before and after each sorted row; the last of each run is stored."""
        self._hidden.grow_to(self._features.account_slots.highest)
        slots = torch.from_numpy(runs.slot).to(self._device)
        before = self._hidden.values[slots]
        if runs.longest == 1:
            after = self._network.step(inputs, before)
            self._hidden.values[slots] = after
            return before, after
        after = torch.empty_like(before)
        length = runs.last - runs.first + 1
        long_runs = np.flatnonzero(length > LONG_RUN)
        for run in long_runs:
            first, stop = int(runs.first[run]), int(runs.last[run]) + 1
            after[first:stop] = self._network.run(inputs[first:stop], before[first])
            before[first + 1 : stop] = after[first : stop - 1]
        short = np.repeat(length <= LONG_RUN, length)
        for wave in range(int(runs.rank[short].max(initial=-1)) + 1):
            rows = torch.from_numpy(np.flatnonzero(short & (runs.rank == wave))).to(self._device)
            if wave:
                before[rows] = after[rows - 1]
            after[rows] = self._network.step(inputs[rows], before[rows])
        last = torch.from_numpy(runs.last).to(self._device)
        self._hidden.values[slots[last]] = after[last]
        return before, after
