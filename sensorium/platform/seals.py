"""What clients carry for the server: sealed, so that nobody else can read it, and what was changed is refused.

A seal is AES-256-GCM (NIST SP 800-38D) with a key that the database keeps: every server of that database opens what
another one sealed. A database in memory takes its key with it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import time

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from sensorium.platform.database import Database
from sensorium.platform.tables import secrets as kept_secrets

_NAME = "seal"
_KEY_BYTES, _NONCE_BYTES = 32, 12


class Sealer:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def open(cls, database: Database) -> Sealer:
        """With the database's key, which is made if there is none. Blocks meanwhile."""
        return cls(database.write_now(_key))

    def seal(self, content: bytes, *, about: str) -> str:
        """`content` as a text of A-Z, a-z, 0-9, - and _ that opens for the same `about` only: a project, say."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, content, about.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def unseal(self, text: str, *, about: str) -> bytes:
        """Raises ValueError for what was not sealed here, not about this, or was changed since."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
        except (InvalidTag, binascii.Error, ValueError):  # ValueError: too short, or not ASCII
            raise ValueError("this was not sealed here, or it was changed") from None


def _key(connection: Connection) -> bytes:
    inserting = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    made = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    row = {"name": _NAME, "value": made, "created_at": int(time.time())}
    connection.execute(inserting(kept_secrets).values(row).on_conflict_do_nothing())  # another server may be first
    return base64.b64decode(
        connection.execute(select(kept_secrets.c.value).where(kept_secrets.c.name == _NAME)).scalar_one()
    )
