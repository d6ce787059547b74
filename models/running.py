"""One network over shared features: its state of each account, moved on batch by batch, and the scores it gives.

Several models can run over the same FeatureBuilder, each with hidden states of its own: the features and rings of a
batch are computed once.

Call within torch.inference_mode(), as HiddenStates asks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.artifact import TrainedDetector
from models.calibration import ScoreKind
from models.explain import Explainer, NetworkPass
from models.features import FeatureBatch, FeatureBuilder
from models.merchant_labels import nothing_known
from models.recurrence import states_after
from models.runs import Runs
from models.state import HiddenStates
from models.warming import RecentRows, recent_rows, recent_rows_before


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What one model says of a batch: score float64[n] in 0..1, NaN for duplicates; flagged bool[n]: at or above
    threshold; network: what explains it, None where the batch has no accepted event."""

    score: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: ScoreKind
    network: NetworkPass | None


class RunningModel:
    """A model with its state of the accounts in `features`. Built for accounts that have had events, at first touch."""

    def __init__(self, model: TrainedDetector, features: FeatureBuilder, device: torch.device, capacity: int) -> None:
        self.model = model
        self.threshold = model.threshold
        self._features = features
        self._device = device
        self._network = model.network.to(device).eval()
        self.explainer = Explainer(model)
        self._hidden = HiddenStates(model.network.config.hidden, capacity, device)
        self._outdated = 0
        self._count_outdated()

    @property
    def outdated_accounts(self) -> int:
        """Accounts whose state this network has still to build."""
        return self._outdated

    def build_states(self, touched: npt.NDArray[np.int64]) -> None:
        """Before a batch moves the features on: of its accounts with history, whose newest events the network has not
        seen. touched int64[k]: their slots, each once."""
        self._hidden.grow_to(self._features.account_slots.highest)
        outdated = touched[~self._hidden.current[touched]]
        if len(outdated):
            self._hidden.clear(outdated)
            self._replay(recent_rows(self._features.accounts, outdated))
            self._outdated -= len(outdated)

    def score_again(self, built: FeatureBatch) -> ModelScores:
        """Scores the batch that moved the features on last, which this network has not seen, nor anything before."""
        self._replay(recent_rows_before(self._features.accounts, built))
        scores = self.score(built)
        self._count_outdated()
        return scores

    def score(self, built: FeatureBatch) -> ModelScores:
        """Scores a batch of features and moves the state on."""
        score, network = np.full(len(built.duplicate), np.nan), None
        if len(built.rows):
            inputs, categories = self._inputs(built)
            before, after = self._recur(inputs, built.runs)
            labels = torch.from_numpy(built.labels).to(self._device)
            score[built.rows] = self._scores(before, after, inputs, categories, labels)
            network = NetworkPass(inputs, categories, before, labels)
        kind = self.model.calibration.kind
        return ModelScores(score, score >= self.threshold, self.threshold, kind, network)

    def fold(self, built: FeatureBatch) -> None:
        """The same movement of state without scores."""
        if len(built.rows):
            self._recur(self._inputs(built)[0], built.runs)

    def miss(self, built: FeatureBatch) -> None:
        """The features have moved on without this network."""
        self._hidden.grow_to(self._features.account_slots.highest)
        self._hidden.current[built.runs.slot] = False
        self._count_outdated()

    def clear(self, slots: npt.NDArray[np.int64]) -> None:
        """The accounts in these slots are gone."""
        self._hidden.clear(slots)
        self._count_outdated()

    # As residents.Network.

    @property
    def units(self) -> int:
        return self.model.network.config.hidden

    def states_of(self, slots: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        self._hidden.grow_to(self._features.account_slots.highest)
        return self._hidden.of(slots)

    def admit(
        self, slots: npt.NDArray[np.int64], hidden: npt.NDArray[np.float32], current: npt.NDArray[np.bool_]
    ) -> None:
        self._hidden.grow_to(self._features.account_slots.highest)
        self._hidden.put(slots, hidden, current)
        self._outdated += int((~current).sum())

    def leave(self, slots: npt.NDArray[np.int64]) -> None:
        self._hidden.grow_to(self._features.account_slots.highest)
        self._outdated -= int((~self._hidden.current[slots]).sum())
        self._hidden.clear(slots)

    def latest_scores(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """float64[k]: of the latest event of each of k accounts with history, from their rings, as if labels said
        nothing; changes no state."""
        rows = recent_rows(self._features.accounts, slots)
        inputs, categories = self._ring_inputs(rows)
        before, after = self._states_along(inputs, rows.runs, torch.zeros(len(slots), self.units, device=self._device))
        last = self._index(rows.runs.last)
        labels = torch.from_numpy(nothing_known(len(last))).to(self._device)
        return self._scores(before[last], after[last], inputs[last], categories[last], labels)

    def _count_outdated(self) -> None:
        self._hidden.grow_to(self._features.account_slots.highest)
        self._outdated = int((~self._hidden.current[self._features.accounts_with_history]).sum())

    def _replay(self, rows: RecentRows) -> None:
        if len(rows.runs.slot):
            self._recur(self._ring_inputs(rows)[0], rows.runs)

    def _scores(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        inputs: torch.Tensor,
        categories: torch.Tensor,
        labels: torch.Tensor,
    ) -> npt.NDArray[np.float64]:
        surprises, unusual = self._network.surprise(before, inputs, categories)
        raw = self.model.raw(self._network.logits(after, inputs, surprises, labels), unusual)
        return self.model.calibration.score(raw.cpu().numpy().astype(np.float64))

    def _ring_inputs(self, rows: RecentRows) -> tuple[torch.Tensor, torch.Tensor]:
        categories = torch.from_numpy(rows.categories).to(self._device)
        return self._network.inputs(torch.from_numpy(rows.features).to(self._device), categories, None), categories

    def _inputs(self, built: FeatureBatch) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.from_numpy(built.features).to(self._device)
        categories = torch.from_numpy(built.categories).to(self._device)
        return self._network.inputs(features, categories, built.memos), categories

    def _recur(self, inputs: torch.Tensor, runs: Runs) -> tuple[torch.Tensor, torch.Tensor]:
        """States before and after each sorted row; the last of each run is stored."""
        self._hidden.grow_to(self._features.account_slots.highest)
        accounts = runs.slot[runs.first]
        self._hidden.current[accounts] = True
        slots = self._index(accounts)
        before, after = self._states_along(inputs, runs, self._hidden.values.index_select(0, slots))
        self._hidden.values[slots] = after if runs.longest == 1 else after.index_select(0, self._index(runs.last))
        return before, after

    def _states_along(self, inputs: torch.Tensor, runs: Runs, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States before and after each sorted row, from the state [runs, H] that each run starts with."""
        after = states_after(self._network.steps, inputs, runs, start)
        if runs.longest == 1:
            return start, after
        before = after.roll(1, 0)
        before[self._index(runs.first)] = start
        return before, after

    def _index(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(rows).to(self._device)
