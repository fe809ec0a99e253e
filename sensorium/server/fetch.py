"""Fetching a picture or a film that a request names by URL, without becoming a way into the operator's network.

The name is resolved here, every address it has must be public, and the connection goes to the very address that
was checked: a second lookup could give a different answer. Each redirect is checked in the same way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from functools import cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

import h11

MAX_REDIRECTS = 3
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_READ_BYTES = 2**16

# Only here are IPv6 addresses of the internet given out. What lies outside is local (fec0::/10 too, which Python takes
# for global) or wraps an IPv4 address: mapped (::ffff:0:0/96), translated (64:ff9b::/96 and 64:ff9b:1::/48), ...
_INTERNET_V6 = ipaddress.ip_network("2000::/3")
# Python calls these global, all or in part, and yet they lead to somewhere near.
_NOT_INTERNET = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocols between a machine and its network: .9 and .10 are answered by the nearest router
        "192.88.99.0/24",  # the nearest 6to4 relay
        "168.63.129.16/32",  # Azure's host, from within each of its machines
        "2001::/23",  # protocols again; Teredo, which wraps an IPv4 address
        "2002::/16",  # 6to4, which wraps one too
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)  # before an IPv4 address in the lower half of an IPv6 one: a tunnel to it


class FetchError(ValueError):
    """The URL cannot be had. The message is meant for the client and says nothing about our network."""


class TooLarge(FetchError):
    """The body behind the URL is larger than allowed."""


class _Target(NamedTuple):
    scheme: str
    host: str
    port: int
    resource: str  # path and query

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class _Response(NamedTuple):
    status: int
    location: str | None
    body: bytes


async def fetch(
    url: str, *, max_bytes: int, timeout_s: float, allow_private: bool = False, accept: str = "image/*"
) -> bytes:
    """The body behind an http(s) URL, as bytes: what they are is for the caller to find out.

    `timeout_s` covers all of it: name lookup, redirects, headers and body. Raises FetchError.
    """
    base = ""
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(MAX_REDIRECTS + 1):
                target = _parse(url, base=base)
                address = await _resolve(target, allow_private=allow_private)
                response = await _get(target, address, max_bytes, accept)
                if response.status == 200:
                    return response.body
                if response.status not in _REDIRECT_STATUS or not response.location:
                    raise FetchError(f"the server behind the URL answered {response.status}")
                base, url = urljoin(base, url), response.location
    except TimeoutError:
        raise FetchError(f"the URL took longer than {timeout_s:g} s") from None
    except (OSError, h11.ProtocolError):
        raise FetchError("the server behind the URL cannot be reached") from None
    raise FetchError(f"the URL redirects more than {MAX_REDIRECTS} times")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet. IPv6 forms that wrap an IPv4 address are not."""
    ip = ipaddress.ip_address(address)
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if any(ip in network for network in _NOT_INTERNET):
        return False
    return ip.version == 4 or (ip in _INTERNET_V6 and (int(ip) >> 32) & 0xFFFF_FFFF not in _ISATAP)


def _parse(url: str, *, base: str) -> _Target:
    try:
        parts = urlsplit(urljoin(base, url))
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        raise FetchError("the URL is malformed") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise FetchError("only http and https URLs are fetched")
    if not host:
        raise FetchError("the URL names no host")
    if parts.username is not None or parts.password is not None:
        raise FetchError("the URL holds a user name or password")
    resource = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        resource += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return _Target(parts.scheme, host, port, resource)


async def _resolve(target: _Target, *, allow_private: bool) -> str:
    """An address of the host. All of them must be public: which one a client would take is up to chance."""
    # one message for both cases, or a stranger could learn which names exist inside the network
    refusal = FetchError("the host of the URL has no public address")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise refusal from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not (allow_private or all(is_public(address) for address in addresses)):
        raise refusal
    return addresses[0]


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads the system's certificates, tens of milliseconds


async def _get(target: _Target, address: str, max_bytes: int, accept: str) -> _Response:
    context = _tls() if target.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        address, target.port, ssl=context, server_hostname=target.host if context else None
    )
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [
            ("Host", target.host_header),
            ("User-Agent", "sensorium"),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        writer.write(connection.send(h11.Request(method="GET", target=target.resource, headers=headers)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        return await _read(connection, reader, max_bytes)
    finally:
        writer.transport.abort()


async def _read(connection: h11.Connection, reader: asyncio.StreamReader, max_bytes: int) -> _Response:
    status, location, body = 0, None, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event.headers}
            location = headers.get("location")
            if status != 200:
                return _Response(status, location, b"")
            if int(headers.get("content-length", "0")) > max_bytes:
                raise TooLarge(f"the file behind the URL is larger than {max_bytes} bytes")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_bytes:
                raise TooLarge(f"the file behind the URL is larger than {max_bytes} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return _Response(status, location, bytes(body))
        elif isinstance(event, h11.ConnectionClosed):
            raise FetchError("the server behind the URL cannot be reached")
