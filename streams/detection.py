"""Transactions: from chunks to everything that one SQL transaction must hold about them.

Columns, then duplicates and scores from the detector, then the alert decision, then rows. Lives on the compute
thread and owns the detector's state; SQL is only read here, to restore the state of a partition that was just
claimed (streams/partition_states.py). Time is injected.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.events import Events
from models.scoring import ScoredBatch, Scorer
from storage.bulk import EncodedRows
from storage.progress import Advance
from streams.activation import LABELS_CONTROL, MODEL_CONTROL, Activation
from streams.alert_rows import WriteAlerts
from streams.alerts import AlertRevision, FlaggedEvent, deterministic_id
from streams.batch import Chunk, Finish, OwnedPartition, PartitionWork, PreparedBatch, usable_by_partition
from streams.decode import DecodedTransactions, decode_transactions
from streams.events import events_of
from streams.health import FlowMetrics
from streams.models_in_use import Models
from streams.partition_states import Active, PartitionState, PartitionStates
from streams.records import MILLISECONDS_A_DAY, DecodeLimits, reasons
from streams.recovery import PartitionSource
from streams.rows import RowEncoder, ScoredRows, ShadowRows, Shares
from streams.score_counting import scored_columns
from streams.state_keeping import StateKeeping
from streams.verdicts import LONGEST_PAUSE, Verdicts

#: Under which name detectors are registered, and what kind of model decides.
MODEL_NAME, MODEL_KIND = "fraud", "detector"


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """What the settings decide about alerts. Durations in milliseconds."""

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    #: How long after an open alert's last event another one still joins it.
    fold_within: int = 30 * 60_000
    #: An event older than this when it is scored (a worker catching up) is stored but raises no alert.
    alert_max_age: int = MILLISECONDS_A_DAY
    #: Currency -> how much of the base currency one unit is.
    rates: Mapping[str, float] | None = None
    #: Seconds between two looks for alerts that time or a verdict closes.
    sweep_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One partition's part of the batch at hand."""

    state: PartitionState
    decoded: DecodedTransactions
    base: int
    following: int
    records: int


@dataclass(frozen=True, slots=True)
class Raised:
    """What a partition's rows of a batch do to its alerts: revisions; each row's alert_id; rows, counted from the
    partition's first, that open an alert."""

    rows: slice
    revisions: list[AlertRevision]
    alert_ids: list[str | None]
    opened: list[int]


class DetectionProcessor:
    """The Processor of the `transactions` topic."""

    def __init__(
        self,
        scorer: Scorer,
        model: str,
        source: PartitionSource,
        rows: RowEncoder,
        rules: DetectionRules,
        owned: Callable[[], Sequence[OwnedPartition] | None],
        metrics: FlowMetrics,
        models: Models,
        keeping: StateKeeping,
        set_threshold: Callable[[str, Scorer], None] = lambda model, scorer: None,
        take_labels: Callable[[Scorer], str | None] = lambda scorer: None,
        sample: Callable[[str, Scorer, ScoredBatch], None] = lambda model, scorer, scored: None,
        verdicts: Callable[[], Verdicts] = lambda: (frozenset(), frozenset()),
    ) -> None:
        self._scorer = scorer
        self._active = Active(model)
        self._source = source
        self._rows = rows
        self._rules = rules
        self._owned = owned
        self._metrics = metrics
        self._models = models
        self._set_threshold = set_threshold
        self._take_labels = take_labels
        self._labels: str | None = None
        self._sample = sample
        self._verdicts = verdicts
        self._keeping = keeping
        self._states = PartitionStates(
            scorer, source, keeping, metrics, fold_within=rules.fold_within, alert_max_age=rules.alert_max_age
        )
        self._swept_at = 0.0

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        self._keeping.between_batches(self._states.standing(self._active), now)
        self._activated(self._models.take(self._scorer))
        self._set_threshold(self._active.model, self._scorer)
        self._labels = self._take_labels(self._scorer)
        parts = self._decode(chunks)
        self._bring_back(parts)
        sweeping = now - self._swept_at >= self._rules.sweep_interval
        works: list[PartitionWork] = []
        if sweeping:
            if now - self._swept_at > LONGEST_PAUSE:
                self._states.look_back()
            self._swept_at = now
        if parts:
            works += self._scored(parts, now, sweeping)
        if sweeping:
            works += self._close_elsewhere(parts, now)
        works = self._keeping.after_batch(works, self._states.standing(self._active))
        self._metrics.resident(self._scorer.resident_accounts, self._scorer.outdated_accounts)
        if not works:
            return None
        recorded = [int(part.decoded.recorded_at[-1]) for part in parts if len(part.decoded)]
        return PreparedBatch(works, sum(part.records for part in parts), now, recorded)

    def _scored(self, parts: Sequence[Part], now: float, sweeping: bool) -> list[PartitionWork]:
        """All partitions' events go through the model, and into rows, together."""
        decoded = DecodedTransactions.joined([part.decoded for part in parts])
        shares = Shares([part.state.owner.claim for part in parts], [len(part.decoded) for part in parts])
        events = events_of(decoded, shares.partition, self._rules.rates or {})
        scored, model = self._models.score(self._scorer, events)
        self._activated(model)
        self._sample(self._active.model, self._scorer, scored)
        flagged = self._flagged_events(events, scored, now)
        raised, start = [], 0
        for part, rows in zip(parts, shares.rows, strict=True):
            raised.append(self._raised(part, slice(start, start + rows), flagged))
            start += rows
        predictions = ScoredRows(
            score=scored.score,
            unexplained=scored.unexplained,
            flagged=scored.flagged,
            threshold=scored.threshold,
            score_kind=scored.score_kind,
            model=self._active.model,
            scored_at=int(now * 1000),
            alert_id=[alert_id for own in raised for alert_id in own.alert_ids],
        )
        encoded = self._rows.transactions(shares, decoded, scored.duplicate, predictions, self._shadow_rows(scored))
        return [
            self._work(part, own, predictions, scored.duplicate, encoded[place], now, sweeping)
            for place, (part, own) in enumerate(zip(parts, raised, strict=True))
        ]

    def idle(self, now: float) -> PreparedBatch | None:
        return self.process([], now)

    def _activated(self, model: str | None) -> None:
        if model is not None:
            self._active = Active(model, self._active.number + 1)

    def _decode(self, chunks: Sequence[Chunk]) -> list[Part]:
        parts = []
        for owner, records in usable_by_partition(chunks):
            state = self._states.of(owner, self._active)
            decoded = decode_transactions(records, self._rules.limits)
            base, state.position = state.position, records[-1].offset + 1
            if len(decoded):
                state.stream_time = max(state.stream_time, int(decoded.recorded_at[-1]))
            parts.append(Part(state, decoded, base, state.position, len(records)))
        return parts

    def _bring_back(self, parts: Sequence[Part]) -> None:
        """The accounts of a batch that left memory."""
        for part in parts:
            if len(part.decoded):
                using = self._states.active_from(part.state, self._active)
                self._keeping.before_batch(part.state.owner, part.decoded.account_id, part.base, using)

    def _flagged_events(self, events: Events, scored: ScoredBatch, now: float) -> dict[int, FlaggedEvent]:
        """Row -> the flagged event, for rows that are young enough to alert."""
        now_milliseconds = int(now * 1000)
        young = events.occurred_at >= now_milliseconds - self._rules.alert_max_age
        rows: npt.NDArray[np.intp] = np.flatnonzero(scored.flagged & young)
        if not len(rows):
            return {}
        reasons = self._scorer.explain(scored, rows)
        return {
            int(row): FlaggedEvent(
                event_id=events.event_id[row],
                account_id=events.account_id[row],
                offset=int(events.offset[row]),
                occurred_at=int(events.occurred_at[row]),
                scored_at=now_milliseconds,
                amount=float(events.amount[row]),
                score=float(scored.score[row]),
                score_kind=scored.score_kind,
                threshold=scored.threshold,
                model=self._active.model,
                reasons=tuple(reasons[index]),
                positions=tuple(self._scorer.recent_positions(scored, int(row))),
            )
            for index, row in enumerate(rows)
        }

    def _raised(self, part: Part, rows: slice, flagged: Mapping[int, FlaggedEvent]) -> Raised:
        """The alerts that a partition's rows of the batch open or raise."""
        owner, claim = part.state.owner, part.state.owner.claim
        found = Raised(rows, [], [None] * len(part.decoded), [])
        for row in sorted(row for row in flagged if rows.start <= row < rows.stop):
            event = flagged[row]
            new_id = deterministic_id(claim.topic, owner.topic_uuid, claim.partition, event.offset, MODEL_KIND)
            found.revisions.extend(part.state.book.apply(event, new_id))
            found.alert_ids[row - rows.start] = found.revisions[-1].alert_id
            if found.revisions[-1].revision == 1:
                found.opened.append(row - rows.start)
        return found

    def _work(
        self,
        part: Part,
        raised: Raised,
        said: ScoredRows,
        duplicate: npt.NDArray[np.bool_],
        rows: list[EncodedRows],
        now: float,
        sweeping: bool,
    ) -> PartitionWork:
        """said, duplicate: of the whole batch; rows: of this partition."""
        owner, claim, decoded, own = part.state.owner, part.state.owner.claim, part.decoded, raised.rows
        revisions = list(raised.revisions)
        if sweeping:
            revisions += self._closings(part.state, part.state.stream_time)
        duplicates = int(duplicate[own].sum())
        step = Advance(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            part.base,
            part.following,
            applied=len(decoded) - duplicates,
            duplicates=duplicates,
            dead_letters=len(decoded.dead),
            gaps=part.following - part.base - part.records,
        )
        self._metrics.alerts_made(len(revisions))
        finish: list[Finish] = [WriteAlerts(claim, revisions)] if revisions else []
        columns = scored_columns(decoded.occurred_at, said.scored_at, said.score[own], said.flagged[own], raised.opened)
        part.state.counts.count(self._active.model, columns)
        if counted := part.state.counts.due(claim, part.following, now):
            finish.append(counted)
        finish += self._activations(part)
        return PartitionWork(
            owner,
            step,
            rows + self._rows.dead_letters(claim, decoded.dead),
            finish,
            outboxes=frozenset(_outboxes(len(decoded) > duplicates, bool(revisions), bool(decoded.dead))),
            refused=reasons(decoded.dead),
        )

    def _activations(self, part: Part) -> Iterator[Activation]:
        """What scores this part and did not score the one before it."""
        state, claim = part.state, part.state.owner.claim
        place = (claim.topic_generation, claim.partition, part.base)
        if state.activation != self._active.number:
            state.activation, state.active_from = self._active.number, part.base
            yield Activation(*place, MODEL_CONTROL, self._active.model)
        if self._labels is not None and state.labels != self._labels:
            state.labels = self._labels
            yield Activation(*place, LABELS_CONTROL, self._labels)

    def _shadow_rows(self, scored: ScoredBatch) -> ShadowRows | None:
        shadow, model = scored.shadow, self._models.shadow
        if shadow is None or model is None:
            return None
        return ShadowRows(shadow.score, shadow.flagged, shadow.threshold, shadow.score_kind, model)

    def _close_elsewhere(self, parts: Sequence[Part], now: float) -> list[PartitionWork]:
        """Closings and counts of partitions without records in this batch, as works that move no offset. Their alerts
        age with the slowest of the others, or with the clock when all are quiet; what they catch up on later does
        not."""
        owned = self._owned()
        if owned is None:
            return []
        self._states.drop_all_but({owner.claim.partition for owner in owned})
        moment = min((part.state.stream_time for part in parts), default=int(now * 1000))
        busy = {part.state.owner.claim.partition for part in parts}
        works = []
        for owner in owned:
            claim = owner.claim
            if claim.partition in busy:
                continue
            state = self._states.of(owner, self._active)
            revisions = self._closings(state, max(state.stream_time, moment))
            finish: list[Finish] = [WriteAlerts(claim, revisions)] if revisions else []
            if counted := state.counts.due(claim, state.position, now):
                finish.append(counted)
            if finish:
                step = Advance(claim.topic_generation, claim.partition, claim.epoch, state.position, state.position)
                self._metrics.alerts_made(len(revisions))
                outboxes = frozenset({"alerts"} if revisions else ())
                works.append(PartitionWork(owner, step, [], finish, outboxes=outboxes))
        return works

    def _closings(self, state: PartitionState, moment: int) -> list[AlertRevision]:
        if not state.book.open_alerts:
            return []
        if not state.looked_back:
            judged = self._source.judged([alert.alert_id for alert in state.book.open_alerts.values()])
            closed = state.book.close_by_verdict(judged)
        else:
            closed = state.book.close_by_verdict(*self._verdicts())
        state.looked_back = True
        return closed + state.book.close_before(moment)


def _outboxes(predictions: bool, alerts: bool, dead_letters: bool) -> Iterator[str]:
    if predictions:
        yield "predictions"
    if alerts:
        yield "alerts"
    if dead_letters:
        yield "dead_letters"
