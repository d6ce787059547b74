"""Events in, scores out: joins remembered state, features, the network, calibration and threshold.

The recurrence runs in waves: wave k holds the k-th event of each account in the batch, the busiest accounts first.
That is the layout of a packed sequence, so one call of torch's kernel takes a uniform batch as well as a hot key.

The model can be replaced between two batches. An account's state under the new network is built at the first event
that touches the account, from its ring of recent rows, so the replacement itself takes no time that grows with them.
"""

from dataclasses import dataclass, replace

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
from models.warming import recent_rows

#: Of the resident accounts, those whose latest event tries out a new model.
TRIAL_ACCOUNTS = 500


class IncompatibleModel(ValueError):
    """This model cannot take over the state of the one before; the message says why."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model says of the latest events of some resident accounts: score float64[k], threshold."""

    score: npt.NDArray[np.float64]
    threshold: float

    @property
    def flagged_share(self) -> float:
        return float((self.score >= self.threshold).mean()) if len(self.score) else 0.0


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
        self._outdated = 0

    @property
    def outdated_accounts(self) -> int:
        """Accounts whose state the present network has still to build."""
        return self._outdated

    @property
    def resident_accounts(self) -> int:
        return len(self._features.account_slots)

    @property
    def state_bytes_per_account(self) -> int:
        return self._features.accounts.bytes_per_slot + self.model.network.config.hidden * 4

    @torch.inference_mode()
    def score(self, events: Events) -> ScoredBatch:
        """Scores a batch (several partitions may share it, each in offset order) and moves the state on."""
        self._build_states(events)
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
        self._build_states(events)
        built = self._features.build(events)
        if len(built.rows):
            inputs, _ = self._inputs(built)
            self._recur(inputs, built.runs)

    def remember(self, events: Events) -> None:
        """Moves the features' state on but not the network's: events from before the present model was activated."""
        touched = self._features.build(events).runs.slot
        self._hidden.grow_to(self._features.account_slots.highest)
        self._hidden.current[touched] = False
        self._count_outdated()

    @torch.inference_mode()
    def replace_model(self, model: TrainedDetector) -> None:
        """From the next batch on. Raises IncompatibleModel, and then nothing has changed."""
        own, other = self.model.network.config, model.network.config
        if own.reporting_limit != other.reporting_limit:
            raise IncompatibleModel(
                f"its reporting limit is {other.reporting_limit:g}, that of the model in use {own.reporting_limit:g}; "
                "restart the worker to change it"
            )
        self.model = model
        self._network = model.network.to(self._device).eval()
        self._hidden = HiddenStates(other.hidden, len(self._hidden.current), self._device)
        self._count_outdated()

    @torch.inference_mode()
    def trial(self, model: TrainedDetector) -> Trial:
        """Has a model score the latest events of some resident accounts, from their rings; changes nothing."""
        some = self._features.accounts_with_history
        some = some[:: max(1, len(some) // TRIAL_ACCOUNTS)]
        if not len(some):
            return Trial(np.zeros(0), model.threshold)
        rows = recent_rows(self._features.accounts, some)
        apart = Scorer(model, device=str(self._device), initial_capacity=len(some))
        inputs, categories = apart._ring_inputs(rows.features, rows.categories)
        renumbered = np.repeat(np.arange(len(some)), rows.runs.last - rows.runs.first + 1)
        before, after = apart._recur(inputs, replace(rows.runs, slot=renumbered))
        last = self._index(rows.runs.last)
        surprises, unusual = apart._network.surprise(before[last], inputs[last], categories[last])
        raw = model.raw(apart._network.logits(after[last], inputs[last], surprises), unusual)
        return Trial(model.calibration.score(raw.cpu().numpy().astype(np.float64)), model.threshold)

    def drop_partition(self, partition: int) -> None:
        self._hidden.clear(self._features.drop_partition(partition))
        self._count_outdated()

    def recent_positions(self, scored: ScoredBatch, row: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to this accepted one, itself last, at most 12."""
        return scored.built.recent_positions(scored.events, int(scored.places(np.array([row]))[0]))

    @torch.inference_mode()
    def explain(self, scored: ScoredBatch, rows: npt.NDArray[np.intp]) -> list[list[Reason]]:
        """Why these accepted batch rows score as they do, strongest reason first, at most five each."""
        if scored.network is None:
            return []
        return explain_rows(self.model, scored.built, scored.network, scored.events, scored.places(rows), rows)

    def _build_states(self, events: Events) -> None:
        """Of the batch's accounts whose newest events the present network has not seen."""
        if not self._outdated:
            return
        touched = self._features.slots_with_history(events)
        self._hidden.grow_to(self._features.account_slots.highest)
        outdated = touched[~self._hidden.current[touched]]
        if len(outdated):
            self._hidden.clear(outdated)
            rows = recent_rows(self._features.accounts, outdated)
            inputs, _ = self._ring_inputs(rows.features, rows.categories)
            self._recur(inputs, rows.runs)
            self._outdated -= len(outdated)

    def _count_outdated(self) -> None:
        self._hidden.grow_to(self._features.account_slots.highest)
        self._outdated = int((~self._hidden.current[self._features.accounts_with_history]).sum())

    def _ring_inputs(
        self, features: npt.NDArray[np.float32], categories: npt.NDArray[np.int64]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        in_device = torch.from_numpy(categories).to(self._device)
        return self._network.inputs(torch.from_numpy(features).to(self._device), in_device, None), in_device

    def _inputs(self, built: FeatureBatch) -> tuple[torch.Tensor, torch.Tensor]:
        features = torch.from_numpy(built.features).to(self._device)
        categories = torch.from_numpy(built.categories).to(self._device)
        memos = None if built.memos is None else torch.from_numpy(built.memos).to(self._device)
        return self._network.inputs(features, categories, memos), categories

    def _recur(self, inputs: torch.Tensor, runs: Runs) -> tuple[torch.Tensor, torch.Tensor]:
        """States before and after each sorted row; the last of each run is stored."""
        self._hidden.grow_to(self._features.account_slots.highest)
        accounts = runs.slot[runs.first]
        self._hidden.current[accounts] = True
        slots = self._index(accounts)
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
