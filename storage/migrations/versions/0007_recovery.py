"""What recovery, bounded memory and retention need: snapshots of state, states that left memory, days as partitions."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

from storage.tables import UtcTimestamp
from storage.views import replace_views

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

LOG_KEY = ("day", "topic_generation", "source_partition", "source_offset")
#: Table -> the method and the columns of each index, by what its name ends with.
INDEXES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "transactions": {"event_id": ("hash", ("event_id",)), "occurred_at": ("brin", ("occurred_at",))},
    "predictions": {"event_id": ("hash", ("event_id",)), "occurred_at": ("brin", ("occurred_at",))},
    "shadow_predictions": {"occurred_at": ("brin", ("occurred_at",))},
    "duplicates": {},
    "engagements": {
        "recommendation_id": ("hash", ("recommendation_id",)),
        "occurred_at": ("brin", ("occurred_at",)),
    },
    "recommendations": {
        "recommendation_id": ("hash", ("recommendation_id",)),
        "made_at": ("brin", ("made_at",)),
        "source": ("btree", LOG_KEY[1:]),
    },
    "recommendation_items": {},
}


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
        sa.Column("layout", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("topic_generation", "source_partition", "entity_id", "layout", "as_of"),
    )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        for table, indexes in INDEXES.items():
            partition_by_day(connection, table, indexes)
        # They still read the tables that became partitions.
        replace_views(
            connection,
            ("slate_answers", "v_predictions", "v_detection_daily", "v_shadow_daily", "v_recommendation_reward"),
        )


def partition_by_day(connection: Connection, table: str, indexes: dict[str, Any]) -> None:
    """The table becomes the partition of all days until today (UTC), as it is: its rows are read once, to see that they
    are of these days, and not written; indexes are taken over. Rows of later days go to the default partition."""
    run = connection.exec_driver_sql
    before, default, key = f"{table}_before", f"{table}_default", ", ".join(LOG_KEY)
    key += ", position" if table == "recommendation_items" else ""
    run(f"ALTER TABLE {table} RENAME TO {before}")
    run(f"ALTER INDEX {table}_pkey RENAME TO {before}_pkey")
    for name in indexes:
        run(f"ALTER INDEX ix_{table}_{name} RENAME TO ix_{before}_{name}")
    run(f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS) PARTITION BY RANGE (day)")
    run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({key})")
    for name, (method, columns) in indexes.items():
        run(f"CREATE INDEX ix_{table}_{name} ON {table} USING {method} ({', '.join(columns)})")
    run(f"CREATE TABLE {default} PARTITION OF {table} DEFAULT")
    tomorrow = run("SELECT (now() AT TIME ZONE 'UTC')::date + 1").scalar()
    run(f"WITH moved AS (DELETE FROM {before} WHERE day >= '{tomorrow}' RETURNING *) INSERT INTO {default} TABLE moved")
    run(f"ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ('{tomorrow}')")
