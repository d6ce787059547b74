"""What the learning loop keeps: what labels say of merchants, shadow predictions, how far accounts explain amounts."""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcTimestamp

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("unexplained", sa.Double(), nullable=True))
    op.create_table(
        "label_versions",
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("known_at", UtcTimestamp(), nullable=False),
        sa.Column("matured_until", UtcTimestamp(), nullable=False),
        sa.Column("joined_until", UtcTimestamp(), nullable=False),
        sa.Column("made_at", UtcTimestamp(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("frauds", sa.BigInteger(), nullable=False),
        sa.Column("corrections", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_table(
        "merchant_labels",
        sa.Column("merchant_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("as_of", UtcTimestamp(), nullable=False),
        *(
            sa.Column(f"{name}_{span}", sa.Double(), nullable=False)
            for name in ("events", "frauds", "unexplained")
            for span in ("week", "month")
        ),
        sa.Column("run_open", sa.Boolean(), nullable=False),
        sa.Column("run_frauds", sa.BigInteger(), nullable=False),
        sa.Column("run_first", UtcTimestamp(), nullable=True),
        sa.Column("run_last", UtcTimestamp(), nullable=True),
        sa.Column("run_after", UtcTimestamp(), nullable=True),
        sa.Column("latest_legitimate", UtcTimestamp(), nullable=True),
        sa.Column("legitimate_since_run", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id"),
    )
    op.create_index("ix_merchant_labels_version", "merchant_labels", ["version"], unique=False)
    op.create_table(
        "shadow_predictions",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("scored_at", UtcTimestamp(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("score_kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("day", "topic_generation", "source_partition", "source_offset"),
    )
    op.create_index(
        "ix_shadow_predictions_occurred_at",
        "shadow_predictions",
        ["occurred_at"],
        unique=False,
        postgresql_using="brin",
    )
