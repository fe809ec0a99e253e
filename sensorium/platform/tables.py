"""The tables of the database, in one dialect-neutral schema; `migrations/` makes them, a test compares the two.

Bodies are JSON in a text column: no database needs to look inside, and what JSON allows that PostgreSQL's own types
refuse (the character NUL) goes through. What is filtered by has a column, or a row of `labels`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# so that every index and constraint has the same name on every database, and migrations can name it
schema = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Counted = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up a column of this very type only

objects = Table(
    "objects",
    schema,
    Column("seq", _Counted, primary_key=True, autoincrement=True),  # the order in which they were made
    Column("project", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # seconds since 1970
    Column("expires_at", BigInteger),
    Column("model", String),
    Column("num_bytes", BigInteger, nullable=False, server_default=text("0")),  # in the object storage
    Column("metadata", Text, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("project", "kind", "id"),
    Index(None, "project", "kind", "created_at", "seq"),
    Index(None, "project", "kind", "model", "created_at", "seq"),
    Index(None, "expires_at"),
    sqlite_autoincrement=True,  # a number is never given twice, even after the newest object is deleted
)

# a row for every key and value of an object's metadata, as a digest: of one size, whatever the text
labels = Table(
    "labels",
    schema,
    Column("digest", String(32), primary_key=True),
    Column("object", _Counted, ForeignKey("objects.seq", ondelete="CASCADE"), primary_key=True),
    Index(None, "object"),
)

# what an object holds in order: a conversation's items, a response's input
items = Table(
    "items",
    schema,
    Column("seq", _Counted, primary_key=True, autoincrement=True),
    Column("object", _Counted, ForeignKey("objects.seq", ondelete="CASCADE"), nullable=False),
    Column("id", String, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("object", "id"),
    Index(None, "object", "seq"),
    sqlite_autoincrement=True,
)

projects = Table(
    "projects",
    schema,
    Column("seq", _Counted, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)

service_accounts = Table(
    "service_accounts",
    schema,
    Column("seq", _Counted, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("project", String, ForeignKey("projects.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("id"),
    Index(None, "project"),
    sqlite_autoincrement=True,
)

# of a key itself nothing is kept but its digest, and as much as people need to tell it from others
api_keys = Table(
    "api_keys",
    schema,
    Column("seq", _Counted, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("redacted", String, nullable=False),
    Column("name", String, nullable=False),
    Column("project", String, ForeignKey("projects.id")),  # none: an admin key
    Column("service_account", String, ForeignKey("service_accounts.id", ondelete="CASCADE")),
    Column("scopes", Text, nullable=False),  # a JSON list; empty: everything
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    UniqueConstraint("id"),
    UniqueConstraint("digest"),
    Index(None, "project"),
    Index(None, "service_account"),
    sqlite_autoincrement=True,
)

# what was used, summed up for every minute: as many rows as there are minutes and kinds of use, not requests
usage = Table(
    "usage",
    schema,
    Column("minute", BigInteger, primary_key=True),  # its first second, since 1970
    Column("kind", String(32), primary_key=True),  # the endpoint of /v1/organization/usage that tells it
    Column("project", String, primary_key=True),
    Column("api_key", String, primary_key=True),  # its id; empty: nobody asked for one
    Column("model", String, primary_key=True),
    Column("size", String, primary_key=True),  # of pictures, `1024x1024`; else empty
    Column("source", String, primary_key=True),  # of pictures, `image.generation`; else empty
    Column("batch", Boolean, primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in (
            *("requests", "input_text", "input_audio", "input_image", "cached"),
            *("output_text", "output_audio", "output_image", "characters", "audio_ms", "images"),
            *("cached_audio", "cached_image"),
        )
    ),
    Index(None, "kind", "minute"),
)

# keys that the server makes for itself, so that all servers of one database have the same
secrets = Table(
    "secrets",
    schema,
    Column("name", String(32), primary_key=True),
    Column("value", String, nullable=False),  # in base64
    Column("created_at", BigInteger, nullable=False),
)

# what callers have used of their limits, where several servers count it together: see shared_limits.py
allowances = Table(
    "allowances",
    schema,
    Column("rule", String, primary_key=True),  # a digest of all that it says
    Column("project", String, primary_key=True),
    Column("api_key", String, primary_key=True),  # its id; empty: nobody asked for one
    Column("requests", Double, nullable=False),  # in the bucket, at `at_s`
    Column("tokens", Double, nullable=False),
    Column("audio_s", Double, nullable=False),
    Column("at_s", Double, nullable=False),  # since 1970, by the database's clock
    Column("month", String(7), nullable=False),  # of the quota; empty: nobody has told what was used in it
    Column("month_tokens", BigInteger, nullable=False),
)
