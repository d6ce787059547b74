"""Registered models carry a signature and the id of the key that made it."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("signature", sa.Text))
    op.add_column("models", sa.Column("signing_key", sa.Text))
