"""Bytes by key, in memory and in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorium.platform.objects import ObjectStorage


@pytest.fixture(params=["memory", "folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    return ObjectStorage.open() if request.param == "memory" else ObjectStorage.open(tmp_path / "objects")


async def test_bytes_come_back(storage: ObjectStorage):
    data = bytes(range(256)) * 5000
    await storage.put("files/file-abc", data)
    assert await storage.get("files/file-abc") == data
    pieces = await storage.stream("files/file-abc", chunk_bytes=100_000)
    assert pieces is not None
    assert b"".join([piece async for piece in pieces]) == data
    await storage.put("files/file-abc", b"")
    assert await storage.get("files/file-abc") == b""
    await storage.delete("files/file-abc")
    await storage.delete("files/file-abc")
    assert await storage.get("files/file-abc") is None
    assert await storage.stream("files/file-abc") is None


async def test_the_keys_of_a_folder(storage: ObjectStorage):
    assert await storage.keys("pictures") == []
    for key in ("pictures/a", "pictures/b", "picturesque/c", "files/d"):
        await storage.put(key, b"x")
    assert sorted(await storage.keys("pictures")) == ["pictures/a", "pictures/b"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../secret", "files/../../x", "a//b", "a/", ".", "a b", "é", "a\n"])
async def test_a_key_that_is_no_key_finds_nothing(key: str, storage: ObjectStorage):
    assert await storage.get(key) is None
    assert await storage.stream(key) is None
    await storage.delete(key)


async def test_a_folder_outlives_its_owner(tmp_path: Path):
    await ObjectStorage.open(tmp_path / "objects").put("files/a", b"bytes")
    assert await ObjectStorage.open(tmp_path / "objects").get("files/a") == b"bytes"
    assert (tmp_path / "objects").stat().st_mode & 0o777 == 0o700


def test_a_url_of_another_kind_is_refused():
    for url in ("http://example.com/x", "file:///etc", "s3:/bucket", "nonsense"):
        with pytest.raises(ValueError, match="s3://"):
            ObjectStorage.open(url)
    ObjectStorage.open("s3://bucket/prefix")  # nothing is connected until it is used
