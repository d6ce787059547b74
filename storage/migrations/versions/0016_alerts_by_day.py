"""How many alerts were opened on a day, and how many are open, is counted without reading the alerts themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INDEXES = {"ix_alerts_opened": ("occurred_at", "revision = 1"), "ix_alerts_closed": ("alert_id", "status = 'closed'")}


def upgrade() -> None:
    for name, (column, condition) in INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, "alerts", [column], postgresql_where=where, sqlite_where=where)
