"""What the API keeps: stored completions, responses, conversations, files and whatever else has an id and a body.

One kind of thing for all of them: a `StoredObject` belongs to a project, has a kind (`"response"`, `"conversation"`),
an id that is unique among these, a JSON body, metadata to filter by, and may hold `Item`s in the order in which they
came. An object of another project is not there.

Ids, cursors and filters come from clients, and may be any text: what can't be there is not found.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from sensorium.platform.database import Database
from sensorium.platform.pages import MAX_ID_CHARS, Order, Page, UnknownCursor, can_be_id, fetch_page
from sensorium.platform.tables import items, labels, objects

__all__ = ["Item", "Order", "Page", "Store", "StoredObject", "Total", "UnknownCursor"]

log = structlog.get_logger()

_SWEEP_EVERY_S = 60.0
_EVICTED_AT_ONCE = 100  # objects


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    kind: str
    id: str
    project: str
    created_at: int  # seconds since 1970; objects are listed in this order, those of one second as they were put
    body: Mapping[str, Any]  # anything that JSON holds
    metadata: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    expires_at: int | None = None  # from this second on it is not there
    num_bytes: int = 0  # that lie in the object storage


class Item(NamedTuple):
    id: str  # unique in its object
    body: Mapping[str, Any]


class Total(NamedTuple):
    num_objects: int
    num_bytes: int


class Store:
    def __init__(self, database: Database, *, max_memory_bytes: int = 2**28) -> None:
        """A database in memory drops its oldest objects when it takes more than `max_memory_bytes`."""
        self._database = database
        self._max_memory_bytes = max_memory_bytes
        self._next_sweep_s = 0.0
        self._droppers: dict[str, Callable[[str], Awaitable[None]]] = {}

    def when_dropped(self, kind: str, drop: Callable[[str], Awaitable[None]]) -> None:
        """`drop` is given the id of every object of this kind that goes by itself, after it has: because it has
        expired, or to make room. What it raises is logged. If the process is killed in between, it is never told."""
        self._droppers[kind] = drop

    async def put(self, object: StoredObject, held: Sequence[Item] | None = None) -> None:
        """Writes an object, over one of the same id. `held` are its items; without it those there are stay.

        Raises ValueError for ids that are too long or no text, and for items of one id.
        """
        for id in (object.id, *(item.id for item in held or ())):
            if not can_be_id(id):
                raise ValueError(f"an id must be a text of 1 to {MAX_ID_CHARS} characters")
        _check_distinct(held or ())

        def work(connection: Connection) -> list[_Dropped]:
            seq = _upsert(connection, object)
            _write_labels(connection, seq, object.metadata)
            if held is not None:
                connection.execute(delete(items).where(items.c.object == seq))
                _append(connection, seq, held)
            return self._make_room(connection)

        await self._let_go(await self._database.write(work))

    async def get(self, kind: str, id: str, project: str) -> StoredObject | None:
        return await self._database.read(lambda connection: _find(connection, kind, id, project))

    async def update(
        self, kind: str, id: str, project: str, change: Callable[[StoredObject], StoredObject]
    ) -> StoredObject | None:
        """The object as `change` makes it: no other update comes between its reading and its writing.

        `change` runs in a thread and must not wait; what it raises leaves the object as it was. Kind, id, project and
        `created_at` stay. None if there is no such object.
        """

        def work(connection: Connection) -> StoredObject | None:
            if (old := _find(connection, kind, id, project, lock=True)) is None:
                return None
            changed = replace(change(old), kind=kind, id=id, project=project, created_at=old.created_at)
            _write_labels(connection, _upsert(connection, changed), changed.metadata)
            return changed

        return await self._database.write(work)

    async def delete(self, kind: str, id: str, project: str) -> bool:
        """Whether it was there. Its items go with it."""
        if not can_be_id(id):
            return False
        statement = delete(objects).where(*_is(kind, id, project))
        return await self._database.write(lambda connection: connection.execute(statement).rowcount > 0)

    async def list(
        self,
        kind: str,
        project: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[StoredObject]:
        """The objects behind the one whose id is `after`, with this model and all of this metadata.

        Raises UnknownCursor.
        """
        if model is not None and not can_be_id(model):
            return Page([], False)
        query = select(objects).where(objects.c.project == project, objects.c.kind == kind, *_alive())
        if model is not None:
            query = query.where(objects.c.model == model)
        for key, value in (metadata or {}).items():
            labelled = select(labels.c.object).where(labels.c.digest == _digest(key, value))
            query = query.where(objects.c.seq.in_(labelled))

        scope = [objects.c.project == project, objects.c.kind == kind, *_alive()]
        return await self._database.read(
            lambda connection: fetch_page(
                connection, query, _object, table=objects, scope=scope, after=after, limit=limit, order=order
            )
        )

    async def total(self, kind: str, project: str) -> Total:
        """Of all objects of a kind."""
        summed = func.coalesce(func.sum(objects.c.num_bytes), 0)
        query = select(func.count(), summed).where(objects.c.project == project, objects.c.kind == kind, *_alive())
        num_objects, num_bytes = await self._database.read(lambda connection: connection.execute(query).one())
        return Total(num_objects, int(num_bytes))

    async def append(self, kind: str, id: str, project: str, held: Sequence[Item]) -> bool:
        """Puts items behind those of an object, all or none of them. Whether there is such an object.

        Raises ValueError if an id is there already, is too long or no text.
        """
        if not all(can_be_id(item.id) for item in held):
            raise ValueError(f"an id must be a text of 1 to {MAX_ID_CHARS} characters")
        _check_distinct(held)

        def work(connection: Connection) -> list[_Dropped] | None:
            # locked, so that two appends at once don't mingle
            if (seq := _seq(connection, kind, id, project, lock=True)) is None:
                return None
            there = select(items.c.id).where(items.c.object == seq, items.c.id.in_([item.id for item in held]))
            if (twice := connection.execute(there.limit(1)).scalar()) is not None:
                raise ValueError(f"there is an item {twice!r} already")
            _append(connection, seq, held)
            return self._make_room(connection)

        dropped = await self._database.write(work)
        await self._let_go(dropped or [])
        return dropped is not None

    async def items(
        self,
        kind: str,
        id: str,
        project: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> Page[Item] | None:
        """The items of an object behind the one whose id is `after`. None if there is no such object.

        Raises UnknownCursor.
        """

        def work(connection: Connection) -> Page[Item] | None:
            if (seq := _seq(connection, kind, id, project)) is None:
                return None
            query = select(items).where(scope := items.c.object == seq)
            return fetch_page(
                connection, query, _item, table=items, scope=[scope], after=after, limit=limit, order=order
            )

        return await self._database.read(work)

    async def item(self, kind: str, id: str, project: str, item_id: str) -> Item | None:
        def work(connection: Connection) -> Item | None:
            if not can_be_id(item_id) or (seq := _seq(connection, kind, id, project)) is None:
                return None
            row = connection.execute(select(items).where(items.c.object == seq, items.c.id == item_id)).one_or_none()
            return _item(row) if row else None

        return await self._database.read(work)

    async def delete_item(self, kind: str, id: str, project: str, item_id: str) -> bool:
        """Whether it was there."""

        def work(connection: Connection) -> bool:
            if not can_be_id(item_id) or (seq := _seq(connection, kind, id, project)) is None:
                return False
            return connection.execute(delete(items).where(items.c.object == seq, items.c.id == item_id)).rowcount > 0

        return await self._database.write(work)

    def _make_room(self, connection: Connection) -> list[_Dropped]:
        """Now and then what has expired is deleted; in memory, the oldest objects too when they take too much."""
        dropped: list[_Dropped] = []
        if time.monotonic() >= self._next_sweep_s:
            self._next_sweep_s = time.monotonic() + _SWEEP_EVERY_S
            dropped += _drop(connection, objects.c.expires_at <= int(time.time()))
        if not self._database.in_memory:
            return dropped
        oldest = select(objects.c.seq).order_by(objects.c.seq).limit(_EVICTED_AT_ONCE)
        while _bytes_in_memory(connection) > self._max_memory_bytes:
            evicted = _drop(connection, objects.c.seq.in_(oldest))
            if not evicted:
                break
            dropped += evicted
        return dropped

    async def _let_go(self, dropped: Sequence[_Dropped]) -> None:
        for each in dropped:
            if (drop := self._droppers.get(each.kind)) is not None:
                try:
                    await drop(each.id)
                except Exception as error:
                    log.warning("what belongs to an object stays", kind=each.kind, error=type(error).__name__)


class _Dropped(NamedTuple):
    kind: str
    id: str


def _drop(connection: Connection, which: ColumnElement[bool]) -> list[_Dropped]:
    rows = connection.execute(delete(objects).where(which).returning(objects.c.kind, objects.c.id)).all()
    return [_Dropped(row.kind, row.id) for row in rows]


def _check_distinct(held: Sequence[Item]) -> None:
    if len({item.id for item in held}) < len(held):
        raise ValueError("two items have the same id")


def _is(kind: str, id: str, project: str) -> list[Any]:
    return [objects.c.project == project, objects.c.kind == kind, objects.c.id == id, *_alive()]


def _alive() -> list[Any]:
    return [or_(objects.c.expires_at.is_(None), objects.c.expires_at > int(time.time()))]


def _find(connection: Connection, kind: str, id: str, project: str, *, lock: bool = False) -> StoredObject | None:
    if not can_be_id(id):
        return None
    query = select(objects).where(*_is(kind, id, project))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return _object(row) if row else None


def _seq(connection: Connection, kind: str, id: str, project: str, *, lock: bool = False) -> int | None:
    if not can_be_id(id):
        return None
    query = select(objects.c.seq).where(*_is(kind, id, project))
    return connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()


def _object(row: Row[Any]) -> StoredObject:
    return StoredObject(
        kind=row.kind,
        id=row.id,
        project=row.project,
        created_at=row.created_at,
        body=json.loads(row.body),
        metadata=json.loads(row.metadata),
        model=row.model,
        expires_at=row.expires_at,
        num_bytes=row.num_bytes,
    )


def _item(row: Row[Any]) -> Item:
    return Item(row.id, json.loads(row.body))


def _upsert(connection: Connection, object: StoredObject) -> int:
    """The object's number, which it keeps when it is written over."""
    inserting = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    changed = {
        "created_at": object.created_at,
        "expires_at": object.expires_at,
        "model": object.model,
        "num_bytes": object.num_bytes,
        "metadata": json.dumps(dict(object.metadata)),
        "body": json.dumps(object.body),
    }
    statement = inserting(objects).values(project=object.project, kind=object.kind, id=object.id, **changed)
    key = [objects.c.project, objects.c.kind, objects.c.id]
    statement = statement.on_conflict_do_update(index_elements=key, set_=changed)
    return connection.execute(statement.returning(objects.c.seq)).scalar_one()


def _write_labels(connection: Connection, seq: int, metadata: Mapping[str, str]) -> None:
    connection.execute(delete(labels).where(labels.c.object == seq))
    if metadata:
        rows = [{"object": seq, "digest": _digest(key, value)} for key, value in metadata.items()]
        connection.execute(insert(labels), rows)


def _digest(key: str, value: str) -> str:
    # of its JSON, where no two pairs look alike and every character can be encoded
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()[:32]


def _append(connection: Connection, seq: int, held: Sequence[Item]) -> None:
    if held:
        rows = [{"object": seq, "id": item.id, "body": json.dumps(item.body)} for item in held]
        connection.execute(insert(items), rows)


def _bytes_in_memory(connection: Connection) -> int:
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
