"""The SQL schema as SQLAlchemy models; Alembic (storage/migrations) owns how a database gets there.

Names and columns are public: users query them (docs/sql.md). Hot tables are keyed by
(day, topic_generation, source_partition, source_offset), where day is that of the Kafka record's timestamp and
topic_generation a small number for the topic's Kafka UUID, so that days can be partitions and a re-created topic
never collides.
"""

from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Date,
    Dialect,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import TIMESTAMP as PostgresTimestamp
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment in UTC: timestamptz on PostgreSQL, RFC 3339 text with milliseconds and Z on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        postgresql = dialect.name == "postgresql"
        return dialect.type_descriptor(PostgresTimestamp(timezone=True) if postgresql else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; moments in SQL are in UTC")
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name == "postgresql":
            return value  # type: ignore[no-any-return]
        return datetime.fromisoformat(value)


JsonColumn = JSON().with_variant(JSONB(), "postgresql")


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        int: BigInteger,
        float: Double,
        bool: Boolean,
        bytes: LargeBinary,
        date: Date,
        datetime: UtcTimestamp,
        dict[str, Any]: JsonColumn,
        list[Any]: JsonColumn,
    }


class LogKey:
    """Where a row comes from: the key of hot tables."""

    day: Mapped[date] = mapped_column(primary_key=True)
    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    source_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class Transaction(LogKey, Base):
    """One applied record of the `transactions` topic. amount_e4 is in ten-thousandths of its currency."""

    __tablename__ = "transactions"
    # None but these beside the key: more of them cost more than everything else (docs/log.md).
    __table_args__ = (
        Index("ix_transactions_event_id", "event_id", postgresql_using="hash"),
        Index("ix_transactions_occurred_at", "occurred_at", postgresql_using="brin"),
    )

    event_id: Mapped[str]
    account_id: Mapped[str]
    merchant_id: Mapped[str]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    amount_e4: Mapped[int]
    currency: Mapped[str]
    channel: Mapped[str | None]
    country: Mapped[str | None]
    category: Mapped[str | None]
    memo: Mapped[str | None]
    extra: Mapped[dict[str, Any] | None]


class Prediction(LogKey, Base):
    """What the detector said of one transaction; alert_id where it opened or raised an alert. unexplained: how little
    the account's own history explains the amount, from 0 to 1 (models/labels.py). Found by event_id by way of its
    transaction, under the same key (v_predictions)."""

    __tablename__ = "predictions"
    __table_args__ = (Index("ix_predictions_occurred_at", "occurred_at", postgresql_using="brin"),)

    event_id: Mapped[str]
    account_id: Mapped[str]
    occurred_at: Mapped[datetime]
    scored_at: Mapped[datetime]
    score: Mapped[float]
    threshold: Mapped[float]
    flagged: Mapped[bool]
    score_kind: Mapped[str]
    model: Mapped[str]
    alert_id: Mapped[str | None]
    unexplained: Mapped[float | None]


class ShadowPrediction(LogKey, Base):
    """What a challenger said of one transaction that it scored beside the champion. It never alerts."""

    __tablename__ = "shadow_predictions"
    __table_args__ = (Index("ix_shadow_predictions_occurred_at", "occurred_at", postgresql_using="brin"),)

    event_id: Mapped[str]
    account_id: Mapped[str]
    occurred_at: Mapped[datetime]
    scored_at: Mapped[datetime]
    score: Mapped[float]
    threshold: Mapped[float]
    flagged: Mapped[bool]
    score_kind: Mapped[str]
    model: Mapped[str]


class Engagement(LogKey, Base):
    """One applied record of the `engagements` topic."""

    __tablename__ = "engagements"
    __table_args__ = (
        Index("ix_engagements_recommendation_id", "recommendation_id", postgresql_using="hash"),
        Index("ix_engagements_occurred_at", "occurred_at", postgresql_using="brin"),
    )

    event_id: Mapped[str]
    user_id: Mapped[str]
    item_id: Mapped[str]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    action: Mapped[str]
    value: Mapped[float | None]
    recommendation_id: Mapped[str | None]
    extra: Mapped[dict[str, Any] | None]


class Item(Base):
    """An item as its latest record has it; one that was deleted stays as a row without content. item_key is the hash of
    its item_id by which slates name it; thumbnail: of the image, as models/pictures.py makes it."""

    __tablename__ = "items"
    __table_args__ = (Index("ix_items_source", "topic_generation", "source_partition", "source_offset"),)

    item_id: Mapped[str] = mapped_column(primary_key=True)
    item_key: Mapped[int]
    topic_generation: Mapped[int] = mapped_column(SmallInteger)
    source_partition: Mapped[int] = mapped_column(Integer)
    source_offset: Mapped[int]
    recorded_at: Mapped[datetime]
    title: Mapped[str | None]
    text: Mapped[str | None]
    category: Mapped[str | None]
    price: Mapped[float | None]
    image: Mapped[bytes | None]
    thumbnail: Mapped[bytes | None]
    available: Mapped[bool]
    deleted: Mapped[bool]
    extra: Mapped[dict[str, Any] | None]


class Recommendation(LogKey, Base):
    """One slate, under the log key of the engagement that it answers (`cause`, at `occurred_at`). candidates: C item
    keys, int64 little-endian; log_weights: C log-weights, float32 little-endian, that it was drawn with, the floor
    included; candidate_hash: of the set of candidates."""

    __tablename__ = "recommendations"
    __table_args__ = (
        Index("ix_recommendations_recommendation_id", "recommendation_id", postgresql_using="hash"),
        Index("ix_recommendations_made_at", "made_at", postgresql_using="brin"),
        Index("ix_recommendations_source", "topic_generation", "source_partition", "source_offset"),
    )

    recommendation_id: Mapped[str]
    user_id: Mapped[str]
    made_at: Mapped[datetime]
    occurred_at: Mapped[datetime]
    policy: Mapped[str]
    cause: Mapped[str]
    catalogue: Mapped[str]
    floor: Mapped[float]
    seed: Mapped[int]
    candidate_hash: Mapped[int]
    candidates: Mapped[bytes]
    log_weights: Mapped[bytes]


class RecommendationItem(LogKey, Base):
    """One position of a slate, from 1. propensity: of its choice among what was left for the position;
    prefix_propensity: of the slate up to and with it."""

    __tablename__ = "recommendation_items"

    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    recommendation_id: Mapped[str]
    item_id: Mapped[str]
    propensity: Mapped[float]
    prefix_propensity: Mapped[float]
    score: Mapped[float]


class Duplicate(LogKey, Base):
    """A record whose id had been applied already: event_id of a transaction or engagement, feedback_id of feedback."""

    __tablename__ = "duplicates"

    event_id: Mapped[str]
    entity_id: Mapped[str]
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


class Alert(Base):
    """One revision of an alert. sequence numbers the partition's revisions in the order they were made."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("topic_generation", "source_partition", "sequence"),
        Index("ix_alerts_account_id", "account_id"),
        Index("ix_alerts_scored_at", "scored_at"),
        Index("ix_alerts_severity", "severity", "score", "scored_at", "alert_id", "revision", "status"),
        Index(
            "ix_alerts_opened",
            "occurred_at",
            postgresql_where=text("revision = 1"),
            sqlite_where=text("revision = 1"),
        ),
        Index(
            "ix_alerts_closed",
            "alert_id",
            postgresql_where=text("status = 'closed'"),
            sqlite_where=text("status = 'closed'"),
        ),
    )

    alert_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    topic_generation: Mapped[int] = mapped_column(SmallInteger)
    source_partition: Mapped[int] = mapped_column(Integer)
    sequence: Mapped[int]
    source_offset: Mapped[int | None]
    status: Mapped[str]
    closed_by: Mapped[str | None]
    event_ids: Mapped[list[Any]]
    account_id: Mapped[str]
    occurred_at: Mapped[datetime]
    scored_at: Mapped[datetime]
    score: Mapped[float]
    score_kind: Mapped[str]
    threshold: Mapped[float]
    severity: Mapped[str]
    amount_at_risk: Mapped[float]
    model: Mapped[str]
    reasons: Mapped[list[Any]]
    timeline: Mapped[list[Any]]


#: Labels that no version of what labels say of merchants knows yet.
UNREAD_LABELS = "kind = 'label' AND status = 'joined' AND label_version IS NULL"


class Feedback(Base):
    """A label or a reward, pending until what it is about is stored. label_version: the first version of what labels
    say of merchants that knew it."""

    __tablename__ = "feedback"
    __table_args__ = (
        Index("ix_feedback_feedback_id", "feedback_id"),
        Index("ix_feedback_event_id", "event_id"),
        Index("ix_feedback_alert_id", "alert_id"),
        Index(
            "ix_feedback_recommendation_id",
            "recommendation_id",
            postgresql_where=text("recommendation_id IS NOT NULL"),
            sqlite_where=text("recommendation_id IS NOT NULL"),
        ),
        Index("ix_feedback_joined_at", "joined_at"),
        Index(
            "ix_feedback_pending",
            "topic_generation",
            "source_partition",
            postgresql_where=text("status = 'pending'"),
            sqlite_where=text("status = 'pending'"),
        ),
        Index(
            "ix_feedback_unread",
            "given_at",
            postgresql_where=text(UNREAD_LABELS),
            sqlite_where=text(UNREAD_LABELS),
        ),
    )

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    source_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    day: Mapped[date]
    feedback_id: Mapped[str]
    given_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    kind: Mapped[str]
    event_id: Mapped[str | None]
    alert_id: Mapped[str | None]
    recommendation_id: Mapped[str | None]
    label: Mapped[str | None]
    item_id: Mapped[str | None]
    value: Mapped[float | None]
    source: Mapped[str | None]
    entity_id: Mapped[str]
    status: Mapped[str]
    joined_at: Mapped[datetime | None]
    label_version: Mapped[int | None]
    extra: Mapped[dict[str, Any] | None]


class DeadLetter(Base):
    """A record that could not be processed, kept whole unless it was above the size limit."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        Index("ix_dead_letters_recorded_at", "recorded_at"),
        Index(
            "ix_dead_letters_unreplayed",
            "error_code",
            "recorded_at",
            postgresql_where=text("replayed_at IS NULL"),
            sqlite_where=text("replayed_at IS NULL"),
        ),
    )

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    source_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    day: Mapped[date]
    topic: Mapped[str]
    recorded_at: Mapped[datetime]
    error_code: Mapped[str]
    error_message: Mapped[str]
    record_key: Mapped[bytes | None]
    payload: Mapped[bytes | None]
    payload_bytes: Mapped[int]
    sha256: Mapped[str | None]
    replayed_at: Mapped[datetime | None]


class Model(Base):
    """A registered version of a model; alias is champion, challenger, shadow or nothing. withdrawn_...: when and why
    the service took it out of use by itself; it stays out until it is promoted later than that. signature: base64, of
    what stays of the row (storage/model_trust.py), by the key with the id signing_key."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("name", "alias"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    created_at: Mapped[datetime]
    artifact: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    feature_schema: Mapped[int] = mapped_column(Integer)
    metrics: Mapped[dict[str, Any]]
    alias: Mapped[str | None]
    promoted_at: Mapped[datetime | None]
    promoted_why: Mapped[str | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_why: Mapped[str | None]
    signature: Mapped[str | None]
    signing_key: Mapped[str | None]


class ModelUpdate(Base):
    """A version that became champion, in the transaction that made it so; the relay publishes it."""

    __tablename__ = "model_updates"

    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(Integer)
    promoted_at: Mapped[datetime]
    why: Mapped[str | None]


class TrainingRun(Base):
    """One attempt to train; status is running, succeeded, refused or failed."""

    __tablename__ = "training_runs"
    __table_args__ = (ForeignKeyConstraint(["model_name", "model_version"], ["models.name", "models.version"]),)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    model_name: Mapped[str]
    model_version: Mapped[int | None] = mapped_column(Integer)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    status: Mapped[str]
    config: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any] | None]
    message: Mapped[str | None]


class LabelVersion(Base):
    """One version of what labels say of merchants: all that was known at `known_at`. It counts the events until
    matured_until that lie before `positions` ("generation:partition" -> offset) in the log, with the labels whose
    feedback.label_version is this version or an earlier one. events, frauds: newly counted; corrections: labels that
    came after an event's maturity and contradict what it counts as."""

    __tablename__ = "label_versions"

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    known_at: Mapped[datetime]
    matured_until: Mapped[datetime]
    positions: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
    events: Mapped[int]
    frauds: Mapped[int]
    corrections: Mapped[int]


class MerchantLabels(Base):
    """What matured labels say of one merchant since the version that changed it last. Sums decay over a week and a
    month and hold as of `as_of`; run_...: the latest run of unexplained frauds (models/labels.py)."""

    __tablename__ = "merchant_labels"
    __table_args__ = (Index("ix_merchant_labels_version", "version"),)

    merchant_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    as_of: Mapped[datetime]
    events_week: Mapped[float]
    events_month: Mapped[float]
    frauds_week: Mapped[float]
    frauds_month: Mapped[float]
    unexplained_week: Mapped[float]
    unexplained_month: Mapped[float]
    run_open: Mapped[bool]
    run_frauds: Mapped[int]
    run_first: Mapped[datetime | None]
    run_last: Mapped[datetime | None]
    run_after: Mapped[datetime | None]
    latest_legitimate: Mapped[datetime | None]
    legitimate_since_run: Mapped[int]


class ScoreSketch(Base):
    """How many events had which score in one hour (by event time) of a partition under a model, of those that may
    alert. bins: counts by log-odds, compressed (models/score_counts.py); until_offset: events before it are counted."""

    __tablename__ = "score_sketches"
    __table_args__ = (Index("ix_score_sketches_hour", "hour"),)

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    model: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    events: Mapped[int]
    flagged: Mapped[int]
    opened: Mapped[int]
    latest_at: Mapped[datetime]
    bins: Mapped[bytes]
    until_offset: Mapped[int]


class Drift(Base):
    """What was found to have changed against what a model was trained on, at most once a day for each subject (a
    feature, "score" or "alerts"). detector is "psi" or "adwin"; value is above bound."""

    __tablename__ = "drifts"

    day: Mapped[date] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    detector: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    detected_at: Mapped[datetime]
    value: Mapped[float]
    bound: Mapped[float]
    worker: Mapped[str]


class StreamProgress(Base):
    """Who owns a partition and how far SQL has it.

    Law: next_offset - start_offset = applied + duplicates + dead_letters + gaps + lost.
    """

    __tablename__ = "stream_progress"
    __table_args__ = (UniqueConstraint("topic", "topic_uuid", "partition"),)

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    topic: Mapped[str]
    topic_uuid: Mapped[str]
    epoch: Mapped[int]
    owner: Mapped[str]
    backend_pid: Mapped[int | None] = mapped_column(Integer)
    start_offset: Mapped[int]
    next_offset: Mapped[int]
    applied: Mapped[int]
    duplicates: Mapped[int]
    dead_letters: Mapped[int]
    gaps: Mapped[int]
    lost: Mapped[int] = mapped_column(server_default="0")
    updated_at: Mapped[datetime]


class AcceptedLoss(Base):
    """Offsets of a partition that were given up by command, from_offset up to and without to_offset: Kafka no longer
    had them when SQL was to read them. They are counted in stream_progress.lost."""

    __tablename__ = "accepted_losses"

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    from_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    to_offset: Mapped[int]
    accepted_at: Mapped[datetime]
    accepted_by: Mapped[str]
    why: Mapped[str]


class PartitionCount(Base):
    """How many partitions a topic had since when. From version 2 on, boundaries ("partition" -> offset) say up to where
    the partitions before it were read at that moment, and partitioner how keys are spread over the new number of them:
    both together say which stored rows a partition's state begins with (streams/rescaled.py)."""

    __tablename__ = "partition_counts"

    topic: Mapped[str] = mapped_column(primary_key=True)
    topic_uuid: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    partitions: Mapped[int] = mapped_column(Integer)
    partitioner: Mapped[str | None]
    boundaries: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
    made_by: Mapped[str]


class StreamControl(Base):
    """From which offset on a partition used which version of what comes from outside its log."""

    __tablename__ = "stream_controls"

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    from_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    value: Mapped[str]


class Snapshot(Base):
    """A snapshot of a partition's state as of next_offset: the path of its manifest (storage/snapshots.py), what that
    hashes to, and the size of its segments. epoch: of the owner that made it."""

    __tablename__ = "snapshots"

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    next_offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    path: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]


class ColdState(Base):
    """The packed state of an account or a user that was not touched for long, as of its last event: as_of is the offset
    after it. Never updated: an entity that leaves memory again has another row. layout says how it is packed."""

    __tablename__ = "cold_states"

    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    source_partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    layout: Mapped[str] = mapped_column(primary_key=True)
    as_of: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    state: Mapped[bytes]


class RelayCursor(Base):
    """The next position (a sequence or an offset) of an outbox that a sink has not confirmed."""

    __tablename__ = "relay_cursors"

    outbox: Mapped[str] = mapped_column(primary_key=True)
    sink: Mapped[str] = mapped_column(primary_key=True)
    topic_generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    position: Mapped[int]
    updated_at: Mapped[datetime]


class AuditLog(Base):
    """What somebody did. Only added to: the database refuses to change or to remove a row."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
