"""What the recommender reads and writes: engagements, items, slates, and what slates were worth."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from storage.tables import UtcTimestamp
from storage.views import create_views, let_analysts_read

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def log_key() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("source_partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_offset", sa.BigInteger(), autoincrement=False, nullable=False),
    )


def upgrade() -> None:
    json_column = sa.JSON().with_variant(JSONB(), "postgresql")
    place = ["topic_generation", "source_partition", "source_offset"]
    op.create_table(
        "engagements",
        *log_key(),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("recommendation_id", sa.Text(), nullable=True),
        sa.Column("extra", json_column, nullable=True),
        sa.PrimaryKeyConstraint("day", *place),
    )
    op.create_index(
        "ix_engagements_recommendation_id", "engagements", ["recommendation_id"], unique=False, postgresql_using="hash"
    )
    op.create_index("ix_engagements_occurred_at", "engagements", ["occurred_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "items",
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("item_key", sa.BigInteger(), nullable=False),
        sa.Column("topic_generation", sa.SmallInteger(), nullable=False),
        sa.Column("source_partition", sa.Integer(), nullable=False),
        sa.Column("source_offset", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", UtcTimestamp(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("price", sa.Double(), nullable=True),
        sa.Column("image", sa.LargeBinary(), nullable=True),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("extra", json_column, nullable=True),
        sa.PrimaryKeyConstraint("item_id"),
    )
    op.create_index("ix_items_source", "items", place, unique=False)
    op.create_table(
        "recommendations",
        *log_key(),
        sa.Column("recommendation_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("made_at", UtcTimestamp(), nullable=False),
        sa.Column("occurred_at", UtcTimestamp(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("catalogue", sa.Text(), nullable=False),
        sa.Column("floor", sa.Double(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("candidate_hash", sa.BigInteger(), nullable=False),
        sa.Column("candidates", sa.LargeBinary(), nullable=False),
        sa.Column("log_weights", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", *place),
    )
    op.create_index(
        "ix_recommendations_recommendation_id",
        "recommendations",
        ["recommendation_id"],
        unique=False,
        postgresql_using="hash",
    )
    op.create_index("ix_recommendations_made_at", "recommendations", ["made_at"], unique=False, postgresql_using="brin")
    op.create_index("ix_recommendations_source", "recommendations", place, unique=False)
    op.create_table(
        "recommendation_items",
        *log_key(),
        sa.Column("position", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("recommendation_id", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("prefix_propensity", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("day", *place, "position"),
    )
    op.create_index(
        "ix_feedback_recommendation_id",
        "feedback",
        ["recommendation_id"],
        unique=False,
        postgresql_where=sa.text("recommendation_id IS NOT NULL"),
        sqlite_where=sa.text("recommendation_id IS NOT NULL"),
    )
    create_views(op.get_bind(), ("slate_answers", "v_recommendation_reward"))
    let_analysts_read(op.get_bind(), ("v_recommendation_reward",))
