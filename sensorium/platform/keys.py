"""API keys: made, shown once, found again by their digest, changed and revoked.

A key is 256 random bits behind a prefix that says what it is for. Of these only the SHA-256 is kept: a fast hash is
enough where nobody can guess, and whoever reads the database learns no key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from sensorium.platform.database import Database
from sensorium.platform.pages import Order, Page, can_be_id, fetch_page
from sensorium.platform.tables import api_keys, projects

_PREFIXES = ("sk-admin-", "sk-proj-", "sk-svcacct-")
_REMEMBER_S = 5.0  # how long another process's revocation may take to be seen
_MAX_REMEMBERED = 10_000
_NOTE_USE_EVERY_S = 60


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    id: str
    name: str
    redacted: str  # `sk-proj-...wxyz`
    project: str | None  # none: an admin key, for `/v1/organization` and nothing else
    service_account: str | None = None  # whose key it is; none: an operator's
    scopes: tuple[str, ...] = ()  # empty: everything that its kind may do
    created_at: int  # seconds since 1970
    expires_at: int | None = None
    last_used_at: int | None = None  # to the minute

    @property
    def is_admin(self) -> bool:
        return self.project is None


class NewKey(NamedTuple):
    key: ApiKey
    secret: str  # nobody can show it again


class Keys:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: dict[str, tuple[ApiKey, float]] = {}  # by digest, until when on the monotonic clock

    async def add(self, made: NewKey) -> None:
        await self._database.write(lambda connection: insert_key(connection, made))

    async def find(self, secret: str) -> ApiKey | None:
        """The key, unless it is unknown, expired, revoked, or of an archived project."""
        if not secret.startswith(_PREFIXES):  # many clients send any word where no key is needed
            return None
        digest = _digest(secret)
        key, until_s = self._remembered.get(digest, (None, 0.0))
        if key is None or until_s < time.monotonic():
            key = await self._database.read(lambda connection: _find(connection, digest))
            if key is None:
                return None
            if int(time.time()) - (key.last_used_at or 0) >= _NOTE_USE_EVERY_S:
                await self._database.write(lambda connection: _note_use(connection, digest))
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = key, time.monotonic() + _REMEMBER_S
        return None if key.expires_at is not None and key.expires_at <= time.time() else key

    async def opens(self, id: str) -> bool:
        """Whether a key still does: it is there, has not expired, and its project is not archived."""
        if not can_be_id(id):
            return False
        joined = api_keys.outerjoin(projects, projects.c.id == api_keys.c.project)
        query = select(api_keys.c.expires_at).select_from(joined)
        query = query.where(api_keys.c.id == id, projects.c.archived_at.is_(None))
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return row is not None and (row.expires_at is None or row.expires_at > time.time())

    async def get(self, id: str, *, project: str | None) -> ApiKey | None:
        """A key of this project; without one, an admin key."""
        if not can_be_id(id):
            return None
        query = select(api_keys).where(api_keys.c.id == id, _of(project))
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return _key(row) if row else None

    async def list(
        self, *, project: str | None, after: str | None = None, limit: int = 20, order: Order = "asc"
    ) -> Page[ApiKey]:
        """The keys of this project; without one, the admin keys. Raises UnknownCursor."""
        query = select(api_keys).where(_of(project))
        return await self._database.read(
            lambda connection: fetch_page(
                connection, query, _key, table=api_keys, scope=[_of(project)], after=after, limit=limit, order=order
            )
        )

    async def all(self) -> Sequence[ApiKey]:
        """Of every project, and the admin keys."""
        query = select(api_keys).order_by(api_keys.c.seq)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_key(row) for row in rows]

    async def change(
        self, id: str, *, project: str, scopes: Sequence[str] | None = None, expires_at: int | None = None
    ) -> ApiKey | None:
        """What is None stays."""
        changed: dict[str, Any] = {} if scopes is None else {"scopes": json.dumps(list(scopes))}
        changed |= {} if expires_at is None else {"expires_at": expires_at}
        if changed and can_be_id(id):
            statement = update(api_keys).where(api_keys.c.id == id, _of(project)).values(changed)
            await self._database.write(lambda connection: connection.execute(statement))
            self.forget()
        return await self.get(id, project=project)

    async def delete(self, id: str, *, project: str | None) -> bool:
        """Whether it was there. From now on it opens nothing, in other processes within seconds."""
        if not can_be_id(id):
            return False
        statement = delete(api_keys).where(api_keys.c.id == id, _of(project))
        deleted = await self._database.write(lambda connection: connection.execute(statement).rowcount > 0)
        self.forget()
        return deleted

    def forget(self) -> None:
        """What is remembered of keys is asked for again: something that they hang on has changed."""
        self._remembered.clear()


def any_keys(connection: Connection) -> bool:
    return connection.execute(select(func.count()).select_from(api_keys)).scalar_one() > 0


def insert_key(connection: Connection, made: NewKey) -> None:
    fields = {**vars(made.key), "scopes": json.dumps(made.key.scopes), "digest": _digest(made.secret)}
    connection.execute(insert(api_keys).values(fields))


def new_key(
    name: str,
    *,
    project: str | None,
    service_account: str | None = None,
    scopes: Sequence[str] = (),
    expires_at: int | None = None,
) -> NewKey:
    """A key that is in no database yet. Without a project, an admin key."""
    prefix = "sk-admin-" if project is None else "sk-svcacct-" if service_account else "sk-proj-"
    secret = prefix + secrets.token_urlsafe(32)
    key = ApiKey(
        id=f"key_{secrets.token_hex(12)}",
        name=name,
        redacted=f"{prefix}...{secret[-4:]}",
        project=project,
        service_account=service_account,
        scopes=tuple(scopes),
        created_at=int(time.time()),
        expires_at=expires_at,
    )
    return NewKey(key, secret)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _of(project: str | None) -> ColumnElement[bool]:
    return api_keys.c.project.is_(None) if project is None else api_keys.c.project == project


def _find(connection: Connection, digest: str) -> ApiKey | None:
    joined = api_keys.outerjoin(projects, projects.c.id == api_keys.c.project)
    query = select(api_keys).select_from(joined).where(api_keys.c.digest == digest, projects.c.archived_at.is_(None))
    row = connection.execute(query).one_or_none()
    # found by an index, whose time may tell how much of a digest is right; of the key that tells nothing
    return _key(row) if row and hmac.compare_digest(row.digest, digest) else None


def _note_use(connection: Connection, digest: str) -> None:
    connection.execute(update(api_keys).where(api_keys.c.digest == digest).values(last_used_at=int(time.time())))


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        redacted=row.redacted,
        project=row.project,
        service_account=row.service_account,
        scopes=tuple(json.loads(row.scopes)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
