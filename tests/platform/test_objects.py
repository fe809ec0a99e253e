"""Bytes by key, in memory, in a folder, and with a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from moto.server import ThreadedMotoServer

from sensorium.platform.objects import ObjectStorage

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server with a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx2.put(f"http://{host}:{port}/bucket").raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    return ObjectStorage.open("s3://bucket/prefix")


@pytest.fixture(params=["memory", "folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    if request.param == "s3":
        return request.getfixturevalue("bucket")
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


async def test_a_bucket_holds_keys_below_its_prefix(bucket: ObjectStorage):
    await bucket.put("files/b", b"bytes")
    assert await ObjectStorage.open("s3://bucket").get("prefix/files/b") == b"bytes"


async def test_a_bucket_that_is_not_there_is_an_error(s3: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Exception, match="NoSuchBucket"):
        await ObjectStorage.open("s3://nowhere/prefix").put("files/a", b"bytes")
