"""Engagements: from chunks to everything that one SQL transaction must hold about them, slates among it.

Columns, then duplicates, users' states and slates from the recommender, then rows. Lives on the compute thread and owns
the recommender's state; SQL is only read here, to restore the state of a partition that was just claimed. Time is
injected. A slate is a function of the log, the policy and the catalogue; what SQL holds of it wins over a repetition.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.engagements import Engagements
from models.hashing import stable_hash
from models.recommending import Answer, Recommender, Slates
from storage.bulk import EncodedRows
from storage.outbox import RecommendationRow
from storage.progress import Advance
from streams.activation import Activation
from streams.alerts import deterministic_id
from streams.batch import Chunk, FreshRows, OwnedPartition, PartitionWork, PreparedBatch, usable_by_partition
from streams.catalogue_watch import CatalogueWatch
from streams.decode_engagements import DecodedEngagements, decode_engagements
from streams.engagement_source import EngagementSource
from streams.events import engagements_of
from streams.health import FlowMetrics
from streams.policy_watch import POLICY_KIND, PolicyWatch
from streams.recommendation_metrics import RecommendationMetrics
from streams.recommended_rows import RecommendedRows
from streams.records import DecodeLimits, reasons
from streams.rows import RowEncoder, Shares
from streams.snapshots import Standing
from streams.state_codec import ActiveFrom
from streams.state_keeping import StateKeeping

#: The names in stream_controls under which a partition's policy and its catalogue version are recorded.
POLICY_CONTROL, CATALOGUE_CONTROL = "policy", "catalogue"
#: Parts of changes to the catalogue that are taken over while nobody waits; with each batch it is one.
TAKEN_WHEN_IDLE = 20
#: An odd number that spreads neighbouring offsets over all seeds.
_SPREAD = np.uint64(0xD1342543DE82EF95)


@dataclass(slots=True)
class UserPartition:
    """What is kept of one partition beside the recommender's arena. activation: of the policy that its latest batch
    used, None where that was another's, or none; active_from: the offset from which that was in use; catalogue: the
    version that its latest batch used, None where that is not known."""

    owner: OwnedPartition
    position: int
    seed: np.uint64
    activation: int | None
    active_from: int
    catalogue: str | None


@dataclass(frozen=True, slots=True)
class Using:
    """What a batch uses from outside its log. activation: counts those of policies, as one that comes back builds the
    users' states anew; policy: its name, or that of what is popular; catalogue: the version."""

    activation: int
    policy: str
    catalogue: str


@dataclass(frozen=True, slots=True)
class Part:
    """One partition's part of the batch at hand."""

    state: UserPartition
    decoded: DecodedEngagements
    base: int
    records: int


class RecommendationProcessor:
    """The Processor of the `engagements` topic."""

    def __init__(
        self,
        recommender: Recommender,
        source: EngagementSource,
        rows: RowEncoder,
        limits: DecodeLimits,
        owned: Callable[[], Sequence[OwnedPartition] | None],
        policies: PolicyWatch,
        catalogue: CatalogueWatch,
        metrics: FlowMetrics,
        counters: RecommendationMetrics,
        keeping: StateKeeping,
        floor: float,
    ) -> None:
        """floor: of exploration, as the recommender's rules have it."""
        self._recommender = recommender
        self._floor = floor
        self._source = source
        self._rows = rows
        self._limits = limits
        self._owned = owned
        self._policies = policies
        self._catalogue = catalogue
        self._metrics = metrics
        self._counters = counters
        self._keeping = keeping
        self._partitions: dict[int, UserPartition] = {}

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        self._drop_what_is_gone()
        self._keeping.between_batches(self._standing(), now)
        catalogue = self._catalogue.take(self._recommender.catalogue)
        policy = self._policies.take()
        using = Using(self._recommender.activations, policy, catalogue)
        parts = self._decode(chunks)
        if not parts:
            return None
        self._bring_back(parts)
        decoded = DecodedEngagements.joined([part.decoded for part in parts])
        shares = Shares([part.state.owner.claim for part in parts], [len(part.decoded) for part in parts])
        events = engagements_of(decoded, shares.partition)
        answer = self._recommender.respond(events, lambda rows: self._seeds(events, rows))
        self._count(answer)
        made = self._recommended(shares, decoded, answer.slates, using.catalogue, now)
        encoded = self._rows.engagements(shares, decoded, answer.duplicate, made)
        slates = shares.split(made.row, made.published(decoded)) if made is not None else [[] for _ in parts]
        duplicates = shares.of(np.flatnonzero(answer.duplicate))
        works = [
            self._work(part, duplicates[place], encoded[place], slates[place], using)
            for place, part in enumerate(parts)
        ]
        works = self._keeping.after_batch(works, self._standing())
        recorded = [int(part.decoded.recorded_at[-1]) for part in parts if len(part.decoded)]
        return PreparedBatch(works, sum(part.records for part in parts), now, recorded)

    def idle(self, now: float) -> PreparedBatch | None:
        for _ in range(TAKEN_WHEN_IDLE):
            self._catalogue.take(self._recommender.catalogue)
        return self.process([], now)

    def _drop_what_is_gone(self) -> None:
        """The state of a partition that went to another worker is freed once the new assignment is known."""
        owned = self._owned()
        if owned is not None:
            for gone in self._partitions.keys() - {owner.claim.partition for owner in owned}:
                del self._partitions[gone]
                self._keeping.drop(gone)

    def _standing(self) -> Standing:
        return {
            partition: (state.owner, state.position, self._active_from(state))
            for partition, state in self._partitions.items()
        }

    def _active_from(self, state: UserPartition) -> ActiveFrom | None:
        """From where on a partition uses the policy in use; None where it has yet to."""
        if state.activation != self._recommender.activations:
            return None
        return ActiveFrom(self._recommender.policy, state.active_from)

    def _bring_back(self, parts: Sequence[Part]) -> None:
        """The users of a batch that left memory."""
        for part in parts:
            if len(part.decoded):
                using = self._active_from(part.state)
                self._keeping.before_batch(part.state.owner, part.decoded.user_id, part.base, using)

    def _seeds(self, events: Engagements, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """A slate's seed comes from the place of its cause in the log: a repeat draws the same."""
        bases = np.array([self._partitions[p].seed for p in events.partition[rows].tolist()], np.uint64)
        return bases + events.offset[rows].astype(np.uint64) * _SPREAD

    def _count(self, answer: Answer) -> None:
        self._counters.answered(self._recommender.resident_users, answer.unknown_items)
        if answer.slates is not None:
            self._counters.slates_made(answer.slates.policy, answer.slates.counts)
            self._policies.failed(answer.slates.counts["policy_failed"])

    def _decode(self, chunks: Sequence[Chunk]) -> list[Part]:
        parts = []
        for owner, records in usable_by_partition(chunks):
            state = self._state(owner)
            decoded = decode_engagements(records, self._limits)
            base, state.position = state.position, records[-1].offset + 1
            parts.append(Part(state, decoded, base, len(records)))
        return parts

    def _state(self, owner: OwnedPartition) -> UserPartition:
        """Kept where it still fits SQL, else restored from there."""
        claim = owner.claim
        known = self._partitions.get(claim.partition)
        if known is not None and known.owner is owner:
            return known
        if known is not None and known.owner.continues_as(owner, known.position):
            known.owner = owner
            return known
        with self._metrics.restoring(claim.topic, claim.partition):
            state = self._source.patiently(lambda: self._restored(owner))
        self._partitions[claim.partition] = state
        return state

    def _restored(self, owner: OwnedPartition) -> UserPartition:
        """A snapshot, and the fold of what is stored beyond it; may be repeated. The policy sees what came since it was
        activated there; users who are older begin with their rings, as they did then."""
        claim = owner.claim
        policy = self._source.control(claim, POLICY_CONTROL)
        catalogue = self._source.control(claim, CATALOGUE_CONTROL)
        ours = policy is not None and policy.value == self._recommender.policy
        activated = policy.from_offset if policy is not None and ours else claim.next_offset
        using = ActiveFrom(self._recommender.policy, activated) if ours else None
        begin = self._keeping.restore(owner, using)
        slates = self._source.slates(claim, begin)
        for events in self._source.engagements(claim, begin):
            self._keeping.before_fold(owner, events.user_id, int(events.offset[0]), using)
            first = int(np.searchsorted(events.offset, activated))
            if first:
                self._recommender.remember(events.take(np.arange(first)))
            if first < len(events):
                self._recommender.fold(events.take(np.arange(first, len(events))))
            for user_ids, occurred_at in slates.until(int(events.offset[-1]) + 1):
                self._recommender.note_slates(claim.partition, user_ids, occurred_at)
            self._keeping.after_fold(owner, using)
            self._metrics.restored(claim.topic, len(events))
        return UserPartition(
            owner,
            claim.next_offset,
            np.uint64(stable_hash(f"{claim.topic}\n{owner.topic_uuid}\n{claim.partition}")),
            activation=self._recommender.activations if ours else None,
            active_from=activated,
            catalogue=None if catalogue is None else catalogue.value,
        )

    def _work(
        self,
        part: Part,
        duplicates: int,
        rows: list[EncodedRows],
        slates: list[RecommendationRow],
        using: Using,
    ) -> PartitionWork:
        """rows, slates: of this partition."""
        owner, claim, decoded = part.state.owner, part.state.owner.claim, part.decoded
        step = Advance(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            part.base,
            part.state.position,
            applied=len(decoded) - duplicates,
            duplicates=duplicates,
            dead_letters=len(decoded.dead),
            gaps=part.state.position - part.base - part.records,
        )
        written = {"recommendations": bool(slates), "dead_letters": bool(decoded.dead)}
        return PartitionWork(
            owner,
            step,
            rows + self._rows.dead_letters(claim, decoded.dead),
            list(self._activations(part, using)),
            frozenset(name for name, some in written.items() if some),
            {"recommendations": FreshRows(part.base, part.state.position, slates)},
            reasons(decoded.dead),
        )

    def _recommended(
        self, shares: Shares, decoded: DecodedEngagements, slates: Slates | None, catalogue: str, now: float
    ) -> RecommendedRows | None:
        """The slates of a batch in the order of their causes, None where there are none."""
        if slates is None or not len(slates):
            return None
        order = np.argsort(slates.rows, kind="stable")
        row, items = slates.rows[order], self._recommender.catalogue
        owners = [self._partitions[partition].owner for partition in shares.partition[row].tolist()]
        candidates, picks = slates.candidates[order], slates.picks[order]
        shown = np.take_along_axis(candidates, np.maximum(picks, 0).astype(np.int64), 1)
        return RecommendedRows(
            row=row,
            recommendation_id=[
                deterministic_id(owner.claim.topic, owner.topic_uuid, owner.claim.partition, offset, POLICY_KIND)
                for owner, offset in zip(owners, decoded.offset[row].tolist(), strict=True)
            ],
            policy=[slates.policy[place] for place in order.tolist()],
            made_at=int(now * 1000),
            catalogue=catalogue,
            floor=self._floor,
            seed=slates.seed[order],
            candidates=items.key[np.maximum(candidates, 0)],
            log_weights=slates.log_weights[order],
            present=candidates >= 0,
            item_id=[
                [items.item_ids[item] for item, pick in zip(chosen, own, strict=True) if pick >= 0]
                for chosen, own in zip(shown.tolist(), picks.tolist(), strict=True)
            ],
            propensity=slates.propensity[order],
            prefix=slates.prefix[order],
            score=slates.score[order],
        )

    def _activations(self, part: Part, using: Using) -> Iterator[Activation]:
        """What this part used from outside its log and the one before it did not."""
        state, claim = part.state, part.state.owner.claim
        place = (claim.topic_generation, claim.partition, part.base)
        if state.activation != using.activation:
            state.activation, state.active_from = using.activation, part.base
            yield Activation(*place, POLICY_CONTROL, using.policy)
        if state.catalogue != using.catalogue:
            state.catalogue = using.catalogue
            yield Activation(*place, CATALOGUE_CONTROL, using.catalogue)
