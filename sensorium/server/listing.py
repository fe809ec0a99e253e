"""Lists on the wire: what asks for a page of one, and the page."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from sensorium.platform.store import Item, Page, StoredObject, UnknownCursor
from sensorium.server.errors import APIError, invalid
from sensorium.server.query import Query
from sensorium.server.wire import Metadata

Json = dict[str, Any]


class PageQuery(Query):
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


class CompletionsQuery(PageQuery):
    order: Literal["asc", "desc"] = "asc"
    model: str | None = None
    metadata: Metadata = Field(default={})


def list_body(data: Sequence[Json], *, has_more: bool) -> Json:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": list(data), "first_id": first, "last_id": last, "has_more": has_more}


P = TypeVar("P")


async def page_found(page: Awaitable[P]) -> P:
    """A page of the store. Raises APIError where `after` names nothing in the list."""
    try:
        return await page
    except UnknownCursor:
        raise unknown_cursor() from None


def page_body(page: Page[StoredObject] | Page[Item]) -> Json:
    return list_body([dict(kept.body) for kept in page.data], has_more=page.has_more)


def page_of(data: Sequence[Json], query: PageQuery) -> Json:
    """A page of a list that is there whole, in its own order."""
    ordered = list(data) if query.order == "asc" else list(reversed(data))
    if query.after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == query.after]
        if not places:
            raise unknown_cursor()
        ordered = ordered[places[0] + 1 :]
    return list_body(ordered[: query.limit], has_more=len(ordered) > query.limit)


def unknown_cursor() -> APIError:
    return invalid("'after' names nothing in this list.", "after")


def not_found(what: str, id: str, param: str | None = None) -> APIError:
    return APIError(f"{what} with id '{id[:100]}' not found.", status=404, param=param)
