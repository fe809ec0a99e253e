"""A client that hangs up must not keep the machine busy: its request is cancelled, streamed or not.

Nor must one that stays and no longer reads: it has a while, and is then taken for gone.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from types import MappingProxyType
from typing import Protocol

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SYSTEM_WAITS = 2  # times as long as the server


async def run_until_hangup(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, send_timeout_s: float) -> bool:
    """Runs an ASGI app; cancels it when the client goes before the answer is complete. Returns whether it went.

    Raises ClientDisconnect when the client leaves what it was sent unread for `send_timeout_s`: all buffers on the way
    are full by then, and `send` would wait for as long as the connection stands.

    Once the app has read the whole body, `receive` has nothing to say but that the client is gone: that we listen for.
    """
    gone = asyncio.Event()
    answered = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        if not answered:
            work.cancel()

    async def receive_body() -> Message:
        nonlocal watcher
        if watcher is not None:
            await gone.wait()
            return {"type": "http.disconnect"}
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
        elif not message.get("more_body", False):
            watcher = asyncio.create_task(watch())
        return message

    async def send_answer(message: Message) -> None:
        nonlocal answered
        with patience.sending():
            await send(message)
        answered = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def answer() -> None:
        await app(scope, receive_body, send_answer)

    work = asyncio.create_task(answer())
    patience = _Patience(send_timeout_s, work)
    try:
        await work
    except asyncio.CancelledError:
        if patience.is_over:
            raise ClientDisconnect from None
        if not gone.is_set():
            raise  # it is we who are being stopped
    finally:
        patience.close()
        if watcher is not None:
            watcher.cancel()
    return gone.is_set() and not answered


class _Patience:
    """Cancels `work` once its client has left one message unread for `timeout_s`. One timer looks after all messages of
    a request: one for each would cost as much as all the rest of sending it."""

    def __init__(self, timeout_s: float, work: asyncio.Task[None]) -> None:
        self.is_over = False
        self._timeout_s = timeout_s
        self._work = work
        self._since_s: float | None = None  # that a message is on its way
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_s, self._look)

    @contextmanager
    def sending(self) -> Iterator[None]:
        self._since_s = self._loop.time()
        try:
            yield
        finally:
            self._since_s = None

    def close(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now_s = self._loop.time()
        due_s = (now_s if self._since_s is None else self._since_s) + self._timeout_s
        if due_s <= now_s:
            self.is_over = True
            self._work.cancel()
        else:
            self._timer = self._loop.call_at(due_s, self._look)


class Listener(Protocol):
    """A listening socket, in the form in which either event loop shows its own."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def drop_unread(listener: Listener, timeout_s: float) -> None:
    """Makes the system too drop connections whose client leaves what it was sent unread, which only Linux can.

    A connection that the server closes stands until its client has taken the rest: for ever, if it reads no more, and
    the server could not stop. So this must hold below the server. The system waits for longer than the server's
    `timeout_s`: a call that ends for this reason says so, and its client has as long again to read that.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_SYSTEM_WAITS * 1000 * timeout_s))


class EventStream(StreamingResponse):
    """Server-sent events, or bytes of another kind: `first`, then `rest`, which is closed however this ends: that stops
    the engine."""

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        *,
        media_type: str = "text/event-stream",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._events = _chain(first, rest)
        super().__init__(self._events, media_type=media_type, headers={"cache-control": "no-cache", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await self.stream_response(send)


async def _chain(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event
