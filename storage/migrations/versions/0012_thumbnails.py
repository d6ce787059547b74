"""Pictures of items as small thumbnails, which workers and training read instead of the files."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("thumbnail", sa.LargeBinary))
