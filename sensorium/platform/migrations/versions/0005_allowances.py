"""What callers have used of their limits, where several servers count it together."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # unlogged: no commit waits for the disk, and after a crash of the database buckets are empty, as they are in memory
    prefixes = ["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else []
    op.create_table(
        "allowances",
        *(sql.Column(name, sql.String, nullable=False) for name in ("rule", "project", "api_key")),
        *(sql.Column(name, sql.Double, nullable=False) for name in ("requests", "tokens", "audio_s", "at_s")),
        sql.Column("month", sql.String(7), nullable=False),
        sql.Column("month_tokens", sql.BigInteger, nullable=False),
        sql.PrimaryKeyConstraint("rule", "project", "api_key", name="pk_allowances"),
        prefixes=prefixes,
    )
