"""Reading a request's body: bounded in bytes and time before any of it is looked at."""

from __future__ import annotations

import asyncio
from typing import Any

import pydantic_core
from fastapi import Request

from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError

_QUICK_BYTES = 2**18  # parsed in about a millisecond; larger bodies go to a thread, so that no other client waits


async def read_json(request: Request, config: ServerConfig) -> Any:
    """The body as plain values. Raises APIError for one that is too large, too slow, or not JSON."""
    # a page of another origin can post text/plain without asking the browser first, but not JSON
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        message = "The body must be JSON: send the header 'Content-Type: application/json'."
        raise APIError(message, status=415, code="unsupported_content_type")
    body = await _read(request, config)
    try:
        if len(body) <= _QUICK_BYTES:
            return pydantic_core.from_json(body, allow_inf_nan=False)
        return await asyncio.to_thread(pydantic_core.from_json, body, allow_inf_nan=False)
    except ValueError:
        raise APIError("The body of the request is not valid JSON.", code="invalid_json") from None


async def _read(request: Request, config: ServerConfig) -> bytes:
    too_large = APIError(
        f"The body of the request is larger than {config.max_body_bytes} bytes.",
        status=413,
        code="request_too_large",
        headers={"connection": "close"},  # what is still on its way is not worth reading
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > config.max_body_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(config.body_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > config.max_body_bytes:
                    raise too_large
    except TimeoutError:
        raise APIError("The body of the request took too long to arrive.", status=408) from None
    return bytes(body)
