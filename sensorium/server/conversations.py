"""/v1/conversations: threads of items that responses read from and add to, until they are deleted."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from sensorium.platform.store import Item as Held
from sensorium.platform.store import Store, StoredObject
from sensorium.server.body import read_json
from sensorium.server.config import ServerConfig
from sensorium.server.errors import invalid, validated
from sensorium.server.listing import Json, PageQuery, list_body, not_found, page_body, page_found
from sensorium.server.query import Query, read_query
from sensorium.server.responses_compact import Compactions
from sensorium.server.responses_items import Item, ItemReference
from sensorium.server.responses_kept import CONVERSATION, distinct
from sensorium.server.responses_messages import Placed, resource
from sensorium.server.responses_request import Include
from sensorium.server.wire import Metadata, Wire

MAX_ITEMS_AT_ONCE = 20

_NewItems = Annotated[list[Item], Field(max_length=MAX_ITEMS_AT_ONCE)]


class CreateRequest(Wire):
    items: _NewItems | None = None
    metadata: Metadata | None = None


class UpdateRequest(Wire):
    metadata: Metadata | None


class ItemsRequest(Wire):
    items: Annotated[_NewItems, Field(min_length=1)]


class ItemQuery(Query):
    include: list[Include] = Field(default=[])  # as of a response: what there is of it is there anyway


class ItemsQuery(PageQuery):
    include: list[Include] = Field(default=[])


R = TypeVar("R", bound=Wire)


class Conversations:
    def __init__(self, config: ServerConfig, store: Store, compactions: Compactions) -> None:
        self._config = config
        self._store = store
        self._compactions = compactions

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/v1/conversations")
        router.post("")(self.create)
        router.get("/{id}")(self.retrieve)
        router.post("/{id}")(self.update)
        router.delete("/{id}")(self.delete)
        router.post("/{id}/items")(self.add)
        router.get("/{id}/items")(self.items)
        router.get("/{id}/items/{item_id}")(self.item)
        router.delete("/{id}/items/{item_id}")(self.delete_item)
        return router

    async def create(self, http: Request) -> Response:
        request = await self._read(http, CreateRequest)
        items = await self._resources(request.items or (), http.state.project)
        made = StoredObject(
            kind=CONVERSATION,
            id=f"conv_{secrets.token_hex(24)}",
            project=http.state.project,
            created_at=int(time.time()),
            body={},
            metadata=request.metadata or {},
        )
        await self._store.put(made, [Held(item["id"], item) for item in items])
        return JSONResponse(_body(made))

    async def retrieve(self, http: Request, id: str) -> Response:
        return JSONResponse(_body(await self._find(http, id)))

    async def update(self, http: Request, id: str) -> Response:
        request = await self._read(http, UpdateRequest)
        metadata = request.metadata or {}
        changed = await self._store.update(
            CONVERSATION, id, http.state.project, lambda old: replace(old, metadata=metadata)
        )
        if changed is None:
            raise not_found("Conversation", id)
        return JSONResponse(_body(changed))

    async def delete(self, http: Request, id: str) -> Response:
        if not await self._store.delete(CONVERSATION, id, http.state.project):
            raise not_found("Conversation", id)
        return JSONResponse({"id": id, "object": "conversation.deleted", "deleted": True})

    async def add(self, http: Request, id: str) -> Response:
        read_query(http, ItemQuery)
        items = await self._resources((await self._read(http, ItemsRequest)).items, http.state.project)
        try:
            is_there = await self._store.append(
                CONVERSATION, id, http.state.project, [Held(item["id"], item) for item in items]
            )
        except ValueError:
            raise invalid("An item of this id is in the conversation already.", "items") from None
        if not is_there:
            raise not_found("Conversation", id)
        return JSONResponse(list_body(items, has_more=False))

    async def items(self, http: Request, id: str) -> Response:
        query = read_query(http, ItemsQuery)
        page = await page_found(
            self._store.items(
                CONVERSATION, id, http.state.project, after=query.after, limit=query.limit, order=query.order
            )
        )
        if page is None:
            raise not_found("Conversation", id)
        return JSONResponse(page_body(page))

    async def item(self, http: Request, id: str, item_id: str) -> Response:
        read_query(http, ItemQuery)
        found = await self._store.item(CONVERSATION, id, http.state.project, item_id)
        if found is None:
            raise not_found("Item", item_id)
        return JSONResponse(dict(found.body))

    async def delete_item(self, http: Request, id: str, item_id: str) -> Response:
        """The conversation without the item."""
        conversation = await self._find(http, id)
        if not await self._store.delete_item(CONVERSATION, id, http.state.project, item_id):
            raise not_found("Item", item_id)
        return JSONResponse(_body(conversation))

    async def _find(self, http: Request, id: str) -> StoredObject:
        found = await self._store.get(CONVERSATION, id, http.state.project)
        if found is None:
            raise not_found("Conversation", id)
        return found

    async def _read(self, http: Request, model: type[R]) -> R:
        return validated(model, await read_json(http, self._config))

    async def _resources(self, items: Sequence[Item], project: str) -> list[Json]:
        for index, item in enumerate(items):
            if isinstance(item, ItemReference):
                raise invalid("A conversation holds items, not references to them.", f"items[{index}].type")
        located = [Placed(f"items[{index}]", item) for index, item in enumerate(items)]
        await self._compactions.expand(located, project)  # so that none is kept that will be refused later
        return distinct([resource(item) for item in items])


def _body(conversation: StoredObject) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": dict(conversation.metadata),
    }
