"""Dead letters that were not replayed are counted by code without reading all that ever were."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_dead_letters_unreplayed",
        "dead_letters",
        ["error_code", "recorded_at"],
        postgresql_where=sa.text("replayed_at IS NULL"),
        sqlite_where=sa.text("replayed_at IS NULL"),
    )
