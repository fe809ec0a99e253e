"""Chat completions that are kept (`store: true`): listed, read, labelled anew, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sensorium.engine.request import EngineInfo
from sensorium.platform.store import Item, Store, StoredObject
from sensorium.server.body import read_json
from sensorium.server.config import ServerConfig
from sensorium.server.errors import validated
from sensorium.server.listing import CompletionsQuery, Json, PageQuery, not_found, page_body, page_found
from sensorium.server.query import read_query
from sensorium.server.wire import Metadata, Wire

_KIND = "chat.completion"


class MessagesQuery(PageQuery):
    order: Literal["asc", "desc"] = "asc"


class UpdateRequest(Wire):
    metadata: Metadata | None


async def keep_completion(
    store: Store, project: str, completion: Json, said: Sequence[Mapping[str, Any]], metadata: Mapping[str, str] | None
) -> None:
    """Writes down a completion and the messages that it answers, as they came."""
    id = completion["id"]
    body = {**completion, "metadata": dict(metadata or {})}
    messages = [Item(f"{id}-{index}", _message(message, f"{id}-{index}")) for index, message in enumerate(said)]
    kept = StoredObject(
        kind=_KIND,
        id=id,
        project=project,
        created_at=completion["created"],
        body=body,
        metadata=metadata or {},
        model=completion["model"],
    )
    await store.put(kept, messages)


def _message(message: Mapping[str, Any], id: str) -> Json:
    """A list of parts stands in `content_parts`, where `content` then is null."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {**message, "id": id, "content": None if parts else content, "content_parts": parts}


class StoredCompletions:
    def __init__(self, info: EngineInfo, config: ServerConfig, store: Store) -> None:
        self._info = info
        self._config = config
        self._store = store

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/v1/chat/completions")
        router.get("")(self.list)
        router.get("/{id}")(self.retrieve)
        router.post("/{id}")(self.update)
        router.delete("/{id}")(self.delete)
        router.get("/{id}/messages")(self.messages)
        return router

    async def list(self, http: Request) -> Response:
        query = read_query(http, CompletionsQuery)
        model = self._info.model if query.model in self._config.model_aliases else query.model
        page = await page_found(
            self._store.list(
                _KIND,
                http.state.project,
                after=query.after,
                limit=query.limit,
                order=query.order,
                model=model,
                metadata=query.metadata,
            )
        )
        return JSONResponse(page_body(page))

    async def retrieve(self, http: Request, id: str) -> Response:
        found = await self._store.get(_KIND, id, http.state.project)
        if found is None:
            raise not_found("Completion", id)
        return JSONResponse(dict(found.body))

    async def update(self, http: Request, id: str) -> Response:
        request = validated(UpdateRequest, await read_json(http, self._config))
        metadata = request.metadata or {}

        def relabel(old: StoredObject) -> StoredObject:
            return replace(old, metadata=metadata, body={**old.body, "metadata": metadata})

        changed = await self._store.update(_KIND, id, http.state.project, relabel)
        if changed is None:
            raise not_found("Completion", id)
        return JSONResponse(dict(changed.body))

    async def delete(self, http: Request, id: str) -> Response:
        if not await self._store.delete(_KIND, id, http.state.project):
            raise not_found("Completion", id)
        return JSONResponse({"object": "chat.completion.deleted", "id": id, "deleted": True})

    async def messages(self, http: Request, id: str) -> Response:
        query = read_query(http, MessagesQuery)
        page = await page_found(
            self._store.items(_KIND, id, http.state.project, after=query.after, limit=query.limit, order=query.order)
        )
        if page is None:
            raise not_found("Completion", id)
        return JSONResponse(page_body(page))
