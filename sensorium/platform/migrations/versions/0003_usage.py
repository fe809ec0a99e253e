"""What was used, by the minute."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0003"
down_revision = "0002"

_COUNTERS = (
    *("requests", "input_text", "input_audio", "input_image", "cached"),
    *("output_text", "output_audio", "output_image", "characters", "audio_ms", "images"),
)


def upgrade() -> None:
    op.create_table(
        "usage",
        sql.Column("minute", sql.BigInteger, nullable=False),
        sql.Column("kind", sql.String(32), nullable=False),
        *(sql.Column(name, sql.String, nullable=False) for name in ("project", "api_key", "model", "size", "source")),
        sql.Column("batch", sql.Boolean, nullable=False),
        *(sql.Column(name, sql.BigInteger, nullable=False, server_default=sql.text("0")) for name in _COUNTERS),
        sql.PrimaryKeyConstraint(
            *("minute", "kind", "project", "api_key", "model", "size", "source", "batch"), name="pk_usage"
        ),
    )
    op.create_index("ix_usage_kind_minute", "usage", ["kind", "minute"])
