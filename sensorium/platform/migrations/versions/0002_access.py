"""Projects, their service accounts, and API keys; with the project of everybody who has no other."""

from __future__ import annotations

import time

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"

_COUNTED = sql.BigInteger().with_variant(sql.Integer, "sqlite")


def upgrade() -> None:
    projects = op.create_table(
        "projects",
        sql.Column("seq", _COUNTED, autoincrement=True, nullable=False),
        sql.Column("id", sql.String, nullable=False),
        sql.Column("name", sql.String, nullable=False),
        sql.Column("created_at", sql.BigInteger, nullable=False),
        sql.Column("archived_at", sql.BigInteger),
        sql.PrimaryKeyConstraint("seq", name="pk_projects"),
        sql.UniqueConstraint("id", name="uq_projects_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "service_accounts",
        sql.Column("seq", _COUNTED, autoincrement=True, nullable=False),
        sql.Column("id", sql.String, nullable=False),
        sql.Column("project", sql.String, nullable=False),
        sql.Column("name", sql.String, nullable=False),
        sql.Column("role", sql.String, nullable=False),
        sql.Column("created_at", sql.BigInteger, nullable=False),
        sql.PrimaryKeyConstraint("seq", name="pk_service_accounts"),
        sql.UniqueConstraint("id", name="uq_service_accounts_id"),
        sql.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_service_accounts_project"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_service_accounts_project", "service_accounts", ["project"])
    op.create_table(
        "api_keys",
        sql.Column("seq", _COUNTED, autoincrement=True, nullable=False),
        sql.Column("id", sql.String, nullable=False),
        sql.Column("digest", sql.String(64), nullable=False),
        sql.Column("redacted", sql.String, nullable=False),
        sql.Column("name", sql.String, nullable=False),
        sql.Column("project", sql.String),
        sql.Column("service_account", sql.String),
        sql.Column("scopes", sql.Text, nullable=False),
        sql.Column("created_at", sql.BigInteger, nullable=False),
        sql.Column("expires_at", sql.BigInteger),
        sql.Column("last_used_at", sql.BigInteger),
        sql.PrimaryKeyConstraint("seq", name="pk_api_keys"),
        sql.UniqueConstraint("id", name="uq_api_keys_id"),
        sql.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sql.ForeignKeyConstraint(["project"], ["projects.id"], name="fk_api_keys_project"),
        sql.ForeignKeyConstraint(
            ["service_account"], ["service_accounts.id"], name="fk_api_keys_service_account", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_keys_project", "api_keys", ["project"])
    op.create_index("ix_api_keys_service_account", "api_keys", ["service_account"])
    op.bulk_insert(projects, [{"id": "proj_default", "name": "Default project", "created_at": int(time.time())}])
