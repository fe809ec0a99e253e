"""What a call does beside taking events: tasks that end with it, and that end it where one fails as nobody foresaw."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from starlette.websockets import WebSocketDisconnect

from sensorium.server.logs import describe

log = structlog.get_logger()


class Tasks:
    """`begin` in the task that takes the events: it is cancelled when another fails, and `is_broken` tells it why."""

    def __init__(self) -> None:
        self.is_broken = False
        self._line: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        self._line = asyncio.current_task()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        self._line = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, WebSocketDisconnect | TimeoutError):  # nobody is left to tell
            return
        log.error("realtime call failed", **describe(error))
        self.is_broken = True
        if self._line is not None:
            self._line.cancel()
