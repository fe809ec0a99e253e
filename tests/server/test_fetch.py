from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sensorium.messages import Image
from sensorium.server import fetch as fetching
from sensorium.server.fetch import FetchError, TooLarge, fetch, is_public
from tests.server.live import Live, live
from tests.server.samples import image_part, picture


@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], object]) -> Iterator[str]:
    """A web server on this machine. Gives its URL, which ends in no slash."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address) -> None: ...  # clients hang up on purpose here

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def reply(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


async def get(url: str, **options) -> bytes:
    return await fetch(url, **{"max_bytes": 1000, "timeout_s": 5.0, "allow_private": True, **options})


async def refused(url: str, **options) -> str:
    with pytest.raises(FetchError) as caught:
        await get(url, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fec0::1",
        "feff::1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::a00:1",
        "2002:808:808::1",
        "2001:1::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "100::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
        "192.0.0.9",
        "192.0.0.192",
        "192.88.99.1",
        "168.63.129.16",
        "198.18.0.1",
        "100.100.100.200",
        "fd00:ec2::254",
    ],
)
def test_addresses_of_networks_and_wrapped_ones_are_not_public(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_addresses_of_the_internet_are_public(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "0", "[::ffff:127.0.0.1]", "169.254.169.254"],
)
async def test_private_hosts_are_refused_however_they_are_written(host: str):
    assert await refused(f"http://{host}:9/", allow_private=False) == "the host of the URL has no public address"


async def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    assert "no public address" in await refused("http://example.com/", allow_private=False)


async def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch):
    """A name server that answers differently the second time gets no second question."""
    lookups = resolve_to(monkeypatch, ["93.184.216.34"])
    dialled = []

    async def connect(host: str, port: int, **options) -> None:
        dialled.append((host, port))
        raise OSError

    monkeypatch.setattr(asyncio, "open_connection", connect)
    await refused("http://rebinding.example/", allow_private=False)
    assert (dialled, lookups) == ([("93.184.216.34", 80)], ["rebinding.example"])


async def test_an_unknown_name_reads_like_a_private_one(monkeypatch: pytest.MonkeyPatch):
    resolve_to(monkeypatch, [])
    assert "no public address" in await refused("http://intranet.example/", allow_private=False)


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> list[str]:
    """Makes every name resolve to these addresses. Gives the names that are asked for."""
    lookups: list[str] = []

    def getaddrinfo(host: str, port: int, *args: object, **options: object) -> list[tuple]:
        lookups.append(host)
        if not addresses:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return lookups


async def test_bodies_and_redirects():
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/start?a=b%20c":
            reply(handler, b"", 302, {"Location": "../sub/picture.png"})
        else:
            reply(handler, f"{handler.path} {handler.headers['Host']}".encode())

    with web(answer) as url:
        assert await get(f"{url}/start?a=b c") == f"/sub/picture.png {url[7:]}".encode()


async def test_a_redirect_is_checked_like_the_first_url(monkeypatch: pytest.MonkeyPatch):
    """The first host passes as public; the one it points to is this machine and does not."""
    with web(lambda handler: reply(handler, b"", 302, {"Location": "http://localhost:9/secret"})) as url:
        monkeypatch.setattr(fetching, "is_public", lambda address: len(checked) == 1)
        checked: list[str] = []
        original = fetching._resolve

        async def resolve(target, *, allow_private: bool) -> str:
            checked.append(target.host)
            return await original(target, allow_private=allow_private)

        monkeypatch.setattr(fetching, "_resolve", resolve)
        assert "no public address" in await refused(url, allow_private=False)
        assert checked == ["127.0.0.1", "localhost"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "//user:key@host/", "http://[bad", "/again"])
async def test_bad_redirects_are_refused(location: str):
    with web(lambda handler: reply(handler, b"", 301, {"Location": location})) as url:
        await refused(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://",
        "http://a:b@host/",
        "http://host:99999/",
        "x",
        "",
        "http://\u2024/",
    ],
)
async def test_bad_urls_are_refused(url: str):
    await refused(url)


async def test_large_bodies_are_refused_announced_or_not():
    with web(lambda handler: reply(handler, b"x" * 1001)) as url:
        with pytest.raises(TooLarge):
            await get(url)

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"100\r\n" + b"x" * 256 + b"\r\n")

    with web(endless) as url:
        with pytest.raises(TooLarge):
            await get(url)


async def test_slow_and_broken_servers_are_given_up():
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        while not stop.wait(0.02):
            handler.wfile.write(b"H")

    with web(drip) as url:
        assert "longer than 0.2 s" in await refused(url, timeout_s=0.2)
        stop.set()
    with web(lambda handler: reply(handler, b"no", 404)) as url:
        assert "answered 404" in await refused(url)
    with web(lambda handler: handler.wfile.write(b"not http at all\r\n\r\n")) as url:
        assert "cannot be reached" in await refused(url)
    with web(lambda handler: reply(handler, b"short", 200, {"Content-Length": "50", "Connection": "close"})) as url:
        assert "cannot be reached" in await refused(url, timeout_s=1)
    assert "cannot be reached" in await refused(url)  # nobody listens any more


def test_a_picture_by_url_is_seen_only_when_private_addresses_are_allowed(server: Live):
    with web(lambda handler: reply(handler, picture(), 200, {"Content-Type": "text/html"})) as url:  # the bytes decide
        where = "messages[0].content[0].image_url"
        assert server.refusal([image_part(f"{url}/secret.png")]) == (where, "invalid_image_url")
        with live(allow_private_urls=True, max_image_bytes=300) as open_server:
            assert open_server.chat([image_part(f"{url}/a.png")]).status_code == 200
            (seen,) = open_server.engine.requests[-1].messages[0].parts
            assert isinstance(seen, Image)
            assert seen.pixels.shape == (6, 8, 3)
            with web(lambda handler: reply(handler, bytes(301))) as large:
                assert open_server.refusal([image_part(large)]) == (where, "image_file_too_large")
            with web(lambda handler: reply(handler, b"<html>")) as page:
                assert open_server.refusal([image_part(page)]) == (where, "invalid_image_format")
