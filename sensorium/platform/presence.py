"""Which servers of a database are there: each holds a lock, which goes with its process however that ends.

In PostgreSQL it is an advisory lock. Beside a file of SQLite, whose servers are all on one machine, it is a locked
file, which the kernel lets go of. A database in memory has one server only.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
from pathlib import Path

from sqlalchemy import Connection, text

from sensorium.platform.database import Database, Held

_ID = re.compile(r"server_[0-9a-f]{16}")
# a lock that this session has already is asked for again only if its connection was made anew
_HOLD = text(
    "SELECT pg_advisory_lock(CAST(:lock AS bigint)) WHERE NOT EXISTS ("
    "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    " AND (classid::bigint << 32 | objid::bigint) = CAST(:lock AS bigint))"
)
# shared, so that two who ask at once don't take each other for the server
_IS_FREE = text("SELECT pg_try_advisory_xact_lock_shared(CAST(:lock AS bigint))")


class Presence:
    """This server's sign that it is there, under the name `id`, and a look for those of the others."""

    def __init__(self, database: Database) -> None:
        self.id = f"server_{secrets.token_hex(8)}"
        self._database = database
        self._held: Held | None = database.hold() if database.is_shared else None
        self._folder = None if database.file is None else database.file.with_name(f"{database.file.name}-servers")
        self._lock: int | None = None  # the file's descriptor

    async def hold(self) -> None:
        """Returns when others can see that this server is there."""
        if self._held is not None:
            lock = {"lock": _number(self.id)}
            await self._held.run(lambda connection: connection.execute(_HOLD, lock))
        elif self._folder is not None and self._lock is None:
            self._lock = _locked(self._folder, self.id)

    async def is_there(self, id: str) -> bool:
        """Whether the server of this name still is. One cut off from PostgreSQL is not, until it holds again."""
        if id == self.id:
            return True
        if not _ID.fullmatch(id):
            return False
        if self._held is not None:
            return not await self._database.read(lambda connection: _is_free(connection, id))
        return self._folder is not None and await asyncio.to_thread(_is_locked, self._folder / id)

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
        if self._lock is not None:
            assert self._folder is not None
            (self._folder / self.id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def _is_free(connection: Connection, id: str) -> bool:
    return bool(connection.execute(_IS_FREE, {"lock": _number(id)}).scalar())


def _number(id: str) -> int:
    """The number of an advisory lock: PostgreSQL has them by 64 bits."""
    return int.from_bytes(bytes.fromhex(id.removeprefix("server_")), "big", signed=True)


def _locked(folder: Path, id: str) -> int:
    folder.mkdir(exist_ok=True, mode=0o700)
    lock = os.open(folder / id, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _is_locked(file: Path) -> bool:
    """Whether a server holds it; of one that is gone the file goes too."""
    try:
        lock = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look don't take each other for the server
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    file.unlink(missing_ok=True)
    return False
