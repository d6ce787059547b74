"""How versions of what labels say of merchants count each event and each label once: positions, label_version."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UNREAD_LABELS = "kind = 'label' AND status = 'joined' AND label_version IS NULL"


def upgrade() -> None:
    # Nothing has written versions before this revision.
    with op.batch_alter_table("label_versions") as versions:
        versions.drop_column("joined_until")
        versions.add_column(sa.Column("positions", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False))
    op.add_column("feedback", sa.Column("label_version", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_feedback_unread",
        "feedback",
        ["given_at"],
        unique=False,
        postgresql_where=sa.text(UNREAD_LABELS),
        sqlite_where=sa.text(UNREAD_LABELS),
    )
