"""Lists in pages: the rows behind a cursor in an order, and whether there are more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, select, tuple_

Order = Literal["asc", "desc"]
AnySelect = Select[*tuple[Any, ...]]

MAX_ID_CHARS = 512  # what a key of PostgreSQL's index holds, with room

T = TypeVar("T")


class Page(NamedTuple, Generic[T]):
    data: list[T]
    has_more: bool


class UnknownCursor(ValueError):
    """`after` names nothing in this list."""


def can_be_id(id: str) -> bool:
    """Whether every database can hold it: PostgreSQL has no NUL, and neither has half a surrogate pair."""
    return 0 < len(id) <= MAX_ID_CHARS and "\0" not in id and not any("\ud800" <= char <= "\udfff" for char in id)


def fetch_page(
    connection: Connection,
    query: AnySelect,
    read: Callable[[Row[Any]], T],
    *,
    table: Table,
    scope: list[ColumnElement[bool]],
    after: str | None,
    limit: int,
    order: Order,
) -> Page[T]:
    """The rows of `query` that come behind the one of `scope` whose id is `after`, as `read` makes them.

    They are in the order of `created_at`, where the table has it, and of `seq`. Raises UnknownCursor.
    """
    key = [table.c[name] for name in ("created_at", "seq") if name in table.c]
    if after is not None:
        place = select(*key).where(*scope, table.c.id == after)
        if not can_be_id(after) or (start := connection.execute(place).one_or_none()) is None:
            raise UnknownCursor(f"there is no {after!r} in this list")
        query = query.where(tuple_(*key) > tuple_(*start) if order == "asc" else tuple_(*key) < tuple_(*start))
    query = query.order_by(*(column if order == "asc" else column.desc() for column in key)).limit(limit + 1)
    rows = connection.execute(query).all()
    return Page([read(row) for row in rows[:limit]], len(rows) > limit)
