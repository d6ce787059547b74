"""Events in, scores out: one FeatureBuilder, the model in use over it, and perhaps one in its shadow.

The model can be replaced between two batches. An account's state under the new network is built at the first event
that touches the account, from its ring of recent rows, so the replacement itself takes no time that grows with them.
A shadow is a second model that scores the same built batches; it changes nothing of what the first one says.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from models.artifact import TrainedDetector
from models.calibration import ScoreKind
from models.events import Events
from models.explain import NetworkPass, Reason
from models.feature_schema import FEATURE_SCHEMA
from models.features import FeatureBatch, FeatureBuilder
from models.merchant_labels import MerchantKnowledge
from models.residents import Kept, Residents
from models.running import ModelScores, RunningModel

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
    """duplicate bool[n]; score float64[n] in 0..1, NaN for duplicates; unexplained float64[n]: how little the account
    alone explains each amount, 0 to 1, NaN for duplicates; flagged bool[n]: at or above threshold; shadow: what the
    model in the shadow says of the same events."""

    events: Events
    duplicate: npt.NDArray[np.bool_]
    score: npt.NDArray[np.float64]
    unexplained: npt.NDArray[np.float64]
    flagged: npt.NDArray[np.bool_]
    threshold: float
    score_kind: ScoreKind
    built: FeatureBatch
    network: NetworkPass | None
    shadow: ModelScores | None = None

    def places(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Where the feature batch holds these accepted batch rows."""
        place = np.full(len(self.duplicate), -1, np.int64)
        place[self.built.rows] = np.arange(len(self.built.rows))
        return place[rows]


class Scorer:
    """The state of all resident accounts and merchants under one model. Not for several threads."""

    def __init__(self, model: TrainedDetector, *, device: str = "cpu", initial_capacity: int = 1024) -> None:
        self._device = torch.device(device)
        self._features = FeatureBuilder(model.network.config.reporting_limit, initial_capacity)
        self._running = RunningModel(model, self._features, self._device, initial_capacity)
        self._shadow: RunningModel | None = None
        self.kept = self._kept(model.network.config.reporting_limit)

    @property
    def model(self) -> TrainedDetector:
        return self._running.model

    @property
    def outdated_accounts(self) -> int:
        """Accounts whose state the present network has still to build."""
        return self._running.outdated_accounts

    @property
    def resident_accounts(self) -> int:
        return len(self._features.account_slots)

    @property
    def state_bytes_per_account(self) -> int:
        """Without what a shadow adds: four bytes for each of its units."""
        features = self._features
        return (
            features.accounts.bytes_per_slot
            + features.account_slots.bytes_per_slot
            + self.model.network.config.hidden * 4
        )

    @torch.inference_mode()
    def score(self, events: Events) -> ScoredBatch:
        """Scores a batch (several partitions may share it, each in offset order) and moves the state on."""
        built = self._build(events, self._all_running)
        shadow = None if self._shadow is None else self._shadow.score(built)
        return _scored(events, built, self._running.score(built), shadow)

    @torch.inference_mode()
    def score_again(self, scored: ScoredBatch, model: TrainedDetector) -> ScoredBatch:
        """The batch that was scored last, as if the model had been replaced just before it. Raises IncompatibleModel,
        and then nothing has changed."""
        running = self._beside(model)
        scores = running.score_again(scored.built)
        self._running = running
        return _scored(scored.events, scored.built, scores, scored.shadow)

    @torch.inference_mode()
    def fold(self, events: Events) -> FeatureBatch:
        """The same movement of state without scores: silent replay. A shadow takes no part; it builds its states from
        the rings."""
        built = self._build(events, [self._running])
        self._running.fold(built)
        if self._shadow is not None:
            self._shadow.miss(built)
        return built

    def remember(self, events: Events) -> FeatureBatch:
        """Moves the features' state on but not the network's: events from before the present model was activated."""
        built = self._features.build(events)
        for running in self._all_running:
            running.miss(built)
        return built

    @torch.inference_mode()
    def replace_model(self, model: TrainedDetector) -> None:
        """From the next batch on. Raises IncompatibleModel, and then nothing has changed."""
        self._running = self._beside(model)

    def use_threshold(self, threshold: float | None) -> None:
        """From the next batch on, until the model is replaced; None for the model's own."""
        self._running.threshold = self.model.threshold if threshold is None else threshold

    @torch.inference_mode()
    def start_shadow(self, model: TrainedDetector) -> None:
        """From the next batch on, in place of a shadow before it. Raises IncompatibleModel."""
        self._shadow = self._beside(model)

    def stop_shadow(self) -> None:
        self._shadow = None

    def can_take(self, model: TrainedDetector) -> bool:
        """Whether the features are counted as this model needs them."""
        return model.network.config.reporting_limit == self.model.network.config.reporting_limit

    @torch.inference_mode()
    def trial(self, model: TrainedDetector) -> Trial:
        """Has a model score the latest events of some resident accounts, from their rings; changes nothing."""
        some = self._features.accounts_with_history
        some = some[:: max(1, len(some) // TRIAL_ACCOUNTS)]
        if not len(some):
            return Trial(np.zeros(0), model.threshold)
        apart = RunningModel(model, self._features, self._device, 0)
        return Trial(apart.latest_scores(some), model.threshold)

    def use_labels(self, knowledge: MerchantKnowledge) -> None:
        """What labels say of merchants from the next batch on. No state depends on it."""
        self._features.use_labels(knowledge)

    def drop_partition(self, partition: int) -> None:
        freed = self._features.drop_partition(partition)
        for running in self._all_running:
            running.clear(freed)

    def recent_positions(self, scored: ScoredBatch, row: int) -> list[tuple[int, int]]:
        """(day, offset) of the account's newest events up to this accepted one, itself last, at most 12."""
        return scored.built.recent_positions(scored.events, int(scored.places(np.array([row]))[0]))

    @torch.inference_mode()
    def explain(self, scored: ScoredBatch, rows: npt.NDArray[np.intp]) -> list[list[Reason]]:
        """Why these accepted batch rows score as they do, strongest reason first, at most five each."""
        if scored.network is None:
            return []
        return self._running.explainer.explain(scored.built, scored.network, scored.events, scored.places(rows), rows)

    def _kept(self, reporting_limit: float) -> Kept:
        """Accounts leave memory and come back; merchants, of which there are far fewer, stay. What labels say of a
        merchant is looked up again at its next event."""
        features = self._features
        accounts = Residents(features.account_slots, features.accounts, lambda: self._all_running)
        merchants = Residents(features.merchant_slots, features.merchants, kept=("last_time", "sums", "hash"))
        return Kept(
            {"accounts": accounts, "merchants": merchants},
            leaving="accounts",
            meaning=f"schema {FEATURE_SCHEMA} limit {reporting_limit:g}",
        )

    @property
    def _all_running(self) -> list[RunningModel]:
        return [self._running] if self._shadow is None else [self._running, self._shadow]

    def _build(self, events: Events, models: list[RunningModel]) -> FeatureBatch:
        """The batch's features, once these models have built the states that they lack of its accounts."""
        if any(running.outdated_accounts for running in models):
            touched = self._features.slots_with_history(events)
            for running in models:
                running.build_states(touched)
        return self._features.build(events)

    def _beside(self, model: TrainedDetector) -> RunningModel:
        """A model over the features that are there."""
        if not self.can_take(model):
            own, other = self.model.network.config, model.network.config
            raise IncompatibleModel(
                f"its reporting limit is {other.reporting_limit:g}, that of the model in use {own.reporting_limit:g}; "
                "only a restart of the worker changes it"
            )
        return RunningModel(model, self._features, self._device, self._features.accounts.capacity)


def _scored(events: Events, built: FeatureBatch, scores: ModelScores, shadow: ModelScores | None) -> ScoredBatch:
    unexplained = np.full(len(built.duplicate), np.nan)
    unexplained[built.rows] = built.unexplained
    return ScoredBatch(
        events=events,
        duplicate=built.duplicate,
        score=scores.score,
        unexplained=unexplained,
        flagged=scores.flagged,
        threshold=scores.threshold,
        score_kind=scores.score_kind,
        built=built,
        network=scores.network,
        shadow=shadow,
    )
