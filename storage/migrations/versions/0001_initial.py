"""The first schema: everything that live detection and feedback need, and the views."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from storage.tables import UtcTimestamp
from storage.views import create_views, let_analysts_read

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

json_column = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), nullable=False),
        sa.Column("source_partition", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("event_ids", json_column, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("scored_at", UtcTimestamp(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("amount_at_risk", sa.Double(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reasons", json_column, nullable=False),
        sa.Column("timeline", json_column, nullable=False),
        sa.PrimaryKeyConstraint("alert_id", "revision"),
        sa.UniqueConstraint("topic_generation", "source_partition", "sequence"),
    )
    op.create_index("ix_alerts_account_id", "alerts", ["account_id"], unique=False)
    op.create_index("ix_alerts_scored_at", "alerts", ["scored_at"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("record_key", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("replayed_at", UtcTimestamp(), nullable=True),
        sa.PrimaryKeyConstraint("topic_generation", "source_partition", "source_offset"),
    )
    op.create_index("ix_dead_letters_recorded_at", "dead_letters", ["recorded_at"], unique=False)
    op.create_table(
        "duplicates",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day", "topic_generation", "source_partition", "source_offset"),
    )
    op.create_table(
        "feedback",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("feedback_id", sa.Text(), nullable=False),
        sa.Column("given_at", UtcTimestamp(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("alert_id", sa.Text(), nullable=True),
        sa.Column("recommendation_id", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("joined_at", UtcTimestamp(), nullable=True),
        sa.Column("extra", json_column, nullable=True),
        sa.PrimaryKeyConstraint("topic_generation", "source_partition", "source_offset"),
    )
    op.create_index("ix_feedback_alert_id", "feedback", ["alert_id"], unique=False)
    op.create_index("ix_feedback_event_id", "feedback", ["event_id"], unique=False)
    op.create_index("ix_feedback_joined_at", "feedback", ["joined_at"], unique=False)
    op.create_index("ix_feedback_feedback_id", "feedback", ["feedback_id"], unique=False)
    op.create_index(
        "ix_feedback_pending",
        "feedback",
        ["topic_generation", "source_partition"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
        sqlite_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", UtcTimestamp(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("feature_schema", sa.Integer(), nullable=False),
        sa.Column("metrics", json_column, nullable=False),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.Column("promoted_at", UtcTimestamp(), nullable=True),
        sa.Column("promoted_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", "version"),
        sa.UniqueConstraint("name", "alias"),
    )
    op.create_table(
        "predictions",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("scored_at", UtcTimestamp(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day", "topic_generation", "source_partition", "source_offset"),
    )
    op.create_index("ix_predictions_event_id", "predictions", ["event_id"], unique=False, postgresql_using="hash")
    op.create_index("ix_predictions_occurred_at", "predictions", ["occurred_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "relay_cursors",
        sa.Column("outbox", sa.Text(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcTimestamp(), nullable=False),
        sa.PrimaryKeyConstraint("outbox", "sink", "topic_generation", "partition"),
    )
    op.create_table(
        "stream_controls",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("from_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "partition", "name", "from_offset"),
    )
    op.create_table(
        "stream_progress",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("topic_uuid", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("backend_pid", sa.Integer(), nullable=True),
        sa.Column("start_offset", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("dead_letters", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcTimestamp(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "partition"),
        sa.UniqueConstraint("topic", "topic_uuid", "partition"),
    )
    op.create_table(
        "transactions",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("amount_e4", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("memo", sa.Text(), nullable=True),
        sa.Column("extra", json_column, nullable=True),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day", "topic_generation", "source_partition", "source_offset"),
    )
    op.create_index("ix_transactions_event_id", "transactions", ["event_id"], unique=False, postgresql_using="hash")
    op.create_index(
        "ix_transactions_occurred_at", "transactions", ["occurred_at"], unique=False, postgresql_using="brin"
    )
    op.create_table(
        "training_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=True),
        sa.Column("started_at", UtcTimestamp(), nullable=False),
        sa.Column("finished_at", UtcTimestamp(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("config", json_column, nullable=False),
        sa.Column("metrics", json_column, nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_name", "model_version"],
            ["models.name", "models.version"],
        ),
        sa.PrimaryKeyConstraint("run_id"),
    )
    create_views(op.get_bind(), ("event_labels", "v_predictions", "v_alerts", "v_detection_daily"))
    let_analysts_read(op.get_bind(), ("v_predictions", "v_alerts", "v_detection_daily"))
