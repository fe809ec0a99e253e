"""Keys that the server makes for itself."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "secrets",
        sql.Column("name", sql.String(32), nullable=False),
        sql.Column("value", sql.String, nullable=False),
        sql.Column("created_at", sql.BigInteger, nullable=False),
        sql.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
