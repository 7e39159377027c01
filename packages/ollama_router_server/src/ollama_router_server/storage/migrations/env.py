"""Alembic's entry point: runs migrations on the connection from `storage.upgrade`."""

from __future__ import annotations

from alembic import context

from ollama_router_server.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
