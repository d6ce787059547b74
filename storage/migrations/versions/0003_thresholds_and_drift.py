"""What thresholds and drift are read from: counts of scores by hour, and the drifts that were found."""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcTimestamp

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "score_sketches",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("hour", UtcTimestamp(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("flagged", sa.BigInteger(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("latest_at", UtcTimestamp(), nullable=False),
        sa.Column("bins", sa.LargeBinary(), nullable=False),
        sa.Column("until_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "source_partition", "model", "hour"),
    )
    op.create_index("ix_score_sketches_hour", "score_sketches", ["hour"], unique=False)
    op.create_table(
        "drifts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detected_at", UtcTimestamp(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("bound", sa.Double(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "model", "detector", "subject"),
    )
