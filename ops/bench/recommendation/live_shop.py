"""A shop in one process: simulated shoppers, and a recommender that answers them through the code that runs live.

Items, engagements and late rewards go as records of the contract through the processors into SQL, as from Kafka; what
is stored is what a retraining reads. Time is the simulation's: seconds of live traffic pass as fast as they compute.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.catalogue import Catalogue
from models.guard_rails import SlateRules
from models.recommending import Recommender
from ops.simulate.shoppers.command import live_traffic
from ops.simulate.shoppers.messages import engagement_messages, item_messages, reward_messages
from ops.simulate.shoppers.traffic import Slate, TrafficConfig
from storage.database import Database, DatabaseUnavailable
from storage.progress import claim_partitions
from storage.registry import ModelRegistry
from streams.batch import Chunk, OwnedPartition, Processor
from streams.catalogue_watch import CatalogueWatch
from streams.commit import Committer
from streams.decode_engagements import DecodedEngagements
from streams.engagement_source import EngagementSource
from streams.feedback import FeedbackProcessor
from streams.health import FlowMetrics
from streams.items import ItemsProcessor
from streams.policy_watch import PolicyWatch
from streams.recommendation import RecommendationProcessor
from streams.recommendation_metrics import RecommendationMetrics
from streams.recommended_rows import RecommendedRows
from streams.records import DecodeLimits
from streams.rows import EncodedShares, RowEncoder, Shares
from streams.state_keeping import StateKeeping, StateRules
from streams.state_metrics import StateMetrics

#: Milliseconds of traffic that share a batch.
STEP = 250
ITEMS, ENGAGEMENTS, FEEDBACK = "items", "engagements", "feedback"
#: In place of the UUIDs that Kafka gives to topics.
UUID = "bench"


@dataclass(frozen=True, slots=True)
class MadeRecord:
    """As a consumer would hand it on."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Topic:
    """One partition with its processor; records get the next offsets."""

    owner: OwnedPartition
    processor: Processor
    next_offset: int = 0

    def chunks(self, messages: Iterable[tuple[str, bytes]], at: int) -> list[Chunk]:
        """Messages with keys, sent at `at` (epoch milliseconds); none without any."""
        made = [
            MadeRecord(self.next_offset + place, at, key.encode(), value) for place, (key, value) in enumerate(messages)
        ]
        self.next_offset += len(made)
        return [Chunk(self.owner, made)] if made else []


class NotingRows(RowEncoder):
    """Keeps each user's present slate, as Redis does."""

    def __init__(self, dialect: str) -> None:
        super().__init__(dialect)
        self.present: dict[str, Slate] = {}

    def recommendations(
        self, encoded: EncodedShares, shares: Shares, decoded: DecodedEngagements, made: RecommendedRows
    ) -> None:
        for place, row in enumerate(made.row.tolist()):
            slate = Slate(made.recommendation_id[place], made.policy[place], made.item_id[place])
            self.present[decoded.user_id[row]] = slate
        super().recommendations(encoded, shares, decoded, made)


class LiveShop:
    """`run` lets traffic pass. What the registry has as champion is used from the next run on."""

    def __init__(
        self,
        database: Database,
        registry: ModelRegistry,
        config: TrafficConfig,
        items: int,
        rules: SlateRules | None = None,
    ) -> None:
        """database: migrated and empty. Raises DatabaseUnavailable."""
        self.now = config.start
        self.rules = rules = rules or SlateRules()
        rows, metrics, limits = NotingRows(database.dialect), FlowMetrics(), DecodeLimits()
        counters = RecommendationMetrics(metrics.registry)
        self._present = rows.present
        self.recommender = Recommender(Catalogue(), rules)
        self.traffic = live_traffic(config, items, self._slates)
        self._policies = PolicyWatch(registry, self.recommender, counters, lambda text: None, clock=self.clock)
        self._catalogue = CatalogueWatch(database, ITEMS, counters)
        self._committer = Committer(database, give_up, self.clock)
        owners = {name: owned(database, name, self.clock()) for name in (ITEMS, ENGAGEMENTS, FEEDBACK)}
        keeping = StateKeeping(
            ENGAGEMENTS,
            self.recommender.kept,
            self.recommender.drop_partition,
            StateRules(),
            database,
            give_up,
            self.clock,
            StateMetrics(metrics.registry),
        )
        engagements = RecommendationProcessor(
            self.recommender,
            EngagementSource(database, give_up),
            rows,
            limits,
            lambda: [owners[ENGAGEMENTS]],
            self._policies,
            self._catalogue,
            metrics,
            counters,
            keeping,
            rules.floor,
        )
        feedback = FeedbackProcessor(
            database,
            rows,
            limits,
            wait=give_up,
            owned=lambda: [owners[FEEDBACK]],
            expiry=timedelta(days=1),
        )
        self._items = Topic(owners[ITEMS], ItemsProcessor(rows, limits, metrics))
        self._engagements = Topic(owners[ENGAGEMENTS], engagements)
        self._feedback = Topic(owners[FEEDBACK], feedback)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.now / 1000, UTC)

    def run(self, seconds: float) -> None:
        """Lets so many seconds of traffic pass. Raises DatabaseUnavailable."""
        end = self.now + round(seconds * 1000)
        self._policies.look()
        while self.now < end:
            self.now = min(self.now + STEP, end)
            due = self.traffic.until(self.now)
            people, items = self.traffic.people.user_ids, self.traffic.catalogue.item_ids
            if len(due.items):
                self._send(self._items, item_messages(self.traffic.catalogue, due.items))
                self._catalogue.look()
            self._send(self._engagements, engagement_messages(due.engagements))
            self._send(self._feedback, reward_messages(due.rewards, due.engagements.id_prefix, people, items))

    def _slates(self, user_ids: Sequence[str]) -> list[Slate | None]:
        return [self._present.get(user_id) for user_id in user_ids]

    def _send(self, topic: Topic, messages: Iterable[tuple[str, bytes]]) -> None:
        chunks = topic.chunks(messages, self.now)
        batch = topic.processor.process(chunks, self.now / 1000) if chunks else topic.processor.idle(self.now / 1000)
        if batch is not None:
            for work in batch.works:
                work.owner.prepared += 1
            for work in self._committer.commit(batch).committed:
                work.owner.committed = work.advance.next_offset
                work.owner.written += 1


def owned(database: Database, topic: str, now: datetime) -> OwnedPartition:
    claims = claim_partitions(
        database,
        topic=topic,
        topic_uuid=UUID,
        start_offsets={0: 0},
        owner="bench",
        backend_pid=None,
        now=now,
    )
    return OwnedPartition(claims[0], UUID, 1, claims[0].next_offset, claims[0].next_offset)


def give_up(failures: int, error: DatabaseUnavailable) -> None:
    raise error
