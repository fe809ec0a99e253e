"""What a call does beside taking events: tasks that end with it, and that end it where one fails as nobody foresaw.

And where the work is done that would hold up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, NamedTuple

import structlog
from starlette.websockets import WebSocketDisconnect

from sensorium.server.logs import describe
from sensorium.server.media import Decoders

log = structlog.get_logger()


class Threads(NamedTuple):
    """Of all calls together."""

    decoders: Decoders
    listening: Executor


class Tasks:
    """`begin` when somebody is on line, `close` when nobody is any more."""

    def __init__(self) -> None:
        self._if_one_fails: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, *, if_one_fails: Callable[[], None]) -> None:
        self._if_one_fails = if_one_fails

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        self._if_one_fails = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, WebSocketDisconnect):  # nobody is left to tell
            return
        log.error("realtime call failed", **describe(error))
        if self._if_one_fails is not None:
            self._if_one_fails()


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """For what may not be half done: if who waits for it is cancelled meanwhile, that comes behind its end."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
