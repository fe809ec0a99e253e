"""How large the bytes are that belong to an object: of files, which said so in their bodies only."""

from __future__ import annotations

import json

import sqlalchemy as sql
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("objects", sql.Column("num_bytes", sql.BigInteger, nullable=False, server_default=sql.text("0")))
    objects = sql.table("objects", *(sql.column(name) for name in ("seq", "kind", "body", "num_bytes")))
    connection = op.get_bind()
    files = connection.execute(sql.select(objects.c.seq, objects.c.body).where(objects.c.kind == "file")).all()
    for seq, body in files:
        size = json.loads(body)["bytes"]
        connection.execute(objects.update().where(objects.c.seq == seq).values(num_bytes=size))
