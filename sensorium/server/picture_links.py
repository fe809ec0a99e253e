"""Pictures behind a URL for an hour: whoever has the URL, which can't be guessed, has the picture."""

from __future__ import annotations

import re
import secrets
import time

from fastapi import APIRouter, Request, Response

from sensorium.platform.objects import ObjectStorage
from sensorium.server.errors import APIError
from sensorium.server.picture_out import MEDIA_TYPES, PictureFormat

ROUTE = "/pictures"
LASTS_S = 3600
_SWEEP_EVERY_S = 300.0
_NAME = re.compile(r"([0-9a-f]{8})-[0-9a-f]{48}-(png|webp|jpeg)")


class PictureLinks:
    def __init__(self, objects: ObjectStorage) -> None:
        self._objects = objects
        self._next_sweep_s = 0.0

    def routes(self) -> APIRouter:
        router = APIRouter()
        router.get(f"{ROUTE}/{{name}}")(self.show)
        return router

    async def keep(self, data: bytes, format: PictureFormat, base_url: str) -> str:
        """The URL of a picture, under that of this server."""
        await self._sweep()
        # when it ends is part of the name: any server that shares the storage can tell
        name = f"{int(time.time()) + LASTS_S:08x}-{secrets.token_hex(24)}-{format}"
        await self._objects.put(_key(name), data)
        return f"{base_url.rstrip('/')}{ROUTE}/{name}"

    async def show(self, http: Request, name: str) -> Response:
        match = _NAME.fullmatch(name)
        data = await self._objects.get(_key(name)) if match and int(match[1], 16) > time.time() else None
        if match is None or data is None:
            raise APIError("There is no picture here, or no longer.", status=404)
        format: PictureFormat = match[2]  # pyright: ignore[reportAssignmentType] - one of three, says the pattern
        headers = {"cache-control": f"private, max-age={LASTS_S}"}
        return Response(data, media_type=MEDIA_TYPES[format], headers=headers)

    async def _sweep(self) -> None:
        """Now and then those that have ended are deleted."""
        if time.monotonic() < self._next_sweep_s:
            return
        self._next_sweep_s = time.monotonic() + _SWEEP_EVERY_S
        for key in await self._objects.keys("pictures"):
            match = _NAME.fullmatch(key.removeprefix("pictures/"))
            if match and int(match[1], 16) <= time.time():
                await self._objects.delete(key)


def _key(name: str) -> str:
    return f"pictures/{name}"
