"""Responses that are made while nobody waits: their events are kept as they come, for whoever asks for them.

How such a response ended is settled where it is kept, once: by this server, which makes it, or by another one of the
same database, at which it was cancelled or that took this server for gone. So its last events are told when they are
written down, and what others have ended is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import structlog

from sensorium.platform.presence import Presence
from sensorium.server.errors import APIError
from sensorium.server.logs import describe
from sensorium.server.responses_messages import Json
from sensorium.server.responses_reply import ResponseWriter, ending_event, server_sent

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
_RETRY_AFTER_S = 0.5  # at first, then longer and longer, up to
_RETRY_AT_MOST_S = 15.0


class Keeper(Protocol):
    """Where one response is kept."""

    async def keep(self, events: Sequence[Json]) -> bool:
        """Writes down how it ended, with all its events. False: it is gone, or was ended by another."""
        ...

    async def is_over(self) -> bool:
        """Whether it is gone, or ended."""
        ...

    async def ending(self) -> Json | None:
        """The response as it ended; None if it is gone."""
        ...


class Running:
    """A response under way. `events` only grows; `follow` gives them as they come."""

    def __init__(self, writer: ResponseWriter, events: Sequence[Json], keeper: Keeper) -> None:
        self.writer = writer
        self.events = list(events)
        self.keeper = keeper
        self.is_done = False
        self.is_unwanted = False
        self.was_ended = False  # by another server
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


@dataclass(frozen=True, kw_only=True)
class BackgroundConfig:
    max_running: int
    keep_within_s: float  # of its end a response is written down, or given up: nobody waits for it any more
    look_every_s: float = LOOK_EVERY_S


class Background:
    def __init__(self, config: BackgroundConfig, presence: Presence) -> None:
        self._config = config
        self._presence = presence
        self._running: dict[tuple[str, str], tuple[Running, asyncio.Task[None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._is_closing = False

    def check_room(self) -> None:
        if len(self._running) >= self._config.max_running:
            message = "The server is busy. Please try again."
            raise APIError(message, status=503, type="server_error", headers={"retry-after": "1"})

    def start(self, project: str, running: Running, answer: AsyncGenerator[Json, None]) -> None:
        key = project, running.writer.body["id"]
        self._running[key] = running, asyncio.create_task(self._run(key, running, answer))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def find(self, project: str, id: str) -> Running | None:
        found = self._running.get((project, id))
        return found[0] if found else None

    async def cancel(self, project: str, id: str) -> None:
        """Returns when the response is cancelled, or was over before."""
        if found := self._running.get((project, id)):
            running, task = found
            if not running.writer.is_over:
                running.is_unwanted = True
                task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """What is under way has failed: the server stops."""
        self._is_closing = True
        tasks = [task for _, task in self._running.values()]
        if self._looking is not None:
            tasks.append(self._looking)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, key: tuple[str, str], running: Running, answer: AsyncGenerator[Json, None]) -> None:
        writer = running.writer
        last: list[Json] = []
        try:
            async with aclosing(answer) as events:
                async for event in events:
                    if writer.is_over:
                        last.append(event)
                    else:
                        running.add([event])
        except asyncio.CancelledError:
            if not writer.is_over and not running.was_ended:
                stopped = APIError("The server was stopped.", status=503, type="server_error")
                last += writer.cancelled() if running.is_unwanted else writer.failed(stopped)
        try:
            running.add(await self._settled(running, last))
        except Exception as error:
            log.error("a response could not be kept", **describe(error))
        finally:
            running.end()
            del self._running[key]

    async def _settled(self, running: Running, last: list[Json]) -> list[Json]:
        """The events that a response ends with: `last`, unless it was ended by another."""
        if not running.was_ended and await self._kept(running.keeper, [*running.events, *last]):
            return last
        body = await running.keeper.ending()
        return ending_event(body, len(running.events)) if body is not None else []

    async def _kept(self, keeper: Keeper, events: Sequence[Json]) -> bool:
        """`Keeper.keep`, again and again while the database can't be reached. Raises what the last attempt does."""
        clock = asyncio.get_running_loop().time
        until_s, wait_s = clock() + self._config.keep_within_s, _RETRY_AFTER_S
        while True:
            try:
                return await keeper.keep(events)
            except Exception as error:
                if self._is_closing or clock() + wait_s > until_s:
                    raise
                log.warning("a response could not be kept yet", **describe(error))
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_AT_MOST_S)

    async def _look(self) -> None:
        """Shows the other servers that this one is there, and looks for what they have ended, while anything is under
        way."""
        while self._running:
            await asyncio.sleep(self._config.look_every_s)
            try:
                await self._presence.hold()
                for running, task in list(self._running.values()):
                    if not running.writer.is_over and await running.keeper.is_over() and not running.writer.is_over:
                        running.was_ended = True
                        task.cancel()
            except Exception as error:
                log.warning("the database can't be reached", **describe(error))
