"""Objects of the API, their labels and items."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None

_COUNTED = sql.BigInteger().with_variant(sql.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "objects",
        sql.Column("seq", _COUNTED, autoincrement=True, nullable=False),
        sql.Column("project", sql.String, nullable=False),
        sql.Column("kind", sql.String, nullable=False),
        sql.Column("id", sql.String, nullable=False),
        sql.Column("created_at", sql.BigInteger, nullable=False),
        sql.Column("expires_at", sql.BigInteger),
        sql.Column("model", sql.String),
        sql.Column("metadata", sql.Text, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
        sql.PrimaryKeyConstraint("seq", name="pk_objects"),
        sql.UniqueConstraint("project", "kind", "id", name="uq_objects_project_kind_id"),
        sqlite_autoincrement=True,
    )
    created = ["created_at", "seq"]
    op.create_index("ix_objects_project_kind_created_at_seq", "objects", ["project", "kind", *created])
    op.create_index("ix_objects_project_kind_model_created_at_seq", "objects", ["project", "kind", "model", *created])
    op.create_index("ix_objects_expires_at", "objects", ["expires_at"])

    op.create_table(
        "labels",
        sql.Column("digest", sql.String(32), nullable=False),
        sql.Column("object", _COUNTED, nullable=False),
        sql.PrimaryKeyConstraint("digest", "object", name="pk_labels"),
        sql.ForeignKeyConstraint(["object"], ["objects.seq"], name="fk_labels_object", ondelete="CASCADE"),
    )
    op.create_index("ix_labels_object", "labels", ["object"])

    op.create_table(
        "items",
        sql.Column("seq", _COUNTED, autoincrement=True, nullable=False),
        sql.Column("object", _COUNTED, nullable=False),
        sql.Column("id", sql.String, nullable=False),
        sql.Column("body", sql.Text, nullable=False),
        sql.PrimaryKeyConstraint("seq", name="pk_items"),
        sql.UniqueConstraint("object", "id", name="uq_items_object_id"),
        sql.ForeignKeyConstraint(["object"], ["objects.seq"], name="fk_items_object", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_items_object_seq", "items", ["object", "seq"])
