"""What takes a model back and who hears of it: withdrawn versions, model_updates, v_shadow_daily."""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcTimestamp
from storage.views import create_views, let_analysts_read

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("withdrawn_at", UtcTimestamp(), nullable=True))
    op.add_column("models", sa.Column("withdrawn_why", sa.Text(), nullable=True))
    op.create_table(
        "model_updates",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("promoted_at", UtcTimestamp(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.execute(
        "INSERT INTO model_updates (sequence, name, version, promoted_at, why) "
        "SELECT row_number() OVER (ORDER BY promoted_at, name), name, version, promoted_at, promoted_why "
        "FROM models WHERE alias = 'champion' AND promoted_at IS NOT NULL"
    )
    create_views(op.get_bind(), ("v_shadow_daily",))
    let_analysts_read(op.get_bind(), ("v_shadow_daily",))
