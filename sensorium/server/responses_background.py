"""Responses that are made while nobody waits: their events are kept as they come, for whoever asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog

from sensorium.server.errors import APIError
from sensorium.server.logs import describe
from sensorium.server.responses_messages import Json
from sensorium.server.responses_reply import ResponseWriter, server_sent

log = structlog.get_logger()

Keep = Callable[[Sequence[Json]], Awaitable[None]]  # writes the response and its events where they last


class Running:
    """A response under way. `events` only grows; `follow` gives them as they come."""

    def __init__(self, writer: ResponseWriter, events: Sequence[Json]) -> None:
        self.writer = writer
        self.events = list(events)
        self.is_done = False
        self.is_unwanted = False
        self._changed = asyncio.Event()

    def add(self, events: Sequence[Json]) -> None:
        self.events += events
        self._tell()

    def end(self) -> None:
        self.is_done = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """The events behind number `after`, until there are no more. Who stops reading stops nothing else."""
        at = after + 1
        while True:
            changed = self._changed
            for event in self.events[at:]:
                yield server_sent(event)
                at += 1
            if self.is_done and at >= len(self.events):
                return
            if at >= len(self.events):
                await changed.wait()


class Background:
    def __init__(self, *, max_running: int) -> None:
        self._max_running = max_running
        self._running: dict[tuple[str, str], tuple[Running, asyncio.Task[None]]] = {}

    def check_room(self) -> None:
        if len(self._running) >= self._max_running:
            message = "The server is busy. Please try again."
            raise APIError(message, status=503, type="server_error", headers={"retry-after": "1"})

    def start(self, project: str, running: Running, answer: AsyncGenerator[Json, None], keep: Keep) -> None:
        key = project, running.writer.body["id"]
        task = asyncio.create_task(self._run(key, running, answer, keep))
        self._running[key] = running, task

    def find(self, project: str, id: str) -> Running | None:
        found = self._running.get((project, id))
        return found[0] if found else None

    async def cancel(self, project: str, id: str) -> None:
        """Returns when the response is cancelled, or was over before."""
        if found := self._running.get((project, id)):
            running, task = found
            running.is_unwanted = True
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """What is under way has failed: the server stops."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(
        self, key: tuple[str, str], running: Running, answer: AsyncGenerator[Json, None], keep: Keep
    ) -> None:
        writer = running.writer
        try:
            async with aclosing(answer) as events:
                async for event in events:
                    running.add([event])
        except asyncio.CancelledError:
            if not writer.is_over:
                stopped = APIError("The server was stopped.", status=503, type="server_error")
                running.add(writer.cancelled() if running.is_unwanted else writer.failed(stopped))
        try:
            await keep(running.events)
        except Exception as error:
            log.error("a response could not be kept", **describe(error))
        finally:
            running.end()
            del self._running[key]
