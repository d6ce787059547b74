"""The worst alerts are found, and dead letters that were not replayed counted, without reading all that ever were."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_alerts_severity", "alerts", ["severity", "score", "scored_at", "alert_id", "revision", "status"]
    )
    op.create_index(
        "ix_dead_letters_unreplayed",
        "dead_letters",
        ["error_code", "recorded_at"],
        postgresql_where=sa.text("replayed_at IS NULL"),
        sqlite_where=sa.text("replayed_at IS NULL"),
    )
