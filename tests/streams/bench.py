"""A processor with its partitions, batch by batch and on one thread: what the pipeline does, without its threads."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from models.artifact import TrainedDetector
from models.events import Events
from models.recommending import Recommender
from models.scoring import ScoredBatch, Scorer
from storage.database import Database, DatabaseUnavailable
from storage.progress import Claim, claim_partitions
from streams.batch import Chunk, OwnedPartition, PartitionWork, PreparedBatch, Processor
from streams.commit import CommitResult, Committer
from streams.detection import DetectionProcessor, DetectionRules
from streams.health import FlowMetrics
from streams.models_in_use import Models
from streams.patience import Wait
from streams.recovery import PartitionSource
from streams.rows import RowEncoder
from streams.snapshots import Snapshots
from streams.state_keeping import StateKeeping, StateRules
from streams.state_metrics import StateMetrics
from streams.verdicts import Verdicts, VerdictWatch
from tests.fraud_model import transaction
from tests.models.logs import untrained

TOPIC = "transactions"
UUID = "uuid-1"
NOW = 1_773_489_600.0


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def give_up(failures: int, error: DatabaseUnavailable) -> None:
    raise error


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@dataclass(slots=True)
class Partitions:
    """What a worker owns of one topic; claims go to SQL."""

    database: Database
    topic: str = TOPIC
    owned: dict[int, OwnedPartition] = field(default_factory=dict)

    def claim(self, *partitions: int, owner: str = "w") -> None:
        for old in self.owned.values():
            old.revoked = True
        claims = claim_partitions(
            self.database,
            topic=self.topic,
            topic_uuid=UUID,
            start_offsets=dict.fromkeys(partitions, 0),
            owner=owner,
            backend_pid=None,
            now=moment(0),
        )
        self.owned = {number: owned_by(claim) for number, claim in claims.items()}

    def usable(self) -> list[OwnedPartition]:
        return [owner for owner in self.owned.values() if owner.usable]


def owned_by(claim: Claim) -> OwnedPartition:
    return OwnedPartition(claim, UUID, 1, claim.next_offset, claim.next_offset)


@dataclass(slots=True)
class Bench:
    """Runs one processor's batches into SQL."""

    database: Database
    partitions: Partitions
    processor: Processor
    batches: list[PreparedBatch] = field(default_factory=list)
    keeping: StateKeeping | None = None
    look: Callable[[float], None] = lambda now: None

    @property
    def snapshots(self) -> Snapshots:
        """Without its thread."""
        assert self.keeping is not None
        return self.keeping.snapshots

    def run(self, records: Mapping[int, Sequence[KafkaRecord]], now: float) -> PreparedBatch | None:
        """One batch with a chunk of each partition; no records: a moment of quiet."""
        batch = self.prepare(records, now)
        if batch is not None:
            self.commit(batch)
        return batch

    def prepare(self, records: Mapping[int, Sequence[KafkaRecord]], now: float) -> PreparedBatch | None:
        self.look(now)
        chunks = [Chunk(self.partitions.owned[number], part) for number, part in records.items()]
        batch = self.processor.process(chunks, now) if chunks else self.processor.idle(now)
        if batch is not None:
            self.batches.append(batch)
            for work in batch.works:
                work.owner.prepared += 1
        return batch

    def commit(self, batch: PreparedBatch) -> CommitResult:
        committer = Committer(self.database, give_up, lambda: moment(0))
        try:
            result = committer.commit(batch)
        finally:
            committer.close()
        for work in result.lost:
            work.owner.lost = True
        for work in result.committed:
            work.owner.committed = work.advance.next_offset
            work.owner.written += 1
        return result

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.reading() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]


class LargeAmountsFlagged(Scorer):
    """A scorer that flags each new event above 5,000, so that a test decides what alerts."""

    last: ScoredBatch

    def score(self, events: Events) -> ScoredBatch:
        scored = super().score(events)
        self.last = replace(scored, flagged=(events.amount > 5_000) & ~scored.duplicate)
        return self.last


@dataclass
class OneModel:
    """Models without a registry: `take_model` may replace the one in use between two batches."""

    take_model: Callable[[Scorer], str | None] = lambda scorer: None
    shadow: str | None = None

    def take(self, scorer: Scorer) -> str | None:
        return self.take_model(scorer)

    def score(self, scorer: Scorer, events: Events) -> tuple[ScoredBatch, str | None]:
        return scorer.score(events), None


@dataclass(frozen=True)
class SometimesAway(Database):
    """A database that refuses the first reads: before they begin ("at once") or at their end."""

    refusals: list[str] = field(default_factory=list)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal == "at once":
            raise DatabaseUnavailable(refusal)
        with Database.reading(self) as connection:
            yield connection
        if refusal is not None:
            raise DatabaseUnavailable(refusal)


def detection(
    database: Database,
    partitions: Partitions,
    metrics: FlowMetrics | None = None,
    wait: Wait = give_up,
    models: Models | None = None,
    sample: Callable[[str, Scorer, ScoredBatch], None] = lambda model, scorer, scored: None,
    take_labels: Callable[[Scorer], str | None] = lambda scorer: None,
    state: StateRules | None = None,
    model: TrainedDetector | None = None,
    name: str = "fraud:1",
    **rules: Any,
) -> tuple[Bench, LargeAmountsFlagged]:
    """A detection processor without any state, and its scorer, which hears of verdicts just before each batch. state:
    without snapshots by default."""
    metrics = metrics or FlowMetrics()
    known: list[Verdicts] = [(frozenset(), frozenset())]

    def look(now: float) -> None:
        watch = VerdictWatch(Database(database.engine), lambda: moment(now))
        watch.look()
        known[:] = [watch.recent()]

    scorer = LargeAmountsFlagged(model or untrained(), initial_capacity=16)
    keeping = state_keeping(partitions.topic, scorer, database, wait, metrics, state)
    processor = DetectionProcessor(
        scorer,
        name,
        PartitionSource(database, {}, wait),
        RowEncoder(database.dialect),
        DetectionRules(**rules),
        partitions.usable,
        metrics,
        models or OneModel(),
        keeping,
        sample=sample,
        take_labels=take_labels,
        verdicts=lambda: known[0],
    )
    return Bench(database, partitions, processor, keeping=keeping, look=look), scorer


class NothingKept(StateKeeping):
    """State in memory alone, for processors without a database."""

    def __init__(self) -> None: ...

    def restore(self, owner: OwnedPartition, active: Any) -> int:
        return 0

    def before_batch(self, owner: OwnedPartition, ids: Sequence[str], position: int, active: Any) -> None: ...

    def after_batch(self, works: Sequence[PartitionWork], standing: Any) -> list[PartitionWork]:
        return list(works)

    def between_batches(self, standing: Any, now: float) -> None: ...


def state_keeping(
    topic: str,
    owner: Scorer | Recommender,
    database: Database,
    wait: Wait,
    metrics: FlowMetrics,
    rules: StateRules | None,
) -> StateKeeping:
    """Of a scorer's or a recommender's state, with a clock that stands still."""
    return StateKeeping(
        topic,
        owner.kept,
        owner.drop_partition,
        rules or StateRules(),
        database,
        wait,
        lambda: moment(NOW),
        StateMetrics(metrics.registry),
    )


def payment(
    offset: int, account: str = "a", *, amount: float = 20.0, seconds: float = 0.0, event_id: str = "", **more: Any
) -> KafkaRecord:
    """A good record; seconds after NOW, by its own time and by Kafka's."""
    at = round((NOW + seconds) * 1000)
    key, value = transaction(event_id or f"e{offset}", account, at, amount, **more)
    return KafkaRecord(offset, at, key, value)


def fraud(offset: int, account: str = "a", **more: Any) -> KafkaRecord:
    return payment(offset, account, amount=9_000.0, **more)
