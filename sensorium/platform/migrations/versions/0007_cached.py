"""What of the cached input was sound and pictures: until now all of it counted as text."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for name in ("cached_audio", "cached_image"):
        op.add_column("usage", sql.Column(name, sql.BigInteger, nullable=False, server_default=sql.text("0")))
