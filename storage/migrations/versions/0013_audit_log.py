"""Who did what: a table that is only added to. Triggers refuse all else, to Headgate's own user too."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from storage.tables import UtcTimestamp
from storage.views import create_views

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ON_POSTGRESQL = (
    """
    CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING MESSAGE = 'audit_log is only added to: ' || TG_OP || ' refused';
    END $$
    """,
    """
    CREATE TRIGGER audit_log_is_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit_log()
    """,
)
ON_SQLITE = tuple(
    f"CREATE TRIGGER audit_log_refuses_{change.lower()} BEFORE {change} ON audit_log "
    f"BEGIN SELECT RAISE(ABORT, 'audit_log is only added to: {change} refused'); END"
    for change in ("UPDATE", "DELETE")
)


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", UtcTimestamp(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    )
    connection = op.get_bind()
    for statement in ON_POSTGRESQL if connection.dialect.name == "postgresql" else ON_SQLITE:
        connection.exec_driver_sql(statement)
    create_views(connection, ("v_audit",))
