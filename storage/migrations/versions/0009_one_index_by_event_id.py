"""An event is found by its id among transactions, and its prediction by the key of both: one costly index less."""

from alembic import op

from storage.views import create_views, replace_views

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        replace_views(connection, ("v_predictions",))
    else:
        op.execute("DROP VIEW v_predictions")
        create_views(connection, ("v_predictions",))
    op.drop_index("ix_predictions_event_id", "predictions")
