"""Several answers on one worker thread: each gets one step of the network in turn, so that none waits for another.

A step is well under a millisecond for the sizes that run on a CPU, and a frame of sound lasts 80: taking turns serves
tens of voices. The event loop never computes; what it gets goes through a bounded box per answer, and an answer whose
reader is slow is passed over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Generator

from sensorium.engine.request import Event

MAX_WAITING = 64  # events that an answer may be ahead of its reader

Steps = Generator[Event | None, None, None]


class Job:
    """One answer under way. `steps` computes a little at each `next`, and gives an event when there is one."""

    def __init__(self, scheduler: Scheduler, steps: Steps) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._events: deque[Event] = deque()
        self._error: BaseException | None = None
        self._finished = False
        self._cancelled = False

    async def next(self) -> Event | None:
        """The next event, or None after the last one. Raises what the answer raised."""
        while not self._events:
            if self._error is not None:
                raise self._error
            if self._finished:
                return None
            self._filled.clear()
            await self._filled.wait()
        event = self._events.popleft()
        if len(self._events) == MAX_WAITING - 1:
            self._scheduler.wake()
        return event

    def cancel(self) -> None:
        """The work ends before its next step. Harmless after the end."""
        self._cancelled = True
        self._scheduler.wake()

    # What follows runs on the worker thread.

    @property
    def is_ready(self) -> bool:
        return self._cancelled or len(self._events) < MAX_WAITING

    def advance(self) -> bool:
        """Takes a step; says whether there is more to do."""
        if self._cancelled:
            return self.end(None)
        try:
            event = next(self._steps)
        except StopIteration:
            return self.end(None)
        except Exception as error:  # handed to whoever reads the answer; other answers go on
            return self.end(error)
        if event is not None:
            self._events.append(event)
            self._notify()
        return True

    def end(self, error: Exception | None) -> bool:
        self._steps.close()
        self._error = error
        self._finished = True
        self._notify()
        return False

    def _notify(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:  # the reader's loop has closed
            self._cancelled = True


class Scheduler:
    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sensorium-engine", daemon=True)
        self._thread.start()

    def submit(self, steps: Steps) -> Job:
        """Starts an answer, to be read in the running event loop. Raises RuntimeError after `close`."""
        job = Job(self, steps)
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job

    async def run(self, steps: Steps) -> AsyncGenerator[Event, None]:
        """The events of an answer. Closing this cancels it. Raises what `submit` and the answer raise."""
        job = self.submit(steps)
        try:
            while (event := await job.next()) is not None:
                yield event
        finally:
            job.cancel()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Ends all answers and the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._ready_jobs():
            ended = [job for job in jobs if not job.advance()]
            if ended:
                with self._changed:
                    self._jobs = [job for job in self._jobs if job not in ended]
        for job in self._jobs:
            job.end(RuntimeError("the engine was closed"))

    def _ready_jobs(self) -> list[Job]:
        """Waits for some; an empty list after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(job.is_ready for job in self._jobs))
            return [] if self._closed else [job for job in self._jobs if job.is_ready]
