"""Alembic's entry point: runs on the connection that `incidents.database` hands it."""

from alembic import context

from incidents.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
