"""Alembic's entry point: runs on the connection that storage.database.upgrade opened."""

from alembic import context

from storage.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=False,  # the caller's transaction holds everything
)
context.run_migrations()
