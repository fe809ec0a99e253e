"""Bytes by key: what is too large for the database, such as files and kept sound. A folder, memory, or S3 by URL.

A key is made of ids: `files/file-abc`. What `put` has written is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

IN_MEMORY = "memory:///"

_KEY = re.compile(r"[\w-]{1,200}(/[\w-]{1,200})*", re.ASCII)


class ObjectStorage:
    def __init__(self, store: obstore.store.ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, location: Path | str = IN_MEMORY) -> ObjectStorage:
        """`location` is a folder, which is made if need be, `memory:///`, or `s3://bucket/prefix`, whose credentials
        come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL` and so on).

        Raises ValueError for a URL that is none of these.
        """
        if isinstance(location, Path):
            location.mkdir(parents=True, exist_ok=True, mode=0o700)
            return cls(LocalStore(location), location)
        if location == IN_MEMORY:
            return cls(MemoryStore())
        if not location.startswith("s3://"):
            raise ValueError("objects must be a folder or a URL such as s3://BUCKET/PREFIX")
        try:
            return cls(from_url(location))
        except BaseError as error:
            raise ValueError(f"{location} can't be used: {error}") from None

    async def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Written over what was there. Once it returns, the bytes are on the disk, or with S3. Of a file, no more than
        a few pieces are in memory at once."""
        assert _KEY.fullmatch(key), key
        await obstore.put_async(self._store, key, data)
        if self._folder is not None:
            await asyncio.to_thread(_sync, self._folder / key)

    async def get(self, key: str) -> bytes | None:
        if not _KEY.fullmatch(key):
            return None
        try:
            result = await obstore.get_async(self._store, key)
            return bytes(await result.bytes_async())
        except FileNotFoundError:
            return None

    async def keys(self, folder: str) -> list[str]:
        """Those that begin with `folder/`."""
        assert _KEY.fullmatch(folder), folder
        listed = await obstore.list(self._store, prefix=folder).collect_async()
        return [entry["path"] for entry in listed]

    async def stream(self, key: str, *, chunk_bytes: int = 2**18) -> AsyncIterator[bytes] | None:
        """The bytes piece by piece, so that a large file never lies in memory whole."""
        if not _KEY.fullmatch(key):
            return None
        try:
            result = await obstore.get_async(self._store, key)
        except FileNotFoundError:
            return None

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in result.stream(min_chunk_size=chunk_bytes):
                yield bytes(piece)

        return pieces()

    async def delete(self, key: str) -> None:
        """Nothing happens if it is not there."""
        if _KEY.fullmatch(key):
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                pass


def _sync(file: Path) -> None:
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
