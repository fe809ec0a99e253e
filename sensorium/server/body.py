"""Reading a request's body: bounded in bytes and time before any of it is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Set
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, TypeVar

import pydantic_core
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from sensorium.server.access import check_origin
from sensorium.server.config import ServerConfig
from sensorium.server.errors import APIError, invalid, missing

_FORM_BYTES = 2**20  # of a form besides its files
_QUICK_BYTES = 2**18  # parsed in about a millisecond; larger bodies go to a thread, so that no other client waits


class Upload(NamedTuple):
    """A file in a form."""

    filename: str
    data: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenUpload:
    """The same where it lies: beyond a megabyte, on the disk. To be used as a context, or closed."""

    filename: str
    file: BinaryIO
    num_bytes: int

    def __enter__(self) -> OpenUpload:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


U = TypeVar("U", Upload, OpenUpload)

_JSON_KINDS = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


async def read_json(request: Request, config: ServerConfig) -> dict[str, Any]:
    """The body's fields as plain values. Raises APIError for one that is too large, too slow, or no JSON object."""
    # a page of another origin can post text/plain without asking the browser first, but not JSON
    _check_media_type(request, "application/json", "JSON")
    body = b"".join([chunk async for chunk in _read(request, config, max_bytes=config.max_body_bytes)])
    try:
        if len(body) <= _QUICK_BYTES:
            fields = pydantic_core.from_json(body, allow_inf_nan=False)
        else:
            fields = await asyncio.to_thread(pydantic_core.from_json, body, allow_inf_nan=False)
    except ValueError:
        raise APIError("The body of the request is not valid JSON.", code="invalid_json") from None
    if not isinstance(fields, dict):
        message = f"The body of the request must be a JSON object, such as {{}}, and not {_JSON_KINDS[type(fields)]}."
        raise APIError(message, code="invalid_type")
    return fields


async def read_form(
    request: Request,
    config: ServerConfig,
    *,
    max_bytes: int,
    max_text_bytes: int = _FORM_BYTES,
    max_files: int = 16,
    opens: Set[str] = frozenset(),
    lists: Set[str] = frozenset(),
) -> dict[str, Any]:
    """The fields of a multipart form, texts and `Upload`s; of the official clients' `a[b]` becomes a mapping, of `a[]`,
    which may be there several times, a list; those in `lists` may be without their brackets too.

    `max_bytes` are for its files, `max_text_bytes` for all else. Files of fields in `opens` are `OpenUpload`s, for the
    caller to close. Raises APIError for a form that is too large or too slow, that a foreign page sends, and for what
    is no form.
    """
    check_origin(request.headers.get("origin"), config)  # a page may send a form without asking the browser first
    _check_media_type(request, "multipart/form-data", "a form")
    sent = _read(request, config, max_bytes=max_bytes + max_text_bytes)
    bounds = {"max_files": max_files, "max_fields": 64, "max_part_size": max_text_bytes}
    parser = MultiPartParser(request.headers, sent, **bounds)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, KeyError) as error:
        message = error.message if isinstance(error, MultiPartException) else "it is malformed"
        raise APIError(f"The body of the request is not a valid form: {message}.", code="invalid_form") from None
    fields: dict[str, Any] = {}
    try:
        if sum(value.size or 0 for _, value in form.multi_items() if isinstance(value, UploadFile)) > max_bytes:
            raise _too_large(max_bytes)
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in opens:
                value = OpenUpload(filename=value.filename or "", file=value.file, num_bytes=value.size or 0)
            elif isinstance(value, UploadFile):
                whole = await value.read()
                await value.close()
                value = Upload(value.filename or "", whole)
            _put(fields, f"{name}[]" if name in lists else name, value)
    except BaseException:
        await form.close()
        raise
    return fields


def take_file(fields: dict[str, Any], kind: type[U]) -> U:
    """Takes the file of a form that must have one, `file`, out of its fields. Raises APIError without."""
    upload = fields.pop("file", None)
    if not isinstance(upload, kind):
        raise missing("file")
    return upload


def _check_media_type(request: Request, expected: str, what: str) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != expected:
        message = f"The body must be {what}: send the header 'Content-Type: {expected}'."
        raise APIError(message, status=415, code="unsupported_content_type")


def _put(fields: dict[str, Any], name: str, value: str | Upload | OpenUpload) -> None:
    if name.endswith("[]"):
        listed = fields.setdefault(name.removesuffix("[]"), [])
        if not isinstance(listed, list):
            raise invalid(f"'{name[:100]}' is there twice.", name[:100])
        listed.append(value)
        return
    outer, bracket, inner = name.partition("[")
    place, key = (fields.setdefault(outer, {}), inner.removesuffix("]")) if bracket else (fields, name)
    if not isinstance(place, dict) or key in place:
        raise invalid(f"'{name[:100]}' is there twice.", name[:100])
    place[key] = value


async def _read(request: Request, config: ServerConfig, *, max_bytes: int) -> AsyncGenerator[bytes, None]:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    size = 0
    try:
        async with asyncio.timeout(config.body_timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                yield chunk
    except TimeoutError:
        raise APIError("The body of the request took too long to arrive.", status=408) from None


def _too_large(max_bytes: int) -> APIError:
    return APIError(
        f"The body of the request is larger than {max_bytes} bytes.",
        status=413,
        code="request_too_large",
        headers={"connection": "close"},  # what is still on its way is not worth reading
    )
