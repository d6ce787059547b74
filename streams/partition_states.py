"""What the compute thread keeps of each partition, kept where it still fits SQL, else restored: a snapshot, and the
fold of what SQL holds beyond it.

A model's activation is counted, not named: the states of a model that comes back begin anew, as those of another would,
and `stream_controls` has to say where.
"""

from dataclasses import dataclass

import numpy as np

from models.scoring import Scorer
from streams.activation import LABELS_CONTROL, MODEL_CONTROL
from streams.alerts import AlertBook
from streams.batch import OwnedPartition
from streams.health import FlowMetrics
from streams.recovery import PartitionSource
from streams.score_counting import PartitionCounts, recounted
from streams.snapshots import Standing
from streams.state_codec import ActiveFrom
from streams.state_keeping import StateKeeping


@dataclass(frozen=True, slots=True)
class Active:
    """The model in use (name:version), and how many activations this process has seen before it."""

    model: str
    number: int = 0


@dataclass(slots=True)
class PartitionState:
    """What the compute thread keeps of one partition beside the detector's arena."""

    owner: OwnedPartition
    position: int
    stream_time: int
    book: AlertBook
    counts: PartitionCounts
    #: Under which activation of a model the last batch was prepared; None where that was another's, or none.
    activation: int | None
    #: The offset from which that activation was in use.
    active_from: int
    #: The label version that stream_controls names last for the partition; None for none.
    labels: str | None
    #: False until the verdicts from before the restore, or from a pause, were looked up.
    looked_back: bool = False


class PartitionStates:
    """Durations in milliseconds, as DetectionRules has them."""

    def __init__(
        self,
        scorer: Scorer,
        source: PartitionSource,
        keeping: StateKeeping,
        metrics: FlowMetrics,
        *,
        fold_within: int,
        alert_max_age: int,
    ) -> None:
        self._scorer = scorer
        self._source = source
        self._keeping = keeping
        self._metrics = metrics
        self._fold_within = fold_within
        self._alert_max_age = alert_max_age
        self._partitions: dict[int, PartitionState] = {}

    def of(self, owner: OwnedPartition, active: Active) -> PartitionState:
        """The partition's state at its next offset: kept where it still fits SQL's, else restored from SQL."""
        claim = owner.claim
        known = self._partitions.get(claim.partition)
        if known is not None and known.owner is owner:
            return known
        if known is not None and known.owner.continues_as(owner, known.position):
            known.owner = owner
            return known
        with self._metrics.restoring(claim.topic, claim.partition):
            state = self._source.patiently(lambda: self._restored(owner, active))
        self._partitions[claim.partition] = state
        return state

    def look_back(self) -> None:
        """Verdicts may have been missed: SQL is asked about all open alerts."""
        for state in self._partitions.values():
            state.looked_back = False

    def standing(self, active: Active) -> Standing:
        """Of all partitions."""
        return {
            partition: (state.owner, state.position, self.active_from(state, active))
            for partition, state in self._partitions.items()
        }

    def active_from(self, state: PartitionState, active: Active) -> ActiveFrom | None:
        """From where on the partition uses the model in use; None where it has yet to."""
        return ActiveFrom(active.model, state.active_from) if state.activation == active.number else None

    def _restored(self, owner: OwnedPartition, active: Active) -> PartitionState:
        """May be repeated. The network sees what came since it was activated there; for accounts that are older it
        begins with their rings, as it did then."""
        claim = owner.claim
        control = self._source.control(claim, MODEL_CONTROL)
        ours = control is not None and control.value == active.model
        activated = control.from_offset if control is not None and ours else claim.next_offset
        using = ActiveFrom(active.model, activated) if ours else None
        begin = self._keeping.restore(owner, using)
        for events in self._source.transactions(claim, begin):
            self._keeping.before_fold(owner, events.account_id, int(events.offset[0]), using)
            first = int(np.searchsorted(events.offset, activated))
            if first:
                self._scorer.remember(events if first == len(events) else events.take(np.arange(first)))
            if first < len(events):
                self._scorer.fold(events if not first else events.take(np.arange(first, len(events))))
            self._keeping.after_fold(owner, using)
            self._metrics.restored(claim.topic, len(events))
        following, alerts = self._source.alerts(claim)
        book = AlertBook(fold_within=self._fold_within, next_sequence=following, open_alerts=alerts)
        counts = recounted(self._alert_max_age, self._source.uncounted(claim))
        labels = self._source.control(claim, LABELS_CONTROL)
        return PartitionState(
            owner,
            claim.next_offset,
            0,
            book,
            counts,
            activation=active.number if ours else None,
            active_from=activated,
            labels=None if labels is None else labels.value,
        )

    def drop_all_but(self, partitions: set[int]) -> None:
        """The state of a partition that went to another worker is freed once the new assignment is known."""
        for gone in self._partitions.keys() - partitions:
            del self._partitions[gone]
            self._keeping.drop(gone)
