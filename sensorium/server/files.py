"""/v1/files: what clients leave here to refer to by id. Bytes lie in the object storage, the rest in the store."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from sensorium.platform.objects import ObjectStorage
from sensorium.platform.store import Store, StoredObject
from sensorium.server.body import OpenUpload, read_form, take_file
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, validated
from sensorium.server.listing import Json, PageQuery, not_found, page_body, page_found
from sensorium.server.query import read_query
from sensorium.server.wire import Wire

_KIND = "file"
_MOST_LISTED = 10_000
_PATH = re.compile(r".*[/\\]", re.DOTALL)

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]


class KeptFile(NamedTuple):
    filename: str
    data: bytes


FileReader = Callable[[str], Awaitable[KeptFile | None]]  # by id, of one project


class ExpiresAfter(Wire):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=30 * 86_400, strict=False)]  # a form holds texts


class FileRequest(Wire):
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class FilesQuery(PageQuery):
    limit: Annotated[int, Field(ge=1, le=_MOST_LISTED)] = _MOST_LISTED
    purpose: Purpose | None = None


class Files:
    def __init__(self, config: ServerConfig, store: Store, objects: ObjectStorage) -> None:
        self._config = config
        self._store = store
        self._objects = objects
        store.when_dropped(_KIND, lambda id: objects.delete(_key(id)))

    def routes(self) -> APIRouter:
        router = APIRouter(prefix="/v1/files")
        router.post("")(self.create)
        router.get("")(self.list)
        router.get("/{id}")(self.retrieve)
        router.delete("/{id}")(self.delete)
        router.get("/{id}/content")(self.content)
        return router

    def reader(self, project: str) -> FileReader:
        async def read(id: str) -> KeptFile | None:
            found = await self._store.get(_KIND, id, project)
            data = await self._objects.get(_key(id)) if found else None
            return KeptFile(found.body["filename"], data) if found and data is not None else None

        return read

    async def create(self, http: Request) -> Response:
        fields = await read_form(http, self._config, max_bytes=self._config.max_file_bytes, opens={"file"})
        with take_file(fields, OpenUpload) as upload:
            return await self._keep(upload, validated(FileRequest, fields), http.state.project)

    async def _keep(self, upload: OpenUpload, request: FileRequest, project: str) -> Response:
        await self._check_room(project, upload.num_bytes)
        now = int(time.time())
        expires_at = now + request.expires_after.seconds if request.expires_after else None
        id = f"file-{secrets.token_hex(12)}"
        body: Json = {
            "id": id,
            "object": "file",
            "bytes": upload.num_bytes,
            "created_at": now,
        }
        body |= {"filename": _PATH.sub("", upload.filename) or "file", "purpose": request.purpose}
        body |= {"status": "processed"} | ({"expires_at": expires_at} if expires_at else {})
        await self._objects.put(_key(id), upload.file)  # first, so that whatever the store knows is there
        kept = StoredObject(
            kind=_KIND,
            id=id,
            project=project,
            created_at=now,
            body=body,
            metadata={"purpose": request.purpose},
            expires_at=expires_at,
            num_bytes=upload.num_bytes,
        )
        await self._store.put(kept)
        return JSONResponse(body)

    async def list(self, http: Request) -> Response:
        query = read_query(http, FilesQuery)
        page = await page_found(
            self._store.list(
                _KIND,
                http.state.project,
                after=query.after,
                limit=query.limit,
                order=query.order,
                metadata={"purpose": query.purpose} if query.purpose else None,
            )
        )
        return JSONResponse(page_body(page))

    async def retrieve(self, http: Request, id: str) -> Response:
        return JSONResponse(dict((await self._found(http, id)).body))

    async def content(self, http: Request, id: str) -> Response:
        found = await self._found(http, id)
        pieces = await self._objects.stream(_key(id))
        if pieces is None:
            raise not_found("File", id)
        headers = {"content-length": str(found.body["bytes"]), "x-content-type-options": "nosniff"}
        return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)

    async def delete(self, http: Request, id: str) -> Response:
        if not await self._store.delete(_KIND, id, http.state.project):
            raise not_found("File", id)
        await self._objects.delete(_key(id))
        return JSONResponse({"id": id, "object": "file", "deleted": True})

    async def _found(self, http: Request, id: str) -> StoredObject:
        found = await self._store.get(_KIND, id, http.state.project)
        if found is None:
            raise not_found("File", id)
        return found

    async def _check_room(self, project: str, size: int) -> None:
        """Raises APIError if the project's files would be more than it may keep."""
        kept = await self._store.total(_KIND, project)
        if kept.num_bytes + size > self._config.max_project_bytes or kept.num_objects > _MOST_LISTED:
            most = f"{self._config.max_project_bytes} bytes in {_MOST_LISTED} files"
            message = f"A project may keep {most}: delete some."
            raise APIError(message, status=413, param="file", code="storage_limit_exceeded")


def _key(id: str) -> str:
    return f"files/{id}"
