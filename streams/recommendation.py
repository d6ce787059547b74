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
from storage.progress import Advance, Claim
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
from streams.records import DecodeLimits
from streams.rows import RowEncoder

#: The names in stream_controls under which a partition's policy and its catalogue version are recorded.
POLICY_CONTROL, CATALOGUE_CONTROL = "policy", "catalogue"
#: Parts of changes to the catalogue that are taken over while nobody waits; with each batch it is one.
TAKEN_WHEN_IDLE = 20
#: An odd number that spreads neighbouring offsets over all seeds.
_SPREAD = np.uint64(0xD1342543DE82EF95)


@dataclass(slots=True)
class UserPartition:
    """What is kept of one partition beside the recommender's arena. used: the policy and the catalogue version that
    its latest batch used, None where that is not known."""

    owner: OwnedPartition
    position: int
    seed: np.uint64
    used: tuple[str | None, str | None]


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
        self._partitions: dict[int, UserPartition] = {}

    def process(self, chunks: Sequence[Chunk], now: float) -> PreparedBatch | None:
        catalogue = self._catalogue.take(self._recommender.catalogue)
        using = self._policies.take(), catalogue
        parts = self._decode(chunks)
        if not parts:
            return None
        events = Engagements.concatenate([engagements_of(p.decoded, p.state.owner.claim.partition) for p in parts])
        answer = self._recommender.respond(events, lambda rows: self._seeds(events, rows))
        self._count(answer)
        works, start = [], 0
        for part in parts:
            stop = start + len(part.decoded)
            works.append(self._work(part, events, answer, slice(start, stop), using, now))
            start = stop
        recorded = [int(part.decoded.recorded_at[-1]) for part in parts if len(part.decoded)]
        return PreparedBatch(works, sum(part.records for part in parts), now, recorded)

    def idle(self, now: float) -> PreparedBatch | None:
        owned = self._owned()
        if owned is not None:
            for gone in self._partitions.keys() - {owner.claim.partition for owner in owned}:
                del self._partitions[gone]
                self._recommender.drop_partition(gone)
        for _ in range(TAKEN_WHEN_IDLE):
            self._catalogue.take(self._recommender.catalogue)
        return self.process([], now)

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
            used = self._source.patiently(lambda: self._restore(claim))
        seed = np.uint64(stable_hash(f"{claim.topic}\n{owner.topic_uuid}\n{claim.partition}"))
        state = UserPartition(owner, claim.next_offset, seed, used)
        self._partitions[claim.partition] = state
        return state

    def _restore(self, claim: Claim) -> tuple[str | None, str | None]:
        """Folds what is stored of a partition; may be repeated. The policy sees what came since it was activated
        there; users who are older begin with their rings, as they did then."""
        self._recommender.drop_partition(claim.partition)
        policy = self._source.control(claim, POLICY_CONTROL)
        catalogue = self._source.control(claim, CATALOGUE_CONTROL)
        ours = policy is not None and policy.value == self._recommender.policy
        activated = policy.from_offset if policy is not None and ours else claim.next_offset
        for events in self._source.engagements(claim):
            first = int(np.searchsorted(events.offset, activated))
            if first:
                self._recommender.remember(events.take(np.arange(first)))
            if first < len(events):
                self._recommender.fold(events.take(np.arange(first, len(events))))
        for user_ids, occurred_at in self._source.slates(claim):
            self._recommender.note_slates(claim.partition, user_ids, occurred_at)
        return policy.value if policy is not None and ours else None, None if catalogue is None else catalogue.value

    def _work(
        self,
        part: Part,
        events: Engagements,
        answer: Answer,
        rows: slice,
        using: tuple[str, str],
        now: float,
    ) -> PartitionWork:
        owner, claim, decoded = part.state.owner, part.state.owner.claim, part.decoded
        duplicate = answer.duplicate[rows]
        repeated = int(duplicate.sum())
        step = Advance(
            claim.topic_generation,
            claim.partition,
            claim.epoch,
            part.base,
            part.state.position,
            applied=len(decoded) - repeated,
            duplicates=repeated,
            dead_letters=len(decoded.dead),
            gaps=part.state.position - part.base - part.records,
        )
        encoded = self._rows.engagements(claim, decoded, duplicate)
        encoded += self._rows.dead_letters(claim, decoded.dead)
        made = self._recommended(part, answer.slates, rows, using[1], now)
        if made is not None:
            encoded += self._rows.recommendations(claim, decoded, made)
        finish = list(self._activations(part, using))
        outboxes = {"recommendations"} if made is not None else set()
        fresh = FreshRows(part.base, part.state.position, [] if made is None else made.published(decoded))
        return PartitionWork(
            owner,
            step,
            encoded,
            finish,
            frozenset(outboxes | ({"dead_letters"} if decoded.dead else set())),
            {"recommendations": fresh},
        )

    def _recommended(
        self, part: Part, slates: Slates | None, rows: slice, catalogue: str, now: float
    ) -> RecommendedRows | None:
        """The slates that answer rows of one partition, None where there are none."""
        if slates is None:
            return None
        own = np.flatnonzero((slates.rows >= rows.start) & (slates.rows < rows.stop))
        if not len(own):
            return None
        row, owner, claim = slates.rows[own] - rows.start, part.state.owner, part.state.owner.claim
        offsets = part.decoded.offset[row].tolist()
        candidates, items = slates.candidates[own], self._recommender.catalogue
        shown = np.take_along_axis(candidates, np.maximum(slates.picks[own], 0).astype(np.int64), 1)
        return RecommendedRows(
            row=row,
            recommendation_id=[
                deterministic_id(claim.topic, owner.topic_uuid, claim.partition, offset, POLICY_KIND)
                for offset in offsets
            ],
            policy=[slates.policy[place] for place in own.tolist()],
            made_at=int(now * 1000),
            catalogue=catalogue,
            floor=self._floor,
            seed=slates.seed[own],
            candidates=items.key[np.maximum(candidates, 0)],
            log_weights=slates.log_weights[own],
            present=candidates >= 0,
            item_id=[
                [items.item_ids[item] for item, pick in zip(chosen, picks, strict=True) if pick >= 0]
                for chosen, picks in zip(shown.tolist(), slates.picks[own].tolist(), strict=True)
            ],
            propensity=slates.propensity[own],
            prefix=slates.prefix[own],
            score=slates.score[own],
        )

    def _activations(self, part: Part, using: tuple[str, str]) -> Iterator[Activation]:
        """What this part used from outside its log and the one before it did not."""
        state, claim = part.state, part.state.owner.claim
        for name, value, before in zip((POLICY_CONTROL, CATALOGUE_CONTROL), using, state.used, strict=True):
            if value != before:
                yield Activation(claim.topic_generation, claim.partition, part.base, name, value)
        state.used = using
