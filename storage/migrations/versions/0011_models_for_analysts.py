"""Analysts see the registered models, and daily figures read each model's own once."""

from alembic import op

from storage.views import create_views, let_analysts_read, replace_views

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        replace_views(connection, ("v_detection_daily",))
    else:
        op.execute("DROP VIEW v_detection_daily")
        create_views(connection, ("v_detection_daily",))
    create_views(connection, ("v_models",))
    let_analysts_read(connection, ("v_models",))
