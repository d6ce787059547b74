"""What recovery and bounded memory need: snapshots of state, and states that left memory."""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcTimestamp

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "snapshots",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcTimestamp(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "partition", "next_offset", "epoch"),
    )
    op.create_table(
        "cold_states",
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("layout", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "source_partition", "entity_id", "as_of"),
    )
