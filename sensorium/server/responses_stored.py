"""What was asked before: GET, DELETE, cancel and the input items of responses under /v1/responses/{id}."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from sensorium.server.errors import invalid
from sensorium.server.hangup import EventStream
from sensorium.server.listing import PageQuery, page_of
from sensorium.server.query import Query, read_query
from sensorium.server.responses_background import Background
from sensorium.server.responses_kept import UNDER_WAY, Kept
from sensorium.server.responses_messages import Json
from sensorium.server.responses_reply import server_sent
from sensorium.server.responses_request import Include


class ResponseQuery(Query):
    include: list[Include] = Field(default=[])  # as of a request: what there is of it is there anyway
    stream: bool = False
    starting_after: Annotated[int, Field(ge=0)] | None = None
    include_obfuscation: bool | None = None  # the events are as they were made


class ItemsQuery(PageQuery):
    include: list[Include] = Field(default=[])


class StoredResponses:
    def __init__(self, background: Background, kept: Callable[[str], Kept]) -> None:
        self._background = background
        self._kept = kept

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/v1/responses")
        router.get("/{id}")(self.retrieve)
        router.delete("/{id}")(self.delete)
        router.post("/{id}/cancel")(self.cancel)
        router.get("/{id}/input_items")(self.input_items)
        return router

    async def retrieve(self, http: Request, id: str) -> Response:
        query = read_query(http, ResponseQuery)
        body = await self._current(http.state.project, id)
        if query.stream:
            after = -1 if query.starting_after is None else query.starting_after
            return EventStream(b"", await self._events(http.state.project, body, after))
        if query.starting_after is not None:
            raise invalid("'starting_after' is only allowed when 'stream' is true.", "starting_after")
        return JSONResponse(body)

    async def delete(self, http: Request, id: str) -> Response:
        await self._background.cancel(http.state.project, id)
        await self._kept(http.state.project).delete_response(id)
        return JSONResponse({"id": id, "object": "response", "deleted": True})

    async def cancel(self, http: Request, id: str) -> Response:
        body = await self._current(http.state.project, id)
        if not body["background"]:
            raise invalid("Only responses made in the background can be cancelled.", None)
        if self._background.find(http.state.project, id):
            await self._background.cancel(http.state.project, id)
        elif body["status"] in UNDER_WAY:
            await self._kept(http.state.project).cancel(id)
        return JSONResponse(await self._current(http.state.project, id))

    async def input_items(self, http: Request, id: str) -> Response:
        query = read_query(http, ItemsQuery)
        kept = self._kept(http.state.project)
        return JSONResponse(page_of(await kept.input_items(await kept.response(id)), query))

    async def _current(self, project: str, id: str) -> Json:
        body = await self._kept(project).response(id)
        running = self._background.find(project, id)
        if running is None or body["status"] not in UNDER_WAY:
            return body
        # how it ended counts once that is written down
        return {**body, "status": "in_progress"} if running.writer.is_over else running.writer.body

    async def _events(self, project: str, body: Json, after: int) -> AsyncGenerator[bytes, None]:
        if running := self._background.find(project, body["id"]):
            return running.follow(after)
        if body["status"] in UNDER_WAY:
            raise invalid("This response is made by another server: it can be streamed when it is over.", "stream")
        events = await self._kept(project).events(body, after)
        if events is None:
            raise invalid("Only responses made in the background can be streamed later.", "stream")
        return _replayed(events)


async def _replayed(events: Sequence[Json]) -> AsyncGenerator[bytes, None]:
    for event in events:
        yield server_sent(event)
