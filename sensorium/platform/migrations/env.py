"""What Alembic runs to migrate: on the connection, and in the transaction, of `database.py`."""

from __future__ import annotations

from alembic import context

from sensorium.platform.tables import schema

context.configure(connection=context.config.attributes["connection"], target_metadata=schema)
context.run_migrations()
