"""Partitions that change under a running service: losses that were accepted, and how many partitions a topic had."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from storage.tables import UtcTimestamp

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stream_progress", sa.Column("lost", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "accepted_losses",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("from_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("to_offset", sa.BigInteger(), nullable=False),
        sa.Column("accepted_at", UtcTimestamp(), nullable=False),
        sa.Column("accepted_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "partition", "from_offset"),
    )
    op.create_table(
        "partition_counts",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("topic_uuid", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("partitions", sa.Integer(), nullable=False),
        sa.Column("partitioner", sa.Text(), nullable=True),
        sa.Column("boundaries", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("made_at", UtcTimestamp(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "topic_uuid", "version"),
    )
    # What is running has its state spread over the partitions that it has seen.
    op.execute(
        "INSERT INTO partition_counts (topic, topic_uuid, version, partitions, boundaries, made_at, made_by) "
        "SELECT topic, topic_uuid, 1, count(*), '{}', max(updated_at), 'headgate db upgrade' "
        "FROM stream_progress GROUP BY topic, topic_uuid"
    )
